"""The doctor: each check finds its fault in a case made for it, and says nothing of a sound one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import opsin
from opsin.config import resolve
from opsin.data.quality.findings import Finding
from opsin.diagnosis import score_checks
from opsin.diagnosis.card import read_cards
from opsin.diagnosis.case import Case, Epoch, Facts, LayerFact, NormFact, SplitFacts
from opsin.diagnosis.doctor import CHECKS, NEED_FACTS, Diagnosis, diagnose, examine, stored_diagnosis
from opsin.diagnosis.facts import _watched
from opsin.diagnosis.finding import by_severity, finding_from_json
from opsin.diagnosis.stamp import network_stamp
from opsin.errors import RunError
from opsin.models.weights.contracts import CAFFE, IMAGENET, SIGNED
from opsin.runs import RunWriter, read_extra
from opsin.types import Score

CLASSES = tuple("abcdefghij")
LN_K = math.log(10)
GREY = tuple(float(value) for value in np.linspace(100, 140, 300))


def epochs(losses, scores=None, *, val=None, lr=0.1):
    """Epochs of these training losses; the rate falls in a line unless one is given."""
    count = len(losses)
    scores = scores or [1 - loss / LN_K for loss in losses]
    rates = [lr * (1 - i / count) for i in range(count)] if lr else [0.1] * count
    return tuple(
        Epoch(number=i + 1, lr=rates[i], train_loss=losses[i], train_score=scores[i], val_loss=v, val_score=scores[i])
        for i, v in zip(range(count), val or losses, strict=True)
    )


def split(right, n, details=None):
    low, high = stats.binomtest(right, n).proportion_ci(method="wilson")
    return SplitFacts(n=n, score=Score(right / n, low, high), details=details or {})


def counted(confusion):
    """The details of a confusion matrix."""
    rows = [
        {"class": name, "support": sum(row), "recall": _score(row[k], sum(row))}
        for k, (name, row) in enumerate(zip(CLASSES, confusion, strict=True))
    ]
    return {"confusion": confusion, "per_class": rows}


def _score(hits, total):
    low, high = stats.binomtest(hits, total).proportion_ci(method="wilson")
    return {"value": hits / total, "low": low, "high": high}


GOOD = [[57 if i == j else int(j == (i + 1) % 10) * 3 for j in range(10)] for i in range(10)]
SOUND_LOSSES = [1.2, 0.6, 0.4, 0.3, 0.25, 0.2, 0.18, 0.16, 0.14, 0.13, 0.12, 0.12]
SOUND_SCORES = [0.7, 0.85, 0.9, 0.92, 0.93, 0.94, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95]


def sound(**changed):
    case = Case(
        task="classify",
        score="accuracy",
        classes=CLASSES,
        config=resolve(),
        epochs=epochs(SOUND_LOSSES, SOUND_SCORES),
        events=(),
        splits={"val": split(570, 600, counted(GOOD)), "test": split(940, 1000)},
        sizes={"train": 3000, "val": 600},
        class_counts={"train": (300,) * 10, "val": (60,) * 10},
        findings=(Finding(kind="near-leak", severity="info", message="none"),),
        expected_input={},
        input={"range": [0.0, 1.0], "mean": [0.5], "std": [0.25], "color": "rgb"},
        selection=None,
        facts=facts(),
    )
    return replace(case, **changed)


def facts(**changed):
    found = Facts(
        train=Score(0.97, 0.957, 0.979),
        num_train=1000,
        layers=(LayerFact(name="relu", units=64, dead=2),),
        norms=(NormFact(name="norm", shift=0.05, log_ratio=0.08),),
        train_brightness=GREY,
        val_brightness=GREY,
    )
    return replace(found, **changed)


def with_facts(**changed):
    return sound(facts=facts(**changed))


def jumping():
    return epochs([1.9] * 12, val=[1.9 + 0.4 * (i % 2) for i in range(12)])


MAJORITY = [[60 if j == 0 else 0 for j in range(10)] for i in range(10)]
DRAGGED = [row if i != 8 else [0, 0, 0, 42, 0, 0, 0, 0, 18, 0] for i, row in enumerate(GOOD)]

FAULTS = {
    "leak": sound(findings=(Finding(kind="leak", severity="warning", message="3 images lie in both"),)),
    "input-unlike-backbone": sound(expected_input={"range": [-1.0, 1.0], "mean": [0.5], "std": [0.25], "color": "rgb"}),
    "majority-class": sound(splits={"val": split(60, 600, counted(MAJORITY))}),
    "rate-too-high": sound(epochs=jumping()),
    "rate-too-low": sound(epochs=epochs([LN_K - 0.1 * i for i in range(1, 13)])),
    "plateau": sound(epochs=epochs([1.5, 1.2, 1.1, *[1.05] * 13], lr=0)),
    "underfitting": sound(
        facts=facts(train=Score(0.5, 0.47, 0.53)), splits={"val": split(300, 600, {"confusion": None})}
    ),
    "overfitting": sound(facts=facts(train=Score(1.0, 0.996, 1.0)), splits={"val": split(480, 600)}),
    "best-at-the-end": sound(epochs=epochs(SOUND_LOSSES, [0.1 + 0.06 * i for i in range(12)])),
    "best-far-from-the-end": sound(epochs=epochs(SOUND_LOSSES, [0.5, 0.9, 0.95, 0.9, *[0.8] * 8])),
    "class-drags": sound(splits={"val": split(531, 600, counted(DRAGGED))}),
    "val-too-small": sound(splits={"val": split(18, 20)}),
    "val-far-from-test": sound(splits={"val": split(570, 600), "test": split(800, 1000)}),
    "val-unlike-train": with_facts(val_brightness=tuple(value + 30 for value in GREY)),
    "dead-units": with_facts(layers=(LayerFact(name="relu", units=64, dead=32),)),
    "batch-norm": with_facts(norms=(NormFact(name="norm", shift=0.9, log_ratio=0.1),)),
}


def test_there_is_a_fault_for_every_check():
    assert set(FAULTS) == set(CHECKS)


@pytest.mark.parametrize("name", list(FAULTS))
def test_each_fault_is_found_with_evidence_and_remedy_and_comes_back_from_json(name):
    finding = CHECKS[name](FAULTS[name])
    assert finding is not None
    assert finding.check == name
    assert any(character.isdigit() for character in finding.evidence)
    assert len(finding.remedy) > 20
    plain = json.loads(json.dumps(finding.to_json(), allow_nan=False))
    assert finding_from_json(plain) == finding


def test_a_sound_run_has_no_findings():
    found = examine(sound(), run="sound")
    assert found.findings == ()
    assert found.checks == tuple(CHECKS)
    assert found.not_made == {}


def test_an_input_is_held_against_what_the_weights_expect():
    def finding(used, expected):
        case = sound(input=json.loads(json.dumps(used.preprocess().to_dict())), expected_input=expected.to_dict())
        return CHECKS["input-unlike-backbone"](case)

    assert finding(IMAGENET, IMAGENET) is None
    assert "range" in finding(SIGNED, IMAGENET).evidence
    assert "color" in finding(CAFFE, SIGNED).evidence


def test_a_run_that_diverged_has_a_rate_that_is_too_high():
    finding = CHECKS["rate-too-high"](sound(epochs=(), events=({"event": "diverged"},)))
    assert finding is not None
    assert finding.severity == "error"


def test_a_rate_is_too_high_where_the_loss_waits_for_it_to_fall():
    val = [2.2 + 0.07 * (i % 2) for i in range(12)]
    waiting = epochs([2.2, *[2.1] * 8, 2.0, 1.8, 1.4], val=val)
    finding = CHECKS["rate-too-high"](sound(epochs=waiting))
    assert finding is not None
    assert "the last quarter" in finding.evidence
    assert CHECKS["rate-too-high"](sound(epochs=epochs([1.4] * 12, val=val))) is None


def test_without_the_network_the_checks_that_need_it_are_said_not_to_be_made():
    found = examine(sound(facts=None), run="x", reason="no network")
    assert set(found.not_made) == set(NEED_FACTS)
    assert set(found.checks) == set(CHECKS) - set(NEED_FACTS)


def test_a_run_without_anything_has_no_findings_and_no_error():
    bare = sound(epochs=(), splits={}, class_counts={}, findings=(), facts=None, input={})
    assert examine(bare, run="bare").findings == ()


def test_class_shares_that_differ_between_train_and_val_are_found_by_chi_squared():
    counts = {"train": (300,) * 10, "val": (200, *(40,) * 9)}
    finding = CHECKS["val-unlike-train"](sound(class_counts=counts))
    assert finding is not None
    expected = stats.chi2_contingency(np.array([counts["train"], counts["val"]])).pvalue
    assert f"{expected:.1g}" in finding.evidence


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe 1998, table II, example (a): 56 of 70 against 48 of 80 gives 0.0524 to 0.3339 by method 10
    a, b = split(56, 70).score, split(48, 80).score
    gap = score_checks._difference(a, b)
    assert (gap.low, gap.high) == pytest.approx((0.0524, 0.3339), abs=2e-4)


def test_the_worst_of_many_alike_classes_does_not_drag():
    generator = np.random.default_rng(0)
    hits = generator.binomial(20, 0.8, 10)
    confusion = [
        [int(h) if j == i else (20 - int(h)) * int(j == (i + 1) % 10) for j in range(10)] for i, h in enumerate(hits)
    ]
    assert CHECKS["class-drags"](sound(splits={"val": split(int(hits.sum()), 200, counted(confusion))})) is None


def test_the_loss_floor_of_smoothed_labels_is_their_entropy():
    case = sound(config=resolve({"label_smoothing": 0.1}))
    share = np.full(10, 0.01)
    share[3] += 0.9
    assert case.loss_floor == pytest.approx(stats.entropy(share))
    assert case.excess(case.loss_floor) == pytest.approx(0)
    assert case.excess(LN_K) == pytest.approx(1)


def test_findings_are_in_order_of_severity():
    findings = [CHECKS[name](FAULTS[name]) for name in ("val-too-small", "leak", "overfitting")]
    assert next(finding.check for finding in by_severity(findings)) == "leak"


def test_dead_units_and_norms_are_counted_over_all_batches():
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2.0, 1.0, 1.0]).view(4, 1, 1, 1))
        network[0].bias.copy_(torch.tensor([0.0, 0.0, -50.0, 0.0]))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 5, 5, generator=generator)
    with _watched(network) as watch, torch.no_grad():
        for part in images.split(20):
            network(part)
        seen = network[0](images)
    (layer,) = watch.layers()
    assert (layer.name, layer.units, layer.dead) == ("2", 4, 1)
    (norm,) = watch.norms()
    means, deviations = seen.mean((0, 2, 3)), seen.var((0, 2, 3), unbiased=False)
    assert norm.shift == pytest.approx(float(np.median((means.abs() / math.sqrt(1 + 1e-5)).numpy())), abs=1e-4)
    assert norm.log_ratio == pytest.approx(float(np.median(deviations.log().abs().numpy())), abs=1e-2)
    assert not network[2]._forward_hooks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return opsin.train("digits", epochs=3, out=out, name="digits", quiet=True, preflight=False)


def test_a_real_run_is_examined_kept_and_shown_in_its_report_without_a_look_at_test(run):
    found = diagnose(run)
    assert isinstance(found, Diagnosis)
    assert found.not_made == {}
    assert stored_diagnosis(run) == found
    assert run.log.test_openings == 0
    page = opsin.write_report(run).read_text()
    assert 'id="doctor"' in page
    for finding in found.findings:
        assert finding.check.replace("-", " ") in page


def test_a_finding_is_shown_in_the_report_with_figure_and_remedy(run):
    findings = tuple(CHECKS[name](FAULTS[name]) for name in ("rate-too-high", "class-drags"))
    RunWriter(run).extra(
        "diagnosis.json",
        Diagnosis(run="x", network=network_stamp(run), checks=("leak",), not_made={}, findings=findings).to_json(),
    )
    page = opsin.write_report(run).read_text()
    (run.path / "diagnosis.json").unlink()
    section = page[page.index('<section id="doctor"') : page.index('<section id="robustness"')]
    assert section.count("<svg") == 2
    assert "What to do" in section
    assert "find-lr" in section


def test_a_damaged_diagnosis_is_refused(run):
    RunWriter(run).extra("diagnosis.json", {"findings": [{"check": "x"}]})
    with pytest.raises(RunError, match="damaged"):
        stored_diagnosis(run)
    (run.path / "diagnosis.json").unlink()


def test_what_was_found_before_the_run_went_on_training_is_out_of_date(run):
    diagnose(run)
    opsin.robustness(run, changes=["shift"], most_samples=20)
    assert stored_diagnosis(run) is not None
    manifest = read_extra(run.path, "model/manifest.json")
    RunWriter(run).extra("model/manifest.json", manifest | {"weights.safetensors": "other"})
    assert stored_diagnosis(run) is None
    assert read_cards(run) == {}
    RunWriter(run).extra("model/manifest.json", manifest)


def part_score(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def multilabel(**changed):
    rows = [{"class": name, "support": 200, "average_precision": part_score(0.95)} for name in CLASSES]
    details = {"per_class": rows}
    fallen = tuple(
        replace(epoch, train_loss=epoch.train_loss * 0.3, val_loss=epoch.val_loss * 0.3) for epoch in sound().epochs
    )
    facts = replace(sound().facts, train=Score(0.96, 0.95, 0.97))
    val = SplitFacts(n=600, score=Score(0.95, 0.94, 0.96), details=details)
    given = {"task": "multilabel", "score": "mean_average_precision", "epochs": fallen, "facts": facts}
    return sound(**(given | {"splits": {"val": val}, "class_counts": {}} | changed))


def regress(values=(0.95, 0.94), **changed):
    rows = [{"name": name, "r2": part_score(value)} for name, value in zip(("length", "width"), values, strict=True)]
    val = SplitFacts(n=600, score=Score(0.945, 0.93, 0.96), details={"per_number": rows})
    facts = replace(sound().facts, train=Score(0.95, 0.94, 0.96))
    given = {"task": "regress", "score": "r2", "classes": ("length", "width"), "facts": facts}
    return sound(**(given | {"splits": {"val": val}, "class_counts": {}} | changed))


def test_nothing_is_said_of_sound_runs_of_tags_and_numbers():
    assert not examine(multilabel(), run="a").findings
    assert not examine(regress(), run="a").findings


def test_losses_are_measured_by_what_guessing_costs_the_task():
    assert multilabel().excess(math.log(2)) == pytest.approx(1)
    assert regress().excess(1.0) == pytest.approx(1)
    stuck = epochs([0.6] * 12, [0.3] * 12, lr=None)
    (found,) = [one for one in examine(multilabel(epochs=stuck), run="a").findings if one.check == "plateau"]
    assert "ln 2" in found.evidence


def test_a_tag_is_judged_by_its_average_precision_and_a_number_by_its_r2():
    rows = [{"class": name, "support": 200, "average_precision": part_score(0.95)} for name in CLASSES[1:]]
    rows.append({"class": "a", "support": 200, "average_precision": part_score(0.4), "recall": part_score(0.99)})
    val = SplitFacts(n=600, score=Score(0.9, 0.89, 0.91), details={"per_class": rows})
    found = score_checks.check_class_drags(multilabel(splits={"val": val}))
    assert found is not None
    assert "`a` scores 0.400" in found.evidence
    found = score_checks.check_class_drags(regress((0.95, 0.3)))
    assert found is not None
    assert "`width`" in found.evidence
    assert "measurements" in found.remedy
