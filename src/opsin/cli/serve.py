"""`opsin serve`: trained networks that answer HTTP requests."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import WHOLE, DeviceOption, JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_note


def serve(
    run: str,
    /,
    *more: str,
    host: Annotated[str, Parameter(help="Address to listen on; others than this machine's need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, WHOLE, Parameter(help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        Parameter(env_var="OPSIN_TOKEN", help="Requests must carry `Authorization: Bearer TOKEN`."),
    ] = None,
    max_megabytes: Annotated[int, WHOLE, Parameter(help="Largest body of a request (else 413).")] = 32,
    timeout: Annotated[float, Parameter(help="Seconds from a request to its answer (else 408).")] = 30.0,
    max_requests: Annotated[int, WHOLE, Parameter(help="Requests at the same time (else 429).")] = 64,
    openapi: Annotated[bool, Parameter(negative="", help="Print the description in OpenAPI and end.")] = False,
    runs: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    device: DeviceOption = "auto",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Answer HTTP requests: POST /predict, GET /health, /metrics, /openapi.json.

    Stops on Ctrl-C or SIGTERM, after what it has begun is answered.

    Parameters
    ----------
    run
        Run by path or name, or a model folder.
    more
        Further ones: a request names one by `?model=NAME`.
    """
    from opsin.api.deployment import service_of
    from opsin.server.limits import Limits
    from opsin.server.running import run as answer

    limits = Limits(max_bytes=max_megabytes * 1_000_000, timeout_s=timeout, max_requests=max_requests)
    service = service_of(run, *more, host=host, token=token, device=device, limits=limits, out=runs)
    if openapi:
        service.stop()
        print_json(service.description)
        return 0

    def started(address: str) -> None:
        if json_:
            print_json({"address": address, "models": list(service.batchers)})
        elif not quiet:
            print_note(f"answering at {address}/predict; Ctrl-C ends")

    answer(service, host=host, port=port, started=started)
    return 0
