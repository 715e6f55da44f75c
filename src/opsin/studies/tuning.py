"""`opsin tune`: a search over settings on val, and a comparison of the winner with the given settings.

space -> trials, each a run (`search.py`) -> the best and the given settings, with fresh seeds -> compared
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opsin.config import require
from opsin.data.samples import Dataset
from opsin.errors import CheckFailedError, ConfigError, DivergedError, RefusedError
from opsin.io.files import remove_folder, write_json
from opsin.progress import Bar, Reporter, duration
from opsin.runs import RUNS_FOLDER, Run
from opsin.studies.default_spaces import Base, default_space, named_space
from opsin.studies.folder import StudyFolder, finished, open_study, pinned, trained
from opsin.studies.gain import NOT_BEATEN, NOT_DISTINGUISHED, NOT_YET, Gain, Outcome, compare_with_given
from opsin.studies.locks import FileLock
from opsin.studies.recipes import write_recipe
from opsin.studies.search import Search, Trial, best_of, require_optuna
from opsin.studies.space import Parameter, given_values, read_space, settings_for, text_of_value, with_given
from opsin.studies.tune_page import write_tune_page
from opsin.tasks import get_task
from opsin.training.engine.hooks import Callback, EpochContext
from opsin.training.setup.preparing import plain, resolve_settings

TRIALS = 40
"""Default number of trials without minutes."""
LARGEST_RESERVE = 0.5
"""Largest share of the budget reserved for the comparison."""
MARGIN = 1.15
"""Factor of the time reserved for the comparison, over its trials' training time."""


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """Result of a search.

    Attributes:
        path: its folder.
        score: name of the score on val by which trials were chosen.
        trials: all of them.
        best: the winner.
        settings: the settings the winner changes, as one flat layer.
        gain: None where the given settings won or diverge, or where another process will compare.
        verdict: as text.
        importances: share of the variance of scores that each parameter explains.
        run: the winner's run.
        runs: those of the comparison.
        recipe: the file that `train --recipe` takes.
        page: the report.
    """

    path: Path
    score: str
    trials: tuple[Trial, ...]
    best: Trial
    settings: Mapping[str, Any]
    gain: Gain | None
    verdict: str
    importances: Mapping[str, float]
    run: Run
    runs: tuple[Run, ...]
    recipe: Path
    page: Path

    @property
    def distinguished(self) -> bool:
        """Whether winner and given settings can be distinguished."""
        return self.gain is not None and not self.verdict.startswith(NOT_DISTINGUISHED)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        states = [trial.state for trial in self.trials]
        return {
            "study": str(self.path),
            "score": self.score,
            "trials": {"begun": len(states), **{name: states.count(name) for name in dict.fromkeys(states)}},
            "best": {"trial": self.best.number, "score": self.best.score, "values": dict(self.best.values)},
            "settings": dict(self.settings),
            "gain": None if self.gain is None else asdict(self.gain),
            "verdict": self.verdict,
            "importances": dict(self.importances),
            "run": str(self.run.path),
            "runs": [str(run.path) for run in self.runs],
            "file": str(self.recipe),
            "report": str(self.page),
        }


def tune(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    trials: int | None = None,
    minutes: float | None = None,
    space: Path | str | None = None,
    search: str | None = None,
    seeds: int = 3,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    file: Path | str | None = None,
    quiet: bool = False,
    command: str = "opsin.tune(...)",
    began: float | None = None,
    **settings: Any,
) -> TuneResult:
    """Search for settings that score better on val, and compare the best with the given ones.

    Trials are chosen by val alone; test stays sealed. The study is on disk: a killed process loses nothing, and
    several may work on it at once, each with the same `name`.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        trials: total trials of the study; 40 by default without `minutes`.
        minutes: budget of this call, final comparison included.
        space: a TOML file of settings with ranges or choices (`studies/space.py`).
        search: parameters by name, with their default ranges, e.g. `lr,batch_size`; by default a space for task and
            network.
        seeds: fresh seeds for the comparison; fewer if `minutes` runs out.
        root: folder of the catalogue's data sets.
        recipe: settings to start from: a TOML file, or the name of a built-in one.
        name: name of the study; an existing study with the same settings continues.
        out: folder in which the study's folder is made.
        file: the recipe to write; by default `best.toml` in the study's folder.
        quiet: no progress.
        command: the command line as typed, stored in runs and recipe.
        began: value of `time.monotonic` from which `minutes` count; by default now.
        settings: any field of the groups in `opsin.config`: settings to start from.

    Raises:
        RefusedError: settings, data, space or the name are invalid; or Optuna is not installed.
        InterruptedRunError: stopped by the user; the same call with `name` continues.
        CheckFailedError: no trial was completed.
    """
    require_optuna()
    _check_request(trials, minutes, space, search, seeds)
    clock = _Clock(time.monotonic() if began is None else began, minutes)
    report = Reporter(quiet=quiet)
    resolved = resolve_settings(data, root=root, recipe=recipe, settings=settings, report=report)
    base = Base(dataset=resolved.dataset, config=resolved.config)
    study, parts = _study(base, name=name, out=out, space=space, search=search)
    work = _Work(study, base, parts, root=root, command=command, report=report, clock=clock)
    limit = TRIALS if trials is None and minutes is None else trials
    work.search_until(limit, seeds)
    best = best_of(work.search.trials())
    if best is None:
        do = f"see the logs of the trials in {study.path}; a smaller space may help"
        raise CheckFailedError("no trial was completed", where=study.path, do=do)
    found = _compared(work, best, seeds)
    return _result(work, best, found, file)


def _check_request(
    trials: int | None, minutes: float | None, space: Path | str | None, search: str | None, seeds: int
) -> None:
    require(trials is None or trials >= 1, "trials", trials, "1 or more")
    require(minutes is None or minutes > 0, "minutes", minutes, "more than 0")
    require(seeds >= 1, "seeds", seeds, "1 or more")
    if space is not None and search is not None:
        raise ConfigError("two search spaces were given", got=f"{space} and {search}", do="give --space or --search")


class _Clock:
    """The budget of this call, in wall-clock time."""

    def __init__(self, began: float, minutes: float | None) -> None:
        self.began = began
        self.seconds = None if minutes is None else 60 * minutes

    def left(self) -> float:
        """Seconds that are left; infinity without a budget."""
        return math.inf if self.seconds is None else self.began + self.seconds - time.monotonic()


def _study(
    base: Base, *, name: str | None, out: Path | str, space: Path | str | None, search: str | None
) -> tuple[StudyFolder, tuple[Parameter, ...]]:
    """The study's folder, and what it searches."""
    if space is not None:
        parts = read_space(space, base.config)
    elif search is not None:
        parts = named_space(search, base)
    else:
        parts = default_space(base)
    parts = with_given(parts, base.settings)
    about = {
        "data": base.dataset.fingerprint(),
        "settings": pinned(base.config),
        "space": [asdict(part) for part in parts],
    }
    stem = f"tune-{base.dataset.name}-{base.config.model.model}"
    return open_study("search", name=name, stem=stem, out=out, about=about), parts


class _Judge(Callback):
    """Reports each epoch to the search; an exception of the search ends the trial."""

    def __init__(self, watch: Callable[[int, Mapping[str, float]], None]) -> None:
        self._watch = watch

    def on_epoch(self, epoch: EpochContext) -> None:
        self._watch(epoch.epoch, epoch.val)


class _Cut(Exception):  # noqa: N818
    """Ends the training of a trial; `why` is stored with it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Work:
    """The work of this process on a study."""

    def __init__(
        self,
        study: StudyFolder,
        base: Base,
        space: tuple[Parameter, ...],
        *,
        root: Path | str | None,
        command: str,
        report: Reporter,
        clock: _Clock,
    ) -> None:
        self.study, self.base, self.space = study, base, space
        self.root, self.command, self.report, self.clock = root, command, report, clock
        self.given = pinned(base.config)
        self.task = get_task(base.dataset.task)
        first = given_values(space, base.settings)
        config = base.config.train
        self.search = Search(study.path, space, first=first, seed=config.seed, epochs=config.epochs)

    def settings_of(self, trial: Trial) -> dict[str, Any]:
        """All settings of a trial."""
        return self.given | settings_for(self.space, trial.values)

    def train(self, folder: str, name: str, settings: Mapping[str, Any], *, callbacks: Sequence[Callback] = ()) -> Run:
        """A run of this study."""
        place = self.study.path / folder
        return trained(
            place, name, self.base.dataset, settings, root=self.root, command=self.command, callbacks=callbacks
        )

    def search_until(self, limit: int | None, seeds: int) -> None:
        """Work on trials until there are `limit`, or only the time for the comparison is left."""
        with self.report.bar("tuning", limit or TRIALS, budget_s=self._search_seconds(seeds)) as bar:
            while self._has_time(seeds):
                bar.at(self._ended())
                with self.search.claimed(limit) as trial:
                    if trial is None:
                        return
                    self._work_on(trial, bar, seeds)

    def _search_seconds(self, seeds: int) -> float | None:
        left = self.clock.left() - self._reserve(seeds)
        return None if math.isinf(left) else max(left, 0.0)

    def _reserve(self, seeds: int) -> float:
        """Seconds reserved for the comparison: trainings of both sides, at the duration of their trials."""
        if self.clock.seconds is None:
            return 0.0
        ended = self.search.trials()
        best, first = best_of(ended), next((trial for trial in ended if trial.number == 0), None)
        if best is None or first is None or math.isnan(first.seconds):
            return LARGEST_RESERVE * self.clock.seconds
        both = first.seconds + best.seconds
        return min(MARGIN * seeds * both, LARGEST_RESERVE * self.clock.seconds)

    def _has_time(self, seeds: int) -> bool:
        """Whether another trial may start: the first always may."""
        ended = [trial for trial in self.search.trials() if trial.state == "complete"]
        return not ended or self.clock.left() > self._reserve(seeds)

    def _ended(self) -> int:
        return sum(trial.state != "running" for trial in self.search.trials())

    def _work_on(self, trial: Any, bar: Bar, seeds: int) -> None:
        name, number = f"trial-{trial.number:04d}", trial.number
        values = dict(trial.params)
        settings = self.given | settings_for(self.space, values)
        settings["preflight"] = settings["preflight"] and number == 0
        began = time.monotonic()

        def watch(epoch: int, val: Mapping[str, float]) -> None:
            pruned = self.search.report(trial, epoch, val.get(self.task.main_score, math.nan))
            bar.at(bar.done, note=f"trial {number}, epoch {epoch}")
            if pruned:
                raise _Cut(f"pruned after epoch {epoch}: below the median of earlier trials")
            if number and self.clock.left() < self._reserve(seeds):
                raise _Cut(f"stopped after epoch {epoch}: the time for the search was used up")

        try:
            run = self.train("trials", name, settings, callbacks=[_Judge(watch)])
        except _Cut as cut:
            self._end(trial, "pruned", bar, ended=cut.why, seconds=time.monotonic() - began)
        except DivergedError as error:
            self._end(trial, "pruned", bar, ended=f"diverged: {error.what}", seconds=time.monotonic() - began)
        except RefusedError as error:
            self._end(trial, "failed", bar, ended=error.what, seconds=time.monotonic() - began)
            if number == 0:
                raise
        else:
            score = run.scores["val"][self.task.main_score].value
            seconds = max(time.monotonic() - began, run.summary.seconds or 0.0)
            parameters = run.summary.parameters
            self._end(trial, "complete", bar, score=score, seconds=seconds, parameters=parameters)
        remove_folder(self.study.path / "trials" / name / "checkpoints")

    def _end(self, trial: Any, state: str, bar: Bar, **about: Any) -> None:
        self.search.tell(trial, state, **about)
        best = best_of(self.search.trials())
        bar.at(self._ended())
        score = f"{about['score']:.4f}" if "score" in about else about["ended"]
        so_far = "" if best is None else f"   best {best.score:.4f} (trial {best.number})"
        self.report.message(f"trial {trial.number:>3}  {score}  {duration(about['seconds'])}{so_far}")


def _compared(work: _Work, best: Trial, seeds: int) -> Outcome:
    """The winner against the given settings; of several processes on one study, the last one compares."""
    if best.number == 0:
        return Outcome(gain=None, verdict=NOT_BEATEN)
    lock = FileLock(work.study.path / "locks" / "comparison")
    if work.search.others_at_work() or not lock.take(wait=False):
        return Outcome(gain=None, verdict=NOT_YET)
    first = work.search.trials()[0]
    cost = MARGIN * (first.seconds + best.seconds)
    try:
        return compare_with_given(
            lambda name, settings: work.train("comparison", name, settings),
            *((f"trial-{trial.number:04d}", work.settings_of(trial)) for trial in (first, best)),
            seeds=seeds,
            first_seed=work.base.config.train.seed,
            has_time=lambda: work.clock.left() > cost,
            report=work.report,
        )
    finally:
        lock.drop()


def _result(work: _Work, best: Trial, found: Outcome, file: Path | str | None) -> TuneResult:
    path, trials = work.study.path, tuple(work.search.trials())
    recipe = Path(file) if file is not None else path / "best.toml"
    _write_winner(work, recipe, best, found)
    run = finished(path / "trials" / f"trial-{best.number:04d}")
    assert run is not None  # a complete trial is a finished run
    result = TuneResult(
        path=path,
        score=work.task.main_score,
        trials=trials,
        best=best,
        settings=_changed(work, best),
        gain=found.gain,
        verdict=found.verdict,
        importances=work.search.importances(),
        run=run,
        runs=found.runs,
        recipe=recipe,
        page=path / "report.html",
    )
    write_json(path / "result.json", result.to_dict())
    dataset, network = work.base.dataset, work.base.config.model.model
    write_tune_page(result, work.space, task=dataset.task, data=dataset.name, network=network)
    return result


def _changed(work: _Work, best: Trial) -> dict[str, Any]:
    before = work.base.settings
    return {key: value for key, value in settings_for(work.space, best.values).items() if plain(before[key]) != value}


def _write_winner(work: _Work, recipe: Path, best: Trial, found: Outcome) -> None:
    told = found.verdict if found.gain is None else f"{found.verdict}: {found.gain}"
    changed = ", ".join(f"{name} {text_of_value(value)}" for name, value in best.values.items())
    comments = [
        f"The best of {len(work.search.trials())} trials by {work.task.main_score} on val: {best.score:.4f}.",
        f"command: {work.command}",
        f"study: {work.study.path}, trial {best.number}, {duration(best.seconds)}: {changed}",
        told,
    ]
    write_recipe(recipe, work.settings_of(best), comments)
