"""Who may ask: the token, and on the loopback address only programs of this machine, not web pages of others.

A web page that a browser on this machine shows could ask a loopback server by a name of its own that points here (DNS
rebinding), or directly; the Host and the Origin of a request tell.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request

from opsin.errors import ConfigError
from opsin.server.refusal import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Checks each request.

    Args:
        host: address that the server listens on.
        token: that requests must carry; None asks for none.

    Raises:
        ConfigError: an address that others reach, without a token.
    """

    host: str
    token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < 8 or not self.token.isascii()):
            raise ConfigError("a token that is too short, or not ASCII", where="--token", expected="8 letters or more")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                "other machines reach this address, so a token is needed",
                where="--host",
                got=self.host,
                do="add --token SECRET (or set OPSIN_TOKEN), or leave --host out",
            )

    def check(self, request: Request) -> None:
        """Refuse a request that may not ask.

        Raises:
            RequestError: 401 without the token, 403 by another host or origin.
        """
        if self.token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise RequestError(
                    401,
                    "a token is needed",
                    expected="Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return
        host = _host_of(f"//{request.headers.get('host', '')}")
        if host not in LOOPBACK_NAMES | {self.host}:
            raise RequestError(403, "another host is asked for", got=host, expected=self.host)
        origin = request.headers.get("origin")
        if origin is not None and _host_of(origin) not in LOOPBACK_NAMES:
            raise RequestError(403, "web pages of other hosts may not ask", got=origin)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
