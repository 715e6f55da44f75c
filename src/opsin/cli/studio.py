"""`opsin studio`: the web app on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, OutOption, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line, print_note


def studio(
    *data: str,
    host: Annotated[str, Parameter(help="Address to listen on; for others than this machine's a token is made.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, WHOLE, Parameter(help="Port; 0 takes a free one.")] = 8200,
    token: Annotated[
        str | None, Parameter(env_var="OPSIN_TOKEN", help="What a browser must show once, in the address.")
    ] = None,
    runs: OutOption = "runs",
    folder: Annotated[Path, Parameter(help="Where uploaded pictures and outputs of trainings lie.")] = Path("studio"),
    labs: Annotated[Path, Parameter(help="Folder of labs.")] = Path("labs"),
    root: RootOption = None,
    browser: Annotated[bool, Parameter(help="Open the page in the browser of this machine.")] = True,
    pages: Annotated[bool, Parameter(negative="", help="Print the addresses of the pages and end.")] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Open the studio: a web app on this machine, to look at data, train, see where a network fails, and try it.

    No account, no network. Stops on Ctrl-C; trainings that it has begun write a checkpoint first.

    Parameters
    ----------
    data
        Catalogue names, folders or files that are shown beside the embedded sets.
    """
    from opsin.server.running import check_packages

    check_packages()
    from opsin.studio.running import addresses, run

    if pages:
        found = addresses()
        if json_:
            print_json({"pages": found})
        else:
            print_line("\n".join(found))
        return 0

    def started(address: str) -> None:
        if json_:
            print_json({"address": address})
        elif not quiet:
            print_note(f"the studio is at {address}; Ctrl-C ends")
        if browser:
            import webbrowser

            webbrowser.open(address)

    run(data, host=host, port=port, token=token, runs=Path(runs), folder=folder, labs=labs, root=root, started=started)
    return 0
