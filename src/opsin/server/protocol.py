"""HTTP connections that may not be held open by a client that sends nothing, or half a request.

uvicorn limits the time between two requests; the head of a request, and the rest of a body that was refused, may take
for ever. The body of a request in progress is limited by the application.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REFUSAL = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class TimedProtocol(H11Protocol):
    """A connection that is closed when no whole request arrives in `timeout_s` seconds."""

    timeout_s: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.timeout_s, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        if self._is_answering():
            self._stop_clock()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.timeout_s, self._expire)

    def on_response_complete(self) -> None:
        """Called when a response was sent: the rest of a refused body, and the next head, have their time."""
        super().on_response_complete()
        self._stop_clock()
        if not self._is_answering() and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.timeout_s, self._expire)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._is_answering() or self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:  # half a head
            self.transport.write(REFUSAL)
        self.transport.close()


def timed_protocol(timeout_s: float) -> type[TimedProtocol]:
    """The protocol with a time limit, as uvicorn takes it: a class."""
    return type("TimedProtocol", (TimedProtocol,), {"timeout_s": timeout_s})
