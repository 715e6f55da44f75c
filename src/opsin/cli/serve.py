"""`opsin serve`: serve trained networks over HTTP."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import WHOLE, DeviceOption, JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_note


def serve(
    run: str,
    /,
    *more: str,
    host: Annotated[str, Parameter(help="Address to listen on; any but the loopback address needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, WHOLE, Parameter(help="Port; 0 picks a free one.")] = 8000,
    token: Annotated[
        str | None,
        Parameter(env_var="OPSIN_TOKEN", help="Require the header `Authorization: Bearer TOKEN`."),
    ] = None,
    max_megabytes: Annotated[int, WHOLE, Parameter(help="Largest request body in MB (above: status 413).")] = 32,
    timeout: Annotated[float, Parameter(help="Seconds from a request to its response (above: status 408).")] = 30.0,
    max_requests: Annotated[int, WHOLE, Parameter(help="Concurrent requests (above: status 429).")] = 64,
    openapi: Annotated[bool, Parameter(negative="", help="Print the OpenAPI description and exit.")] = False,
    runs: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    device: DeviceOption = "auto",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Serve networks over HTTP: POST /predict, /explain, GET /health, /metrics, /openapi.json.

    A run that is trained again is loaded and takes over. Stops on Ctrl-C or SIGTERM, after requests in progress are
    answered.

    Parameters
    ----------
    run
        Run by path or name, or a model folder.
    more
        Further runs; a request selects one by `?model=NAME`.
    """
    from opsin.api.deployment import service_of
    from opsin.progress import Reporter
    from opsin.server.limits import Limits
    from opsin.server.running import run as answer

    limits = Limits(max_bytes=max_megabytes * 1_000_000, timeout_s=timeout, max_requests=max_requests)
    report = Reporter(quiet=quiet)
    service = service_of(run, *more, host=host, token=token, device=device, limits=limits, out=runs, report=report)
    if openapi:
        service.stop()
        print_json(service.description)
        return 0

    def started(address: str) -> None:
        if json_:
            print_json({"address": address, "models": list(service.models)})
        elif not quiet:
            print_note(f"serving at {address}/predict; Ctrl-C stops")

    answer(service, host=host, port=port, started=started)
    return 0
