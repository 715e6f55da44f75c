"""The doctor: every check over one run, its findings kept in `diagnosis.json`.

run folder ── case ──┐
network ──── facts ──┴─ checks ── findings ── opsin doctor, report
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opsin.diagnosis.case import Case, Facts, case_of
from opsin.diagnosis.curve_checks import (
    check_best_at_the_end,
    check_best_far_from_the_end,
    check_plateau,
    check_rate_too_high,
    check_rate_too_low,
)
from opsin.diagnosis.finding import Finding, by_severity, finding_from_json
from opsin.diagnosis.network_checks import check_batch_norm, check_dead_units, check_input, check_leaks
from opsin.diagnosis.score_checks import (
    check_class_drags,
    check_majority_class,
    check_overfitting,
    check_underfitting,
    check_val_against_test,
    check_val_too_small,
    check_val_unlike_train,
)
from opsin.diagnosis.stamp import network_stamp
from opsin.errors import OpsinError, RunError
from opsin.progress import QUIET, Reporter
from opsin.runs import Run, RunWriter, read_extra
from opsin.types import JsonDict

FILE = "diagnosis.json"
Check = Callable[[Case], Finding | None]

CHECKS: Mapping[str, Check] = {
    "leak": check_leaks,
    "input-unlike-backbone": check_input,
    "majority-class": check_majority_class,
    "rate-too-high": check_rate_too_high,
    "rate-too-low": check_rate_too_low,
    "plateau": check_plateau,
    "underfitting": check_underfitting,
    "overfitting": check_overfitting,
    "best-at-the-end": check_best_at_the_end,
    "best-far-from-the-end": check_best_far_from_the_end,
    "class-drags": check_class_drags,
    "val-too-small": check_val_too_small,
    "val-far-from-test": check_val_against_test,
    "val-unlike-train": check_val_unlike_train,
    "dead-units": check_dead_units,
    "batch-norm": check_batch_norm,
}
"""Every check by its name. Their accuracy: `benchmarks/doctor.py`, docs/results.md."""
NEED_FACTS = ("underfitting", "overfitting", "val-unlike-train", "dead-units", "batch-norm")
"""Checks that find nothing, or less, without measurements of the network."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The findings of the doctor.

    `network`: stamp of the run's network at that time. `checks`: names of those made. `not_made`: the reason why
    others were not, by name. `findings`: most severe first.
    """

    run: str
    network: str
    checks: tuple[str, ...]
    not_made: Mapping[str, str]
    findings: tuple[Finding, ...]

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        return {
            "run": self.run,
            "network": self.network,
            "checks": list(self.checks),
            "not_made": dict(self.not_made),
            "findings": [finding.to_json() for finding in self.findings],
        }


def diagnose(
    run: Run | Path | str,
    *,
    measure: bool = True,
    root: str | None = None,
    device: str = "auto",
    report: Reporter = QUIET,
) -> Diagnosis:
    """Diagnose a run, with evidence and remedy; stored in the run if the network was measured too.

    The test split is not opened: its scores are used if it has been opened before.

    Args:
        run: the run, its folder or its name.
        measure: run the network over up to 1,000 images of train and val; otherwise only files of the run are read.
        root: folder of the catalogue's data sets; None takes the run's.
        device: device of the network.
        report: receives progress, and reasons why something could not be measured.

    Raises:
        RunError: no such run, it has no epoch yet, or a file of it is damaged.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    if not opened.epochs and not opened.scores and not any(event.event == "diverged" for event in opened.log):
        raise RunError("the run has no epoch yet", where=opened.path, do="wait for its first epoch")
    facts, reason = _facts(opened, root, device, report) if measure else (None, "the network was not measured")
    found = examine(case_of(opened, facts), run=opened.name, network=network_stamp(opened), reason=reason)
    if measure:
        RunWriter(opened).extra(FILE, found.to_json())
    return found


def examine(case: Case, *, run: str, network: str = "", reason: str = "the network was not measured") -> Diagnosis:
    """Every check over a case; `reason` says why there are no facts, where there are none."""
    skipped = {} if case.facts is not None else dict.fromkeys(NEED_FACTS, reason)
    found = [check(case) for check in CHECKS.values()]
    return Diagnosis(
        run=run,
        network=network,
        checks=tuple(name for name in CHECKS if name not in skipped),
        not_made=skipped,
        findings=by_severity([finding for finding in found if finding is not None]),
    )


def stored_diagnosis(run: Run) -> Diagnosis | None:
    """The stored diagnosis of a run; None if there is none since its last training.

    Raises:
        RunError: the file is damaged.
    """
    entry = read_extra(run.path, FILE)
    if not entry:
        return None
    try:
        found = Diagnosis(
            run=str(entry["run"]),
            network=str(entry["network"]),
            checks=tuple(entry["checks"]),
            not_made=dict(entry["not_made"]),
            findings=tuple(finding_from_json(finding) for finding in entry["findings"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        where, do = run.path / FILE, "`opsin doctor RUN` writes it again"
        raise RunError("a file of the run is damaged", where=where, got=repr(error), do=do) from error
    return found if found.network == network_stamp(run) else None


def _facts(run: Run, root: str | None, device: str, report: Reporter) -> tuple[Facts | None, str]:
    """Measurements of the network, or why there are none."""
    if not run.model_folder.is_dir():
        return None, "the run has not finished: there is no network"
    from opsin.diagnosis.facts import measure_facts  # here, because reading a run should not import torch

    try:
        return measure_facts(run, root=root, device=device, report=report), ""
    except OpsinError as error:
        report.message(f"the network was not measured: {error.what}")
        return None, error.what
