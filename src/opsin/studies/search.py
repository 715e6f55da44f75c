"""A search on disk: trials in Optuna's journal, claimed by any process, each of them once.

    claim ──> an abandoned trial, or a new one ──> training, reported epoch by epoch ──> its score

A process holds a lock on each trial that it works on, and the lock ends with the process. So a trial that the journal
has as running but whose lock is free was killed: it continues under its number, from its run's checkpoint, and none is
lost or counted twice. What is tried next is a function of the seed and of the trials before it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.errors import ConfigError
from opsin.studies.locks import FileLock, JournalLock, held, repair_journal
from opsin.studies.space import Parameter, Range, Value

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial as Asked

JOURNAL = "journal.log"
STUDY = "opsin"
RANDOM_TRIALS = 8
"""Number of random trials before the sampler uses their results."""
UNPRUNED_TRIALS = 4
"""Number of complete trials before pruning begins."""
UNPRUNED_SHARE = 0.25
"""Share of the epochs in which no trial is pruned: rates that start slowly may end well."""
MOST_ATTEMPTS = 5
"""A trial killed this often without an epoch in between is not tried again."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial as recorded in the journal.

    `state`: complete, pruned, failed or running. `score`: main score on val; NaN where there is none. `curve`: score
    of each epoch by its number. `seconds`: of training. `about`: further values, e.g. why it ended.
    """

    number: int
    state: str
    values: Mapping[str, Value]
    score: float
    curve: Mapping[int, float] = field(default_factory=dict)
    seconds: float = math.nan
    about: Mapping[str, Any] = field(default_factory=dict)


def require_optuna() -> Any:
    """The package optuna.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("a search needs the package Optuna", do="pip install 'opsin[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """The trials of a study.

    Args:
        folder: folder of the study, with the journal and the locks.
        space: the search space.
        first: values of the first trial, those of the given settings.
        seed: seed of the sampler.
        epochs: epochs of a trial.
    """

    def __init__(
        self, folder: Path, space: Sequence[Parameter], *, first: Mapping[str, Value], seed: int, epochs: int
    ) -> None:
        self._optuna = require_optuna()
        self.folder, self.space, self.first, self.seed = folder, tuple(space), dict(first), seed
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        with held(self._gate):
            self.study = self._opened(epochs)

    @property
    def _gate(self) -> Path:
        """The lock file that a process holds while it claims a trial."""
        return self._locks / "claim"

    def _opened(self, epochs: int) -> Study:
        journal, optuna = self.folder / JOURNAL, self._optuna
        repair_journal(journal)
        backend = optuna.storages.journal.JournalFileBackend(str(journal), lock_obj=JournalLock(journal))
        storage = optuna.storages.JournalStorage(backend)
        unjudged = max(1, int(epochs * UNPRUNED_SHARE))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=unjudged + 1)
        try:
            study: Study = optuna.load_study(storage=storage, study_name=STUDY, pruner=pruner)
        except KeyError:  # a new one
            study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", pruner=pruner)
        return study

    @contextmanager
    def claimed(self, limit: int | None) -> Iterator[Asked | None]:
        """A trial to work on, exclusively; None where there are `limit` already.

        Its values are in `params`; it ends by `tell`, or is offered to the next process.
        """
        lock, trial = FileLock(self._locks / "none"), None
        with held(self._gate):
            for lock, frozen in self._abandoned():
                trial = self._taken_up(frozen)
                if trial is not None:
                    break
                lock.drop()
            else:
                if limit is None or self._begun() < limit:
                    trial, lock = self._new()
        try:
            yield trial
        finally:
            lock.drop()

    def _begun(self) -> int:
        """Number of started trials, without queued ones."""
        trials = self.study.get_trials(deepcopy=False)
        return sum(frozen.state != self._optuna.trial.TrialState.WAITING for frozen in trials)

    def _abandoned(self) -> Iterator[tuple[FileLock, Any]]:
        """Running trials whose process has died, with their locks, which are taken."""
        running = (self._optuna.trial.TrialState.RUNNING,)
        for frozen in self.study.get_trials(deepcopy=False, states=running):
            lock = self._lock(frozen.number)
            if lock.take(wait=False):
                yield lock, frozen

    def others_at_work(self) -> bool:
        """Whether another process works on a trial."""
        running = (self._optuna.trial.TrialState.RUNNING,)
        for frozen in self.study.get_trials(deepcopy=False, states=running):
            lock = self._lock(frozen.number)
            if not lock.take(wait=False):
                return True
            lock.drop()
        return False

    def _taken_up(self, frozen: Any) -> Asked | None:
        """A killed trial, to continue; one killed repeatedly is marked failed instead."""
        self._seed_sampler(frozen.number)
        trial: Asked = self._optuna.trial.Trial(self.study, frozen._trial_id)
        epochs = len(frozen.intermediate_values)
        earlier = frozen.user_attrs.get("attempts", {})
        attempts = 1 + (int(earlier.get("count", 0)) if earlier.get("epochs") == epochs else 0)
        if attempts > MOST_ATTEMPTS:
            trial.set_user_attr("ended", f"its process died {attempts} times at epoch {epochs}")
            self.study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            return None
        trial.set_user_attr("attempts", {"count": attempts, "epochs": epochs})
        self._sample(trial)  # values not drawn before the kill
        return trial

    def _new(self) -> tuple[Asked, FileLock]:
        number = self._begun()
        self._seed_sampler(number)
        if number == 0:
            self.study.enqueue_trial(self.first, skip_if_exists=True)
        trial = self.study.ask()
        lock = self._lock(trial.number)
        lock.take(wait=True)
        self._sample(trial)
        return trial, lock

    def _seed_sampler(self, number: int, name: str = "") -> None:
        """Seed the sampler by seed, trial and parameter only, so that a new process draws no duplicates."""
        digest = hashlib.sha256(f"{self.seed} {number} {name}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        self.study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)

    def _sample(self, trial: Asked) -> None:
        for part in self.space:
            self._seed_sampler(trial.number, part.name)
            if not isinstance(part, Range):
                trial.suggest_categorical(part.name, list(part.choices))
            elif part.whole:
                trial.suggest_int(part.name, int(part.low), int(part.high), log=part.log)
            else:
                trial.suggest_float(part.name, part.low, part.high, log=part.log)

    def _lock(self, number: int) -> FileLock:
        return FileLock(self._locks / f"trial-{number:04d}")

    def report(self, trial: Asked, epoch: int, score: float) -> bool:
        """Report the score of an epoch; returns whether to prune the trial. Repeated epochs count once."""
        if math.isnan(score):
            return False
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if epoch not in known:
            trial.report(score, epoch)
        return bool(trial.should_prune())

    def tell(self, trial: Asked, state: str, *, score: float = math.nan, **about: Any) -> None:
        """End a trial: `complete` with its score, `pruned` or `failed`."""
        for key, value in about.items():
            trial.set_user_attr(key, value)
        states = self._optuna.trial.TrialState
        if state == "complete" and not math.isnan(score):
            self.study.tell(trial, score)
        else:
            self.study.tell(trial, state=states.PRUNED if state == "pruned" else states.FAIL)

    def trials(self) -> list[Trial]:
        """All trials so far, in the order of their numbers."""
        return [_told(frozen) for frozen in self.study.get_trials(deepcopy=False)]

    def importances(self) -> dict[str, float]:
        """How much of the variance of scores each parameter explains, largest first; empty with too few trials.

        Source: Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance" (fANOVA).
        """
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        if len(complete) < UNPRUNED_TRIALS or len({trial.score for trial in complete}) < 2:
            return {}
        evaluator = self._optuna.importance.FanovaImportanceEvaluator(seed=self.seed)
        found: dict[str, float] = self._optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return found


def _told(frozen: Any) -> Trial:
    about = dict(frozen.user_attrs)
    value = frozen.value if frozen.state.name == "COMPLETE" else None
    return Trial(
        number=frozen.number,
        state={"FAIL": "failed", "WAITING": "running"}.get(frozen.state.name, frozen.state.name.lower()),
        values=dict(frozen.params),
        score=math.nan if value is None else float(value),
        curve=dict(frozen.intermediate_values),
        seconds=float(about.get("seconds", math.nan)),
        about=about,
    )


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the best score, the earlier of equals; None where none is complete."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete, key=lambda trial: (trial.score, -trial.number), default=None)
