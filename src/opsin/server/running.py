"""The server process: the socket, the loop, and a graceful stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.errors import ConfigError, RefusedError
from opsin.interrupts import Interrupted

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from opsin.server.app import Service

HEAD_S = 30.0


def check_packages() -> None:
    """Refuse to start without the packages of the server.

    Raises:
        ConfigError: they are not.
    """
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the server needs packages that are not installed", got=error.name, do="pip install 'opsin[serve]'"
        ) from error


def make_service(folders: Mapping[str, Path], *, host: str, token: str | None, **settings: Any) -> Service:
    """A service of the networks in these folders at `host`; settings as in `Service`.

    Raises:
        ConfigError: as `check_packages` and `Guard`.
        ArtifactError: an artefact is damaged, or incomplete.
    """
    check_packages()
    from opsin.server.app import Service  # here, because its packages are an extra
    from opsin.server.guard import Guard

    return Service(folders, guard=Guard(host=host, token=token), **settings)


def run(service: Service, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C or SIGTERM; requests in progress are finished.

    Args:
        service: the service.
        host, port: address to listen on; port 0 picks a free one.
        started: called with the address once requests are accepted.

    Raises:
        RefusedError: the address cannot be bound.
    """
    from opsin.server.app import make_app

    limit_s = service.limits.timeout_s
    # a second more at the end, so that a request that takes too long is told so
    run_app(make_app(service), host=host, port=port, started=started, timeout_s=ceil(limit_s) + 1, head_s=limit_s)


def run_app(
    app: Starlette,
    *,
    host: str,
    port: int,
    started: Callable[[str], None],
    timeout_s: int,
    head_s: float = HEAD_S,
) -> None:
    """Answer requests with an ASGI application, as `run`.

    Args:
        app: what answers.
        host, port, started: as in `run`.
        timeout_s: how long what is being answered at the end may take.
        head_s: how long the head of a request may take to arrive.

    Raises:
        RefusedError: the address cannot be taken.
    """
    import uvicorn

    with _listening(host, port) as listener:
        settings = settings_of(app, timeout_s=timeout_s, head_s=head_s)
        place = f"[{host}]" if ":" in host else host
        started(f"http://{place}:{listener.getsockname()[1]}")
        with contextlib.suppress(Interrupted):  # uvicorn re-raises the signal after a graceful stop
            uvicorn.Server(settings).run(sockets=[listener])


def settings_of(app: Starlette, *, timeout_s: int, head_s: float) -> uvicorn.Config:
    """How uvicorn runs `app`; `timeout_s` and `head_s` as in `run_app`."""
    import uvicorn

    from opsin.server.protocol import timed_protocol

    return uvicorn.Config(
        app,
        http=timed_protocol(head_s),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=timeout_s,
    )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        do = "name another --port, or --port 0 for a free one"
        raise RefusedError("the address cannot be bound", where=f"{host}:{port}", got=str(error), do=do) from error
