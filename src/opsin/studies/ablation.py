"""`opsin ablate`: the effect of each part of a recipe, one change at a time and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opsin.comparison.comparison import Comparison, Group, Pair, compare_runs
from opsin.config import require
from opsin.data.samples import Dataset
from opsin.errors import ConfigError, DivergedError
from opsin.io.files import write_json
from opsin.progress import Reporter
from opsin.report import write_report
from opsin.runs import RUNS_FOLDER, Run
from opsin.studies.changes import Change, parse_drops, parse_swaps, together
from opsin.studies.folder import StudyFolder, open_study, pinned, trained
from opsin.training.setup.resolving import resolve_settings
from opsin.types import JsonDict

BASE = "as given"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One variant against the baseline settings, on the same samples of val.

    `score`: mean over seeds of the main score; `low`, `high`: its 95 % interval. `difference`: minus that of the
    baseline, with `difference_low`, `difference_high` (95 %) and `p_adjusted` (over samples) and
    `p_seeds_adjusted`, raised by Holm's method for all variants; None for the baseline. `seconds`: of
    training, mean over seeds. `changed`: the changed settings. `diverged`: seeds whose training diverged.
    """

    name: str
    words: str
    runs: tuple[str, ...]
    score: float
    low: float
    high: float
    parameters: int
    seconds: float
    changed: Mapping[str, Any]
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_adjusted: float | None = None
    p_seeds_adjusted: float | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Result of an ablation: `rungs` begins with the baseline; `diverged` names variants without a score."""

    path: Path
    score: str
    split: str
    samples: int
    seeds: tuple[int, ...]
    rungs: tuple[Rung, ...]
    diverged: tuple[str, ...] = ()

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return {
            **asdict(self),
            "path": str(self.path),
            "study": str(self.path),
            "runs": [run for rung in self.rungs for run in rung.runs],
        }


def ablate(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    drop: Sequence[str] = (),
    swap: Sequence[str] = (),
    seeds: int = 3,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = False,
    command: str = "opsin.ablate(...)",
    **settings: Any,
) -> Ablation:
    """Train the baseline, each change alone, and all changes together, and compare on val.

    All runs share splits and seeds; test stays sealed.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        drop: parts to switch off, e.g. `["augment", "ema"]`; names may be joined by commas.
        swap: settings to change, e.g. `["optimizer=sgd"]`; `+` joins settings that change together.
        seeds: number of seeds per variant, starting at `seed`.
        root: folder of the catalogue's data sets.
        recipe: settings to start from: a TOML file, or the name of a built-in one.
        name: name of the study; an existing study with the same settings continues.
        out: folder in which the study's folder is made.
        quiet: no progress.
        command: the command line as typed, kept in the runs.
        settings: any field of the groups in `opsin.config`: settings to start from.

    Raises:
        RefusedError: settings, data, changes or the name are refused.
        InterruptedRunError: stopped by the user; the same call with `name` continues.
        DivergedError: the baseline diverges.
    """
    require(seeds >= 1, "seeds", seeds, "1 or more")
    report = Reporter(quiet=quiet)
    resolved = resolve_settings(data, root=root, recipe=recipe, settings=settings, report=report)
    base, config = pinned(resolved.config), resolved.config
    changes = [*parse_drops(drop, config), *parse_swaps(swap, config)]
    if not changes:
        raise ConfigError("no change was given", do="add --drop augment,ema or --swap optimizer=sgd")
    if len({change.name for change in changes}) < len(changes):
        raise ConfigError(
            "a change is given twice", got=", ".join(change.name for change in changes), do="leave one of them out"
        )
    variants = [Change(name=BASE, settings={}), *changes, *([together(changes)] if len(changes) > 1 else [])]
    numbers = tuple(range(config.train.seed, config.train.seed + seeds))
    about = {"data": resolved.dataset.fingerprint(), "settings": base, "seeds": list(numbers)}
    about |= {"changes": [asdict(change) for change in variants]}
    study = open_study("ablation", name=name, stem=f"ablate-{resolved.dataset.name}", out=out, about=about)
    runs, diverged = _trained(study, resolved.dataset, base, variants, numbers, report, root=root, command=command)
    found = compare_runs([run for each in runs.values() for run in each], against_first=True)
    result = _result(study.path, found, variants, runs, diverged, numbers)
    write_json(study.path / "ablation.json", result.to_dict())
    return result


def _trained(
    study: StudyFolder,
    data: Dataset,
    base: Mapping[str, Any],
    variants: Sequence[Change],
    seeds: Sequence[int],
    report: Reporter,
    *,
    root: Path | str | None,
    command: str,
) -> tuple[dict[int, list[Run]], list[str]]:
    """The runs of each variant by its number, seed by seed, so that an early stop leaves every variant started; and the
    names of variants that diverged, which have no runs."""
    runs: dict[int, list[Run]] = {number: [] for number in range(len(variants))}
    diverged: list[str] = []
    with report.bar("ablation", len(variants) * len(seeds)) as bar:
        for seed in seeds:
            for number, variant in enumerate(variants):
                if variant.name in diverged:
                    bar.advance()
                    continue
                layer = {**base, **variant.settings, "seed": seed}
                try:
                    run = trained(study.path, f"{number:02d}-seed-{seed}", data, layer, root=root, command=command)
                except DivergedError as error:
                    if number == 0:
                        raise
                    report.message(f"{variant.name}, seed {seed}: diverged: {error.what}")
                    diverged.append(variant.name)
                    runs.pop(number)
                    continue
                runs[number].append(run)
                write_report(run)
                bar.advance(note=variant.name)
    return runs, diverged


def _result(
    path: Path,
    found: Comparison,
    variants: Sequence[Change],
    runs: Mapping[int, Sequence[Run]],
    diverged: Sequence[str],
    seeds: tuple[int, ...],
) -> Ablation:
    pairs = {pair.b: pair for pair in found.pairs}
    groups = {group.runs[0]: group for group in found.groups}
    rungs = []
    for number, of in runs.items():
        group = groups[str(of[0].path)]
        rungs.append(_rung(variants[number], group, pairs.get(group.name) if number else None))
    return Ablation(
        path=path,
        score=found.score,
        split=found.split,
        samples=found.samples,
        seeds=seeds,
        rungs=tuple(rungs),
        diverged=tuple(diverged),
    )


def _rung(variant: Change, group: Group, pair: Pair | None) -> Rung:
    told: JsonDict = {}
    if pair is not None:
        better = "better" if pair.difference > 0 else "worse"
        clear = pair.verdict.startswith((f"{pair.a} is", f"{pair.b} is"))
        as_what = "" if pair.compared == "methods" else ", as trained networks"
        told = {
            "difference": pair.difference,
            "difference_low": pair.low,
            "difference_high": pair.high,
            "p_adjusted": pair.p_adjusted,
            "p_seeds_adjusted": pair.p_seeds_adjusted,
            "verdict": f"{better} than as given{as_what}" if clear else pair.verdict,
            "notes": pair.notes,
        }
    return Rung(
        name=variant.name,
        words=variant.words,
        runs=group.runs,
        score=group.score,
        low=group.low,
        high=group.high,
        parameters=group.parameters,
        seconds=group.seconds,
        changed=dict(variant.settings),
        **told,
    )
