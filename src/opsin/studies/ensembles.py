"""Ensembles: probabilities averaged with weights optimal on val, or weights averaged into one network.

Source: averaged weights ("soups"): Wortsman et al. 2022, arXiv 2203.05482.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opsin import artifact as artifacts
from opsin.answering import answering_of
from opsin.arrays import Arrays
from opsin.artifact import Artifact
from opsin.data.pack import pack, usable_cache
from opsin.data.samples import Samples
from opsin.errors import ConfigError, DataError, RunError
from opsin.evaluation.record import split_pictures
from opsin.evaluation.scoring import evaluate_predictions
from opsin.inference.predictor import Predictor
from opsin.models.table import count_parameters
from opsin.models.wrappers.ensemble import ensemble_spec, pixels
from opsin.ops.intervals import bootstrap, percentile_interval
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER, Run, RunWriter, Summary, dataset_of, free_path, next_name, read_gallery
from opsin.runs.codec import to_json
from opsin.tasks import get_task
from opsin.tasks.targets import Targets
from opsin.training.finish import golden_images
from opsin.types import Score, SizePolicy

Kind = Literal["auto", "average", "soup"]
ITERATIONS = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """Result of an ensemble: the run, its kind, the members' weights, val accuracies, and the gain over the best
    member.

    The gain's interval is a paired bootstrap over the val images. The weights were chosen on them, so it is slightly
    optimistic; `opsin evaluate --split test` gives an unbiased gain.
    """

    run: Run
    kind: str
    weights: tuple[float, ...]
    members: tuple[float, ...]
    accuracy: float
    gain: Score


@dataclass(frozen=True, kw_only=True)
class _About:
    """Facts about an ensemble for its summary, log and artefact."""

    kind: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    gain: Score
    command: str


def ensemble(
    runs: Sequence[Run],
    *,
    kind: Kind = "auto",
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = False,
    command: str = "opsin.studies.ensembles.ensemble(...)",
) -> EnsembleResult:
    """Combine finished classification runs, and leave a run folder with the artefact.

    Args:
        runs: two or more, with the same data set and input size.
        kind: `average` of probabilities, `soup` of weights, or `auto`: the better one on val.
        name: name of the new run.
        out: folder of run folders.
        quiet: no messages.
        command: the command line as typed, kept in the run.

    Raises:
        RefusedError: the runs cannot be combined; nothing was written.
    """
    report = Reporter(quiet=quiet)
    members = [artifacts.load_proved(run.model_folder) for run in runs]
    check_alike(runs, members)
    if name is not None:
        free_path(name, out)
    each, labels = _val_probabilities(runs)
    weights = mixture_weights(each, labels)
    candidates = _candidates(members, weights, kind)
    val = _val_samples(runs[0], members[0].preprocess.size)
    predictions = {key: Predictor(candidate).samples(val) for key, candidate in candidates.items()}
    right = {key: (found["probabilities"].argmax(1) == val.labels) for key, found in predictions.items()}
    # of equal scores, the soup is cheaper
    chosen = max(right, key=lambda key: (right[key].sum(), key == "soup"))
    hits = (each.argmax(2) == labels).astype(float)
    best = hits[int(hits.mean(1).argmax())]
    gain = paired_gain(right[chosen].astype(float), best)
    writer = RunWriter.create(runs[0].config, name=name or next_name(f"ensemble-{runs[0].data.name}", out), out=out)
    shares = tuple(weights.tolist()) if chosen == "average" else (1 / len(members),) * len(members)
    about = _About(
        kind=chosen, members=tuple(str(member.path) for member in runs), weights=shares, gain=gain, command=command
    )
    _write(writer, runs, candidates[chosen], val, predictions[chosen], about)
    accuracy = float(right[chosen].mean())
    report.message(f"{chosen} of {len(runs)} runs: val accuracy {accuracy:.4f}, gain over the best {gain}")
    return EnsembleResult(
        run=writer.run,
        kind=chosen,
        weights=shares,
        members=tuple(hits.mean(1).tolist()),
        accuracy=accuracy,
        gain=gain,
    )


def _candidates(members: Sequence[Artifact], weights: Floats, kind: Kind) -> dict[str, Artifact]:
    """The combinations of `kind`, by their kind.

    Raises:
        ConfigError: a soup of different networks is requested.
    """
    alike = len({str(vars(m.spec)) + str(m.preprocess) for m in members}) == 1
    if kind == "soup" and not alike:
        got = ", ".join(m.spec.name for m in members)
        raise ConfigError("weights of different networks cannot be averaged", got=got, do="--kind average")
    candidates = {}
    if kind != "soup":
        candidates["average"] = averaged(members, weights)
    if kind != "average" and alike:
        candidates["soup"] = soup(members)
    return candidates


def check_alike(runs: Sequence[Run], members: Sequence[Artifact]) -> None:
    """Refuse runs that cannot be combined.

    Raises:
        ConfigError: fewer than two, other tasks, classes or input sizes.
        DataError: other data, or other splits of it.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        got = ", ".join(run.name for run in runs)
        raise ConfigError(
            "an ensemble needs several runs", got=got, expected="two runs or more, each once", do="name a second run"
        )
    first = members[0]
    for run, member in zip(runs, members, strict=True):
        if not get_task(member.task).one_class:
            raise ConfigError(
                "only classifiers can be combined", where=run.path, got=member.task, do="leave this run out"
            )
        if member.classes != first.classes:
            raise ConfigError(
                "the runs have different classes", where=run.path, got=member.classes, expected=first.classes
            )
        if member.preprocess.size.bits != first.preprocess.size.bits:
            raise ConfigError(
                "the runs see different depths of images",
                where=run.path,
                got=f"{member.preprocess.size.bits} bits a channel",
                expected=f"{first.preprocess.size.bits} bits a channel",
                do="train them with one --bits",
            )
        if (member.preprocess.size, member.preprocess.channels) != (first.preprocess.size, first.preprocess.channels):
            raise ConfigError(
                "the runs have different input sizes",
                where=run.path,
                got=member.preprocess.size,
                expected=first.preprocess.size,
                do="train them at one --input-size and --fit",
            )
        if run.data.fingerprint != runs[0].data.fingerprint:
            do = "weights can only be chosen on a val split that no member was trained on: use one --split-seed"
            raise DataError("the runs were trained on different data or splits", where=run.path, do=do)


def _val_probabilities(runs: Sequence[Run]) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities [M, N, K] of the members on val, and the labels [N]."""
    found = [run.predictions("val") for run in runs]
    for run, arrays in zip(runs, found, strict=True):
        if not arrays or not found[0] or not np.array_equal(arrays["ids"], found[0]["ids"]):
            raise RunError(
                "the run has no predictions on the same val split", where=run.path, do="train it again on these splits"
            )
    return np.stack([arrays["probabilities"] for arrays in found]).astype(np.float64), found[0]["labels"]


def mixture_weights(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Weights of the mean of probabilities with the lowest negative log likelihood: the optimum, which is unique.

    Args:
        probabilities: [M, N, K] of M members.
        labels: [N].

    Returns:
        float64 [M], of sum 1.

    Source: Dempster, Laird, Rubin 1977, expectation maximization for the proportions of a mixture.
    """
    likelihoods = probabilities[:, np.arange(len(labels)), labels].clip(1e-12)
    weights: Floats = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(ITERATIONS):
        weights = weights * (likelihoods / (weights @ likelihoods)).mean(axis=1)
    total: Floats = weights / weights.sum()
    return total


def averaged(members: Sequence[Artifact], weights: Floats) -> Artifact:
    """The ensemble of `members` as one artefact; their probabilities are averaged."""
    first = members[0]
    count = len(first.classes)
    spec = ensemble_spec([m.spec for m in members], [m.preprocess for m in members], weights.tolist(), count)
    network = get_task(first.task).build(spec, count)
    tensors = {
        f"backbone.members.{i}.{key}": value
        for i, m in enumerate(members)
        for key, value in m.network.state_dict().items()
    }
    artifacts.load_weights(network, tensors, where="members of the ensemble")
    return Artifact(
        network=network.eval(),
        task=first.task,
        classes=first.classes,
        spec=spec,
        preprocess=pixels(first.preprocess),
        meta={},
    )


def soup(members: Sequence[Artifact]) -> Artifact:
    """One network whose tensors are the means of the members' tensors."""
    first = members[0]
    states: list[Mapping[str, Tensor]] = [m.network.state_dict() for m in members]
    mean = {
        key: torch.stack([state[key] for state in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    network = get_task(first.task).build(first.spec, len(first.classes))
    network.load_state_dict(mean)
    return Artifact(
        network=network.eval(),
        task=first.task,
        classes=first.classes,
        spec=first.spec,
        preprocess=first.preprocess,
        meta={},
    )


def paired_gain(ours: Floats, theirs: Floats) -> Score:
    """Mean difference of two scores of the same samples, with a 95 % interval over the samples."""
    difference = ours - theirs
    resampled = bootstrap(lambda w: (w @ difference)[:, None] / w.sum(axis=1, keepdims=True), len(difference))
    low, high = percentile_interval(resampled)
    return Score(float(difference.mean()), float(low[0]), float(high[0]))


def _val_samples(run: Run, size: SizePolicy) -> Samples:
    """The val split of a run's data set, at `size`.

    Raises:
        DataError: the data set is missing, or has changed.
    """
    skip = run.config.data.skip_unreadable
    packed = pack(dataset_of(run), size, cache=usable_cache(), splits=["val"], skip_unreadable=skip)
    return packed["val"]


def _write(
    writer: RunWriter, members: Sequence[Run], artifact: Artifact, val: Samples, predictions: Arrays, about: _About
) -> None:
    """Write the files of a finished run, scores last; data, machine and sample images are those of the first member."""
    first, task, targets = members[0], get_task(artifact.task), Targets.of(val)
    writer.data(first.data)
    writer.environment(first.environment)
    as_val = True if first.config.data.test_as_val else None
    meta = {"ensemble": to_json(about), **({"test_as_val": True} if as_val else {})}
    artifact = replace(artifact, meta=meta, answering=answering_of(predictions, targets))
    artifacts.save(writer.model_folder, artifact, golden_images=golden_images(val))
    scores = evaluate_predictions(task, predictions, targets, artifact.classes)
    writer.predictions({f"val/{k}": v for k, v in (predictions | targets.arrays()).items()})
    samples = {key: array for key, array in read_gallery(first.path).items() if not key.startswith("mistakes_")}
    mistakes = split_pictures(task, "val", scores, predictions, targets, val.images)
    writer.gallery(samples | mistakes)
    writer.summary(_summary(writer.run, members, artifact, about))
    writer.scores({"val": replace(scores, test_as_val=as_val)})
    message = f"{about.kind} of {', '.join(member.name for member in members)}"
    writer.event("ensemble", message=message, **to_json(about))


def _summary(run: Run, members: Sequence[Run], artifact: Artifact, about: _About) -> Summary:
    """The summary; unknown costs are left out."""
    parameters, trainable = count_parameters(artifact.network)
    summaries = [member.summary for member in members]
    return Summary(
        run=str(run.path),
        task=artifact.task,
        data=members[0].data.name,
        model=artifact.spec.name,
        parameters=parameters,
        trainable=trainable,
        seconds=_total([summary.seconds for summary in summaries]),
        cpu_seconds=_total([summary.cpu_seconds for summary in summaries]),
        stopped="finished",
        test_openings=run.log.test_openings,
        kind=about.kind,
        members=about.members,
        weights=about.weights,
        gain=about.gain,
        command=about.command,
    )


def _total(costs: Sequence[float | None]) -> float | None:
    """Training cost of an ensemble: the sum of its members'; None if one is unknown."""
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 2) if len(known) == len(costs) else None
