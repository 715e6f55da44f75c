"""Access control: the token, and on the loopback address only programs of this machine, no web pages of other hosts.

A web page in a browser on this machine could reach a loopback server by a host name that resolves to it (DNS
rebinding), or directly; the Host and Origin headers reveal both.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass, field

from starlette.requests import Request

from opsin.errors import ConfigError
from opsin.server.refusal import RequestError

PLACE = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Checks each request.

    Args:
        host: address the server listens on.
        token: bearer token that requests must carry; None requires none.

    Raises:
        ConfigError: an address other machines can reach, without a token.
    """

    host: str
    token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < 8 or not self.token.isascii()):
            raise ConfigError("the token is too short, or not ASCII", where="--token", expected="8 characters or more")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                "other machines can reach this address, so a token is required",
                where="--host",
                got=self.host,
                do="add --token SECRET (or set OPSIN_TOKEN), or leave --host out",
            )

    def check(self, request: Request) -> None:
        """Refuse a request without access.

        Raises:
            RequestError: 401 without the token, 403 from another host or origin.
        """
        if self.token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise RequestError(
                    401,
                    "a token is required",
                    expected="Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return
        host = host_of(request.headers.get("host", ""))
        if host not in LOOPBACK_NAMES | {self.host}:
            raise RequestError(403, "the Host header names another host", got=host, expected=self.host)
        origin = request.headers.get("origin")
        if origin is not None and host_of(origin.partition("://")[2]) not in LOOPBACK_NAMES:
            raise RequestError(
                403,
                "requests from web pages of other hosts are refused",
                got=origin,
                do="start the server with a token",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(place: str) -> str | None:
    """The name in HOST or HOST:PORT, in small letters; None for anything else.

    Nothing is parsed as an address: what stands before an @ or behind a # is not what a browser connects to.

    >>> host_of("[::1]:8200"), host_of("LOCALHOST"), host_of("localhost@evil"), host_of("evil/#localhost")
    ('::1', 'localhost', None, None)
    """
    found = PLACE.fullmatch(place)
    return found["name"].strip("[]").lower() if found else None
