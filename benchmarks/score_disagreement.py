"""How the scores of segmentation disagree, shown on the predictions of a run: numbers and figure of the documentation.

    python benchmarks/score_disagreement.py RUN --page docs/segmentation-scores.md --name person_voc

Scores the predictions on val, and beside them three answers that no network gave: nothing but the commonest class, and
the truth itself shrunk and grown by two pixels. Then looks for pairs of images that two scores rank the other way
round. With --page, the table is written between the marks of that name in the page, and the figure beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from opsin.data.load import load
from opsin.data.pack import pack
from opsin.errors import RunError
from opsin.figures import figure_to
from opsin.ops import masks as formulas
from opsin.ops.mask_pictures import overlaid
from opsin.runs import Run
from opsin.types import VOID, SizePolicy

NAMES = {
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}
PAIRS = (
    ("pixel_accuracy", "mean_iou"),
    ("mean_iou", "boundary_f1"),
    ("pixel_accuracy", "boundary_f1"),
)
MOVED_PX = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a finished run of segmentation")
    parser.add_argument("--page", type=Path, help="page whose part is written anew")
    parser.add_argument("--name", help="name of the part and of the figure; by default the data set's")
    parser.add_argument("--figure", type=Path, help="PNG; by default images/scores-NAME.png beside the page")
    options = parser.parse_args()
    run = Run(options.run)
    name = options.name or run.data.name
    kept = run.predictions("val")
    if "true_masks" not in kept:
        raise RunError("this run holds no true masks beside its predictions", where=run.path, do="train it again")
    masks, truth, classes = kept["masks"], kept["true_masks"], run.data.classes
    figure = options.figure or (options.page.parent if options.page else Path()) / "images" / f"scores-{name}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    pairs = draw(figure, run, masks, truth, classes)
    text = page_part(run, name, masks, truth, classes, pairs, figure)
    print(text)
    if options.page:
        write_part(options.page, name, text)


def whole_scores(masks: np.ndarray, truth: np.ndarray, num_classes: int) -> dict[str, float]:
    """The five scores over all pixels of all images."""
    confusion = formulas.confusions(masks, truth, num_classes).sum(0)
    edges = formulas.edge_counts(masks, truth, num_classes, tolerance=formulas.edge_tolerance(*truth.shape[1:])).sum(0)
    return {key: float(value) for key, value in table(confusion[None], edges[None]).items()}


def table(confusion: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """The five scores of confusions [N, K, K] and counts of edges [N, K, 4]: float64 [N] each."""
    found = {
        "pixel_accuracy": formulas.pixel_accuracy(confusion),
        "frequency_weighted_iou": formulas.frequency_weighted_iou(confusion),
        "mean_iou": formulas.class_mean(formulas.iou(confusion)),
        "mean_dice": formulas.class_mean(formulas.dice(confusion)),
        "boundary_f1": formulas.class_mean(formulas.boundary_scores(edges)[2]),
    }
    return {key: np.squeeze(value) for key, value in found.items()}


def single_scores(masks: np.ndarray, truth: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """The five scores of each image by itself."""
    tolerance = formulas.edge_tolerance(*truth.shape[1:])
    edges = formulas.edge_counts(masks, truth, num_classes, tolerance=tolerance)
    return table(formulas.confusions(masks, truth, num_classes), edges)


def made_up(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Answers that no network gave: the commonest class everywhere, and the truth with its objects moved in and out."""
    common = int(np.bincount(truth[truth != VOID]).argmax())
    known = np.where(truth == VOID, common, truth)
    shrunk, grown = known.copy(), known.copy()
    shrunk[formulas.widened(known == common, MOVED_PX)] = common
    for k in np.unique(known):
        if k != common:
            grown[formulas.widened(known == k, MOVED_PX) & (known == common)] = k
    return {
        "one class everywhere": np.full_like(known, common),
        f"the truth, objects {MOVED_PX} px smaller": shrunk,
        f"the truth, objects {MOVED_PX} px larger": grown,
    }


def most_opposed(scores: Mapping[str, np.ndarray], a: str, b: str, candidates: np.ndarray) -> tuple[int, int]:
    """The two images i, j of which a ranks i far above j, and b j far above i."""
    ranks = {key: stats.rankdata(scores[key][candidates]) for key in (a, b)}
    ahead = ranks[a][:, None] - ranks[a][None]
    behind = ranks[b][None] - ranks[b][:, None]
    i, j = np.unravel_index(np.minimum(ahead, behind).argmax(), ahead.shape)
    return int(candidates[i]), int(candidates[j])


def draw(path: Path, run: Run, masks: np.ndarray, truth: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """The pairs of images that scores disagree on most: photo with truth, and with prediction; and what each scores."""
    scores = single_scores(masks, truth, len(classes))
    known = np.where(truth == VOID, 0, truth)
    several = np.array([len(np.unique(m)) > 1 for m in known]) & ~np.isnan(scores["boundary_f1"])
    images = val_images(run, truth.shape[1:])
    background = 0 if classes[0] == "background" else None
    found = []
    with figure_to(path, 9.0, 2.5 * len(PAIRS)) as figure:
        axes = figure.subplots(len(PAIRS), 4, squeeze=False)
        for row, (a, b) in zip(axes, PAIRS, strict=True):
            pair = most_opposed(scores, a, b, np.flatnonzero(several))
            found.append({"a": a, "b": b, "images": [{k: float(scores[k][i]) for k in NAMES} for i in pair]})
            for side, i in enumerate(pair):
                for column, (mask, what) in enumerate(((truth[i], "truth"), (masks[i], "prediction"))):
                    axis = row[2 * side + column]
                    axis.imshow(overlaid(images[i], mask, background=background).transpose(1, 2, 0))
                    axis.set_xticks([])
                    axis.set_yticks([])
                    axis.set_title(what, fontsize=8.5, loc="left", color="#59636e")
                words = "\n".join(f"{NAMES[key]} {scores[key][i]:.3f}" for key in (a, b))
                row[2 * side].set_xlabel(f"{'AB'[side]}: {words}", fontsize=8.5, loc="left")
    return found


def val_images(run: Run, size: tuple[int, int]) -> np.ndarray:
    """The images of val as the network saw them, uint8 [N, C, H, W]."""
    config = run.config
    dataset = load(config.source, root=config.root, config=config.data, task="segment")
    policy = SizePolicy(height=size[0], width=size[1], fit=config.data.fit)
    return np.asarray(pack(dataset, policy, cache=None, splits=["val"])["val"].images)


def page_part(
    run: Run,
    name: str,
    masks: np.ndarray,
    truth: np.ndarray,
    classes: list[str],
    pairs: list[dict[str, Any]],
    figure: Path,
) -> str:
    """The part of the page as Markdown."""
    answers = {"the network": masks, **made_up(truth)}
    rows = {title: whole_scores(answer, truth, len(classes)) for title, answer in answers.items()}
    single = single_scores(masks, truth, len(classes))
    means = {key: float(np.nanmean(values)) for key, values in single.items()}
    lines = [
        f"`{run.data.name}`, val, {len(truth)} images of {truth.shape[2]}x{truth.shape[1]} px, {len(classes)} "
        f"classes, {run.summary.epochs} epochs of `{run.summary.model}`, seed {run.config.train.seed}:",
        "",
        f"| answer | {' | '.join(NAMES.values())} |",
        f"|---|{'---|' * len(NAMES)}",
        *(f"| {title} | {' | '.join(f'{row[key]:.3f}' for key in NAMES)} |" for title, row in rows.items()),
        f"| the network, mean over single images | {' | '.join(f'{means[key]:.3f}' for key in NAMES)} |",
        "",
        "Rank correlation of the scores over single images (Spearman): "
        + "; ".join(
            f"{NAMES[a]} and {NAMES[b]} {stats.spearmanr(single[a], single[b], nan_policy='omit').statistic:.2f}"
            for a, b in combinations(NAMES, 2)
            if (a, b) in PAIRS or (a, b) == ("mean_iou", "mean_dice")
        )
        + ".",
        "",
        f"![Pairs of images that two scores rank the other way round](images/{figure.name})",
        "",
        "Each row shows the two images that its two scores disagree on most:",
        "",
        *(
            f"- {NAMES[pair['a']]} prefers A ({pair['images'][0][pair['a']]:.3f} against "
            f"{pair['images'][1][pair['a']]:.3f}), {NAMES[pair['b']]} prefers B "
            f"({pair['images'][1][pair['b']]:.3f} against {pair['images'][0][pair['b']]:.3f})."
            for pair in pairs
        ),
        "",
        f"Made by `python benchmarks/score_disagreement.py RUN --page docs/segmentation-scores.md --name {name}`.",
    ]
    return "\n".join(lines)


def write_part(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of `name`; a page without them gets them at its end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    content = page.read_text(encoding="utf-8")
    if begin not in content:
        content += f"\n{begin}\n{end}\n"
    before, rest = content.split(begin, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
