"""`opsin doctor`: what is wrong with a run, with evidence and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.options import DeviceOption, JsonFlag, OutOption, QuietFlag, RootOption, SeedOption
from opsin.cli.output import print_json, print_line, print_note

if TYPE_CHECKING:
    from opsin.diagnosis.doctor import Diagnosis


def doctor(
    run: Annotated[str, Parameter(help="Name of the run in `--runs`, or its folder.")],
    /,
    *,
    measure: Annotated[
        bool, Parameter(negative="--no-measure", help="Also run the network on images of train and val.")
    ] = True,
    root: RootOption = None,
    out: OutOption = "runs",
    device: DeviceOption = "auto",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Diagnose a run: findings with evidence and remedy, stored in the run and shown in its report."""
    from opsin.diagnosis.doctor import diagnose
    from opsin.progress import Reporter
    from opsin.report import write_report
    from opsin.runs import Run

    opened = Run.open(run, out=out)
    found = diagnose(opened, measure=measure, root=root, device=device, report=Reporter(quiet=quiet))
    if measure and (opened.path / "report.html").is_file():
        write_report(opened)
    if json_:
        print_json(found.to_json())
    else:
        _print(found)
    if not quiet:
        for name, reason in found.not_made.items():
            print_note(f"not checked: {name}: {reason}")
    return 0


def _print(found: Diagnosis) -> None:
    for finding in found.findings:
        print_line(f"{finding.severity}: {finding.check}: {finding.evidence}")
        print_line(f"  do: {finding.remedy}")
    count = len(found.findings)
    print_line(f"{found.run}: {count or 'no'} finding{'' if count == 1 else 's'}, {len(found.checks)} checks")
