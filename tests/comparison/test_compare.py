"""Comparisons against exact tests, hand-worked cases and made-up runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from opsin import artifact as artifacts
from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.comparison.comparison import compare_runs
from opsin.comparison.outcomes import outcomes_of
from opsin.comparison.paired import difference_interval, group_interval, holm, resampled_scores, seeds_test, swap_test
from opsin.config import RunConfig, TrainConfig
from opsin.errors import ConfigError, DataError, RunError
from opsin.io.files import write_json
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec
from opsin.runs import DataCard, Run, RunWriter, SplitCard, SplitScores, Summary
from opsin.score_notes import Selection
from opsin.tasks import get_task
from opsin.tasks.regress.scores import r2_parts
from opsin.tasks.targets import Targets
from opsin.types import Score, SizePolicy, TaskName

N = 60


def shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[:, 0] / sums[:, 1]


def hits(right: Sequence[int]) -> NDArray[np.float64]:
    return np.stack([np.asarray(right), np.ones(len(right))], axis=1).astype(np.float64)


def test_the_paired_test_of_shares_is_mcnemars() -> None:
    a = [1] * 40 + [1] * 3 + [0] * 12 + [0] * 5
    b = [1] * 40 + [0] * 3 + [1] * 12 + [0] * 5
    exact = min(1.0, 2 * sum(comb(15, k) for k in range(4)) / 2**15)
    assert swap_test([hits(a)], [hits(b)], shares) == pytest.approx(exact, abs=0.006)


def test_runs_that_are_right_on_the_same_samples_have_p_1_and_an_interval_of_0() -> None:
    a = hits([1, 0, 1, 1, 0])
    assert swap_test([a], [a], shares) == 1
    assert difference_interval([a], [a], shares) == (0, 0)


def test_pairing_makes_the_interval_narrower_than_two_independent_ones() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(400)
    a, b = (hits((hard < share).astype(int)) for share in (0.7, 0.74))
    low, high = difference_interval([a], [b], shares)
    alone = np.std(resampled_scores([a], shares)) * np.sqrt(2) * 2 * 1.96
    assert low > 0
    assert high - low < alone / 2


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    generator, held = np.random.default_rng(1), 0
    for _ in range(60):
        a, b = (hits((generator.random(200) < share).astype(int)) for share in (0.6, 0.7))
        low, high = difference_interval([a], [b], shares)
        held += low <= 0.1 <= high
    assert held >= 51  # 57 are expected


def scored(shares_of_seeds: Sequence[float], count: int) -> list[NDArray[np.float64]]:
    """For each seed, as many of `count` samples right."""
    return [hits([1] * round(count * s) + [0] * round(count * (1 - s))) for s in shares_of_seeds]


def test_the_interval_over_seeds_is_students_where_samples_are_many() -> None:
    scores = [0.51, 0.53, 0.50]
    low, high = group_interval(scored(scores, 200_000), shares)
    expected = stats.t.interval(0.95, 2, loc=np.mean(scores), scale=stats.sem(scores))
    assert (low, high) == pytest.approx(expected, abs=0.002)


def test_the_interval_over_seeds_counts_samples_too_by_hand() -> None:
    # equal seeds: that of the samples alone, Wilson's but for the bootstrap's error
    low, high = group_interval(scored([0.7, 0.7], 100), shares)
    exact = stats.binomtest(70, 100).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.008)
    # two seeds: t of 1 degree of freedom x 0.05 / 2 on top, in squares, then Wilson's form
    spread, p = stats.t.ppf(0.975, 1) * 0.05 / 2, 0.675
    c = (1.96**2 * p * (1 - p) / 100 + spread**2) / (p * (1 - p))
    half = np.sqrt(p * (1 - p) * c + c * c / 4) / (1 + c)
    low, high = group_interval(scored([0.65, 0.7], 100), shares)
    assert high - low == pytest.approx(2 * half, abs=0.02)


def test_the_interval_of_two_seeds_stays_inside_0_and_1() -> None:
    low, high = group_interval(scored([0.25, 0.5], 16), shares)
    assert 0 < low < 0.375 < high < 1
    assert high - low > 0.8


def test_the_difference_of_methods_is_welchs_where_samples_are_many() -> None:
    a, b = [0.50, 0.52, 0.51], [0.60, 0.63]
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    found = difference_interval(scored(a, 200_000), scored(b, 200_000), shares)
    assert found == pytest.approx((expected.low, expected.high), abs=0.002)


def test_the_test_over_seeds_needs_two_on_each_side() -> None:
    assert seeds_test([0.5], [0.6, 0.7]) is None
    assert seeds_test([0.5, 0.5], [0.5, 0.5]) == 1
    assert seeds_test([0.5, 0.5], [0.6, 0.6]) is None
    assert seeds_test([0.5, 0.6], [0.9, 0.91]) == pytest.approx(
        stats.ttest_ind([0.5, 0.6], [0.9, 0.91], equal_var=False).pvalue
    )


def test_holm_raises_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01]) == [0.04, 0.02]
    assert holm([0.5, 0.9, 0.8]) == [1.0, 1.0, 1.0]


def made_run(
    out: Path,
    name: str,
    arrays: dict[str, NDArray[Any]],
    *,
    task: TaskName = "classify",
    seed: int = 0,
    epochs: int = 3,
    good_iou: float = 0.6,
) -> Run:
    """A finished run of an untrained network, with predictions on val."""
    settings = TrainConfig(seed=seed, epochs=epochs, good_iou=good_iou)
    writer = RunWriter.create(RunConfig(source="made", train=settings), name=name, out=out)
    run = writer.run
    writer.data(DataCard(task=task, classes=("a", "b")))
    writer.summary(Summary(seconds=10.0 + seed))
    writer.predictions({f"val/{key}": value for key, value in arrays.items()})
    spec = ModelSpec(name="plain", channels=1, height=8, width=8, options={"filters": [2]})
    with seeded(0):
        network = get_task(task).build(spec, 2)
    size = SizePolicy(height=8, width=8)
    preprocess = Preprocess(size=size, color="gray", range=(0.0, 1.0), mean=(0.0,), std=(1.0,))
    made = Artifact(network=network, task=task, classes=("a", "b"), spec=spec, preprocess=preprocess, meta={})
    artifacts.save(run.model_folder, made, golden_images=torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    return run


def classified(num_right: int, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    labels = np.arange(N) % 2
    right = np.random.default_rng(seed).permutation(N) < num_right
    predicted = np.where(right, labels, 1 - labels)
    targets = Targets(ids=[f"s{i}" for i in range(N)], labels=labels)
    return {"probabilities": np.eye(2, dtype=np.float32)[predicted]} | targets.arrays()


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, f"few-{i}", classified(40 + i, seed=i), seed=i) for i in range(3)]
    runs += [made_run(tmp_path, f"many-{i}", classified(57 + i, seed=i), seed=i, epochs=9) for i in range(2)]
    found = compare_runs(runs)
    assert [(g.name, g.seeds) for g in found.groups] == [("few", (0, 1, 2)), ("many", (0, 1))]
    assert found.groups[0].score == pytest.approx(41 / N)
    assert found.groups[0].parameters == 2 * 9 + 2 + 4 + 4 + 2 * 4 * 4 * 2 + 2
    assert found.groups[0].flops == 2 * (8 * 8 * 2 * 9 + 2 * 4 * 4 * 2)
    assert found.groups[0].seconds == 11
    (pair,) = found.pairs
    assert pair.difference == pytest.approx(57.5 / N - 41 / N)
    assert pair.low < pair.difference < pair.high
    assert (pair.verdict, pair.differs) == ("many is better", ("train.epochs",))
    assert (pair.compared, pair.notes) == ("methods", ())
    assert [g.interval for g in found.groups] == ["seeds and samples"] * 2
    assert found.groups[1].notes[0].startswith("2 seeds give a poor estimate")


def test_scores_of_chosen_epochs_are_said_to_lean_to_the_good_side(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, f"run-{i}", classified(40 + i), epochs=3 + i) for i in range(2)]
    chosen = {"chosen_by": "val accuracy", "epochs": 3, "best_epoch": 2, "best": 0.7, "last_epoch": 3, "last": 0.6}
    selection = Selection(**chosen, optimism=0.02)  # type: ignore[arg-type]
    RunWriter(runs[0]).scores({"val": SplitScores(n=N, scores={"accuracy": Score(0.7)}, selection=selection)})
    first, second = compare_runs([Run(run.path) for run in runs]).groups
    told = "each score is the best of up to 3 epochs on val, so it leans to the good side: by about 0.0200"
    assert first.notes == (told,)
    assert second.notes == ()


def test_one_run_a_side_is_called_better_as_a_network_not_as_a_method(tmp_path: Path) -> None:
    one = made_run(tmp_path, "one", classified(30))
    two = made_run(tmp_path, "two", classified(58), epochs=9)
    (pair,) = compare_runs([one, two]).pairs
    assert (pair.compared, pair.verdict) == ("networks", "two is better, as a trained network")
    assert "not methods" in pair.notes[0]
    assert "one and two" in pair.notes[0]
    seeds = [made_run(tmp_path, f"three-{i}", classified(57 + i), seed=i, epochs=7) for i in range(2)]
    (pair,) = compare_runs([one, *seeds]).pairs
    assert pair.compared == "networks"
    assert "methods: one ran" in pair.notes[0]


def test_settings_that_change_no_result_open_no_group(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, f"net-{i}", classified(40 + i, seed=i), seed=i) for i in range(3)]
    config = json.loads((runs[1].path / "config.json").read_text())
    config["train"] |= {"preflight": False, "keep_memory": False, "tensorboard": True, "checkpoint_minutes": 1.0}
    write_json(runs[1].path / "config.json", config)
    assert [group.seeds for group in compare_runs(runs).groups] == [(0, 1, 2)]


def test_runs_that_a_budget_gave_other_minutes_form_the_groups_that_are_named(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, f"net-{i}", classified(40 + i, seed=i), epochs=i + 1, seed=i % 2) for i in range(4)]
    assert len(compare_runs(runs).groups) == 4
    found = compare_runs(runs, names=["a", "a", "b", "b"])
    assert [(group.name, group.seeds) for group in found.groups] == [("a", (0, 1)), ("b", (0, 1))]
    assert len(found.pairs) == 1
    with pytest.raises(ConfigError, match=r"(?s)independent draws.*seed 0 twice"):
        compare_runs(runs, names=["a", "b", "a", "b"])
    with pytest.raises(ConfigError, match="name of a group for each run"):
        compare_runs(runs, names=["a"])


def test_unequal_steps_and_data_are_told_beside_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [made_run(tmp_path, name, classified(k), epochs=k) for name, k in (("one", 40), ("two", 50))]
    for run, steps in zip(runs, (144, 1200), strict=True):
        RunWriter(run).summary(replace(run.summary, step=steps))
        splits = {"train": SplitCard(n=10 * steps)}
        RunWriter(run).data(replace(run.data, fingerprint=str(steps), splits=splits))
    (pair,) = compare_runs(runs).pairs
    assert pair.notes[1:] == (
        "unequal steps: 144 to 1,200",
        "unequal training samples: 1,440 to 12,000",
        "unequal data sets",
    )
    assert main(["compare", "one", "two", "--out", str(tmp_path)]) == 0
    assert "unequal steps: 144 to 1,200" in capsys.readouterr().out


def test_runs_of_different_tasks_are_refused_as_such(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, name, classified(40), epochs=k) for name, k in (("one", 3), ("two", 4))]
    RunWriter(runs[1]).data(DataCard(task="segment", classes=("a", "b")))
    with pytest.raises(DataError, match="different tasks"):
        compare_runs(runs)


def test_two_groups_of_two_equal_seeds_are_compared_without_a_warning(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, f"a-{i}", classified(40), seed=i) for i in range(2)]
    runs += [made_run(tmp_path, f"b-{i}", classified(59), seed=i, epochs=9) for i in range(2)]
    found = compare_runs(runs)
    assert found.pairs[0].p_seeds is None
    assert found.pairs[0].verdict == "no difference shown"
    assert found.groups[0].low < found.groups[0].score < found.groups[0].high


def test_a_run_that_was_repeated_with_its_seed_is_no_further_seed(tmp_path: Path) -> None:
    """Two copies of one run would otherwise show an interval over seeds of width 0."""
    runs = [made_run(tmp_path, name, classified(40), seed=3) for name in ("before", "after")]
    found = compare_runs(runs)
    assert [(g.name, g.seeds, g.interval) for g in found.groups] == [
        ("before", (3,), "samples"),
        ("after", (3,), "samples"),
    ]
    assert found.groups[0].low < 40 / N < found.groups[0].high
    assert (found.pairs[0].differs, found.pairs[0].verdict) == ((), "no difference shown")


def test_the_interval_of_one_run_is_that_of_its_evaluation(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, name, classified(k), epochs=k) for name, k in (("a", N - 1), ("b", 40))]
    for group, hits_of_run in zip(compare_runs(runs).groups, (N - 1, 40), strict=True):
        exact = stats.binomtest(hits_of_run, N).proportion_ci(method="wilson")
        assert (group.low, group.high) == pytest.approx((exact.low, exact.high))


def test_no_two_groups_have_one_name(tmp_path: Path) -> None:
    seeds = [made_run(tmp_path, f"net-{i}", classified(40), seed=i) for i in range(2)]
    alone = made_run(tmp_path, "net", classified(40), epochs=4)
    elsewhere = made_run(tmp_path / "old", "net", classified(40), epochs=5)
    assert [g.name for g in compare_runs([*seeds, alone]).groups] == ["net-0", "net"]
    paths = [str(run.path) for run in (alone, elsewhere)]
    assert [g.name for g in compare_runs([*seeds, alone, elsewhere]).groups] == ["net-0", *paths]


def test_a_run_without_a_mistake_is_not_called_certain(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, name, classified(k), epochs=k) for name, k in (("all", N), ("most", N - 3))]
    group = compare_runs(runs).groups[0]
    assert (group.score, group.high) == (1.0, 1.0)
    assert group.low == pytest.approx(stats.binomtest(N, N).proportion_ci(method="wilson").low)


def test_an_undefined_score_is_called_better_by_nobody(tmp_path: Path) -> None:
    runs = []
    for name, epochs in (("one", 3), ("two", 4)):
        targets = Targets(ids=["a"], masks=np.full((1, 8, 8), 255, np.uint8))
        run = made_run(tmp_path, name, {"masks": np.zeros((1, 8, 8), np.uint8)} | targets.arrays(), epochs=epochs)
        RunWriter(run).data(DataCard(task="segment", classes=("a", "b")))
        runs.append(run)
    assert compare_runs(runs).pairs[0].verdict == "no difference shown"


def test_predictions_that_do_not_name_their_samples_are_refused(tmp_path: Path) -> None:
    arrays = classified(40)
    del arrays["ids"]
    with pytest.raises(RunError, match="incomplete"):
        outcomes_of(made_run(tmp_path, "old", arrays))


def test_an_ensemble_is_no_further_seed_of_its_members(tmp_path: Path) -> None:
    members = [made_run(tmp_path, f"member-{seed}", classified(k), seed=seed) for seed, k in ((0, 40), (1, 44))]
    ensemble = made_run(tmp_path, "together", classified(50))
    RunWriter(ensemble).summary(Summary(kind="average", members=tuple(str(run.path) for run in members)))
    found = compare_runs([*members, ensemble])
    assert [len(group.runs) for group in found.groups] == [2, 1]
    assert found.pairs[0].differs == ("ensemble.kind", "ensemble.members")


def test_a_difference_that_chance_can_make_is_not_called_one(tmp_path: Path) -> None:
    runs = [made_run(tmp_path, name, classified(k, seed=k), epochs=k) for name, k in (("one", 40), ("two", 42))]
    (pair,) = compare_runs(runs).pairs
    assert pair.verdict == "no difference shown"
    assert pair.p > 0.2


def test_localizers_are_compared_by_class_and_box_together(tmp_path: Path) -> None:
    true = np.tile(np.array([2, 2, 6, 6], np.float32), (4, 1))
    boxes = true.copy()
    boxes[1] += 3
    targets = Targets(ids=["a", "b", "c", "d"], labels=np.zeros(4, np.int64), boxes=true)
    probabilities = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    run = made_run(
        tmp_path, "boxes", {"probabilities": probabilities, "boxes": boxes} | targets.arrays(), task="localize"
    )
    found = outcomes_of(run)
    assert found.score == "joint_accuracy"
    assert found.parts[:, 0].tolist() == [1, 0, 0, 1]

    lenient = made_run(tmp_path, "lenient", dict(run.predictions("val")), task="localize", good_iou=0.03)
    assert outcomes_of(lenient).parts[:, 0].tolist() == [1, 1, 0, 1]
    with pytest.raises(DataError, match="different IoU thresholds"):
        compare_runs([run, lenient])


def test_segmenters_are_compared_by_the_pooled_mean_iou(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    masks, true = (generator.integers(0, 2, (5, 8, 8), dtype=np.uint8) for _ in range(2))
    targets = Targets(ids=list("abcde"), masks=true)
    spec_run = made_run(tmp_path, "masks", {"masks": masks} | targets.arrays())
    RunWriter(spec_run).data(DataCard(task="segment", classes=("a", "b")))
    found = outcomes_of(spec_run)
    ious = [((masks == k) & (true == k)).sum() / ((masks == k) | (true == k)).sum() for k in (0, 1)]
    assert found.value == pytest.approx(np.mean(ious))


def test_other_samples_are_refused(tmp_path: Path) -> None:
    other = classified(40) | {"ids": np.array([f"t{i}" for i in range(N)])}
    runs = [made_run(tmp_path, "one", classified(40)), made_run(tmp_path, "two", other, epochs=9)]
    with pytest.raises(DataError, match="same samples"):
        compare_runs(runs)


def test_one_run_twice_and_runs_without_predictions_are_refused(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one", classified(40))
    with pytest.raises(ConfigError, match="each once"):
        compare_runs([run, run])
    with pytest.raises(RunError, match="predictions on test"):
        outcomes_of(run, "test")


def test_the_command_prints_json_with_the_promised_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, k in (("one", 30), ("two", 58)):
        made_run(tmp_path, name, classified(k), epochs=k)
    assert main(["compare", "one", "two", "--out", str(tmp_path), "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert {"a", "b", "difference", "low", "high", "p", "verdict"} <= set(pair)
    assert main(["compare", "one", "two", "--out", str(tmp_path)]) == 0
    assert "two is better" in capsys.readouterr().out


def test_the_time_of_a_run_that_was_not_trained_is_null_in_json_and_na_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(tmp_path, "trained", classified(30))
    (made_run(tmp_path, "averaged", classified(40), epochs=9).path / "summary.json").unlink()
    assert main(["compare", "trained", "averaged", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [group["seconds"] for group in document["groups"]] == [10.0, None]
    assert main(["compare", "trained", "averaged", "--out", str(tmp_path)]) == 0
    assert "n/a" in capsys.readouterr().out


def test_a_difference_of_scores_without_a_lower_bound_may_exceed_one() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(60, 1))
    good, of_sums = r2_parts(truth + 0.1 * generator.normal(size=truth.shape), truth)
    bad, _ = r2_parts(3 * generator.normal(size=truth.shape), truth)
    low, high = difference_interval([bad], [good], of_sums, bounded=False)
    value = float(of_sums(good.sum(0, keepdims=True))[0] - of_sums(bad.sum(0, keepdims=True))[0])
    assert 1 < low < value < high
    low, high = group_interval([bad], of_sums, bounded=False)
    assert low < float(of_sums(bad.sum(0, keepdims=True))[0]) < high < 0
