"""`opsin predict`: predictions of a trained network for image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from cyclopts import Parameter

from opsin.cli.options import WHOLE, DeviceOption, JsonFlag, OutOption, QuietFlag, SeedOption, TtaOption, views_of
from opsin.cli.output import print_json, print_line, print_note

if TYPE_CHECKING:
    import torch

    from opsin.artifact import Artifact
    from opsin.inference.cautious import Caution
    from opsin.models.wrappers.views import ViewName
    from opsin.progress import Reporter
    from opsin.types import Prediction, Skipped

    class _Common(TypedDict):
        """What every way of prediction takes."""

        device: torch.device
        skipped: list[Skipped] | None
        report: Reporter

    class _Asked(TypedDict):
        """What is asked of the answers."""

        coverage: float | None
        abstain: float | None


def predict(
    run: str,
    /,
    *images: Path,
    out: OutOption = "runs",
    masks: Annotated[
        Path | None, Parameter(help="Folder for predicted masks, PNG in the size of each image (segmentation).")
    ] = None,
    boxes: Annotated[
        Path | None, Parameter(help="Folder for pictures with the predicted box drawn in (localization).")
    ] = None,
    csv: Annotated[
        Path | None,
        Parameter(
            help="Table of the predictions: file, label, score, box if any, and p_CLASS for each class: "
            "its probability, or its share of the mask."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        WHOLE,
        Parameter(help="Predict masks window by window, at the photo's own scale: side of a tile in px."),
    ] = None,
    overlap: Annotated[
        int | None,
        WHOLE,
        Parameter(help="With --tile: margin around each tile in px; by default the receptive field of a pixel."),
    ] = None,
    tta: TtaOption = None,
    coverage: Annotated[
        float | None,
        Parameter(help="Also give the set of classes that holds the true one as often as this, e.g. 0.95."),
    ] = None,
    abstain: Annotated[
        float | None,
        Parameter(help="Give no answer where it would be too risky: at most this share of the others is wrong."),
    ] = None,
    device: DeviceOption = "auto",
    weights: Annotated[
        str | None,
        Parameter(help="For a published network: a file, `package`, or `timm` or `torchvision`, which download."),
    ] = None,
    weights_range: Annotated[
        str | None, Parameter(help="What these weights expect, if they do not say: unit, signed, imagenet, caffe …")
    ] = None,
    strict: Annotated[
        bool, Parameter(negative="", help="Give no prediction at all if a file cannot be read (exit status 2).")
    ] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Predict images: files, or folders of them.

    Exit status 3: files that cannot be read were left out; they are named, under `skipped` in JSON.

    Parameters
    ----------
    run
        Run by path or name, a model folder, or a published network (`opsin models`), e.g. mobilenet_v2.
    images
        Image files and folders.
    """
    from opsin.api.verbs import is_published, model_folder
    from opsin.artifact import load_proved
    from opsin.devices import pick_device
    from opsin.errors import RefusedError
    from opsin.inference.table import check_table_name, write_predictions
    from opsin.progress import Reporter

    if not images:
        raise RefusedError("no image to predict", do="name files or folders after the run")
    if csv is not None:
        check_table_name(csv)
    report, views, place = Reporter(quiet=quiet), views_of(tta), pick_device(device)
    skipped: list[Skipped] | None = None if strict else []
    cautious = coverage is not None or abstain is not None
    if cautious:
        _refuse_with_caution(masks=masks, boxes=boxes, tile=tile, tta=tta, weights=weights)
    if weights is not None or is_published(run, out):
        _refuse_for_published(masks=masks, boxes=boxes, tile=tile, overlap=overlap)
        artifact, line = _published(run, weights, weights_range, report=report), _top_line
    else:
        if weights_range is not None:
            raise RefusedError("a run knows what its network expects", got=weights_range, do="leave it out")
        _refuse_combinations(masks=masks, boxes=boxes, tile=tile, overlap=overlap, tta=tta)
        artifact, line = load_proved(model_folder(run, out), device=place), _line
    caution: Caution | None = None
    if cautious:
        from opsin.inference.cautious import predict_cautiously

        asked: _Asked = {"coverage": coverage, "abstain": abstain}
        found, caution = predict_cautiously(artifact, images, **asked, device=place, skipped=skipped, report=report)
    else:
        found = _found(
            artifact,
            images,
            masks=masks,
            boxes=boxes,
            tile=tile,
            overlap=overlap,
            views=views,
            device=place,
            skipped=skipped,
            report=report,
        )
    if csv is not None:
        write_predictions(csv, found, artifact.classes, box=artifact.task == "localize")
    if json_:
        lost = [asdict(file) for file in skipped or ()]
        told = {} if caution is None else {"caution": caution.to_json()}
        print_json({"predictions": [prediction.to_json() for prediction in found], "skipped": lost} | told)
    else:
        for prediction in found:
            print_line(line(prediction))
    if caution is not None and not quiet:
        for note in caution.notes:
            print_note(f"note: {note}")
    return _tell_skipped(skipped or ())


def _tell_skipped(skipped: Sequence[Skipped]) -> int:
    """Name the files that were left out, on stderr; returns the exit status."""
    from opsin.io.gate import printable

    for file in skipped:
        print_note(f"left out: {printable(file.file)}: {file.reason}")
    if skipped:
        print_note(f"files that were left out: {len(skipped):,}")
    return 3 if skipped else 0


def _refuse_combinations(
    *, masks: Path | None, boxes: Path | None, tile: int | None, overlap: int | None, tta: str | None
) -> None:
    """Refuse options to which no network has an answer together.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if boxes is not None and (masks is not None or tile is not None):
        got = "--boxes with " + ("--masks" if masks is not None else "--tile")
        raise RefusedError("a network predicts boxes or masks, not both", got=got, do="leave one of them out")
    if overlap is not None and tile is None:
        raise RefusedError("an overlap without tiles", got=overlap, do="add --tile 512")
    if tile is not None and masks is None:
        raise RefusedError("masks predicted in tiles are written to files", do="add --masks FOLDER")
    if tile is not None and tta is not None:
        raise RefusedError(
            "windows are seen once each, as they are", got="--tta with --tile", do="leave one of them out"
        )


def _refuse_with_caution(**asked: object) -> None:
    """Refuse options beside which no coverage and no risk is known.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if got := [f"--{name}" for name, value in asked.items() if value is not None]:
        what, do = "coverage and risk are known for classes of images as they are", "leave them out"
        raise RefusedError(what, got=", ".join(got), do=do)


def _found(
    model: Artifact,
    images: tuple[Path, ...],
    *,
    masks: Path | None,
    boxes: Path | None,
    tile: int | None,
    overlap: int | None,
    views: Sequence[ViewName],
    device: torch.device,
    skipped: list[Skipped] | None,
    report: Reporter,
) -> list[Prediction]:
    """What a network says of the images."""
    from opsin.inference.pictures import predict_pictured
    from opsin.inference.predictor import predict_files
    from opsin.inference.tiles import predict_tiled

    common: _Common = {"device": device, "skipped": skipped, "report": report}
    if tile is not None and masks is not None:
        return predict_tiled(model, images, masks=masks, tile=tile, overlap=overlap, **common)
    if boxes is not None:
        return predict_pictured(model, images, boxes=boxes, views=views, **common)
    return predict_files(model, images, masks=masks, views=views, **common)


def _refuse_for_published(**asked: object) -> None:
    """Refuse options that a network of ImageNet's classes has no answer to.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if got := [f"--{name}" for name, value in asked.items() if value is not None]:
        raise RefusedError("published networks tell classes, not boxes or masks", got=", ".join(got), do="name a run")


def _published(name: str, weights: str | None, weights_range: str | None, *, report: Reporter) -> Artifact:
    """A published network, with notes on its weights told."""
    from opsin.inference.published import published_artifact

    artifact, notes = published_artifact(name, weights=weights, weights_range=weights_range)
    for note in notes:
        report.message(f"weights: {note}")
    return artifact


def _line(prediction: Prediction) -> str:
    """A prediction of a run in a line."""
    from opsin.io.gate import printable

    notes = f"  ({'; '.join(prediction.notes)})" if prediction.notes else ""
    box = f" at {', '.join(f'{edge:.1f}' for edge in prediction.box)}" if prediction.box else ""
    label = f"{printable(prediction.label)} {prediction.score:.1%}{box}"
    if prediction.answered is False:
        label = f"no answer (rather {label})"
    if prediction.possible is not None:
        label += f", set: {', '.join(map(printable, prediction.possible)) or 'empty'}"
    return f"{printable(prediction.file)}: {label}{notes}"


def _top_line(prediction: Prediction) -> str:
    """A prediction of many classes in a line: the likeliest."""
    from opsin.io.gate import printable

    top = ", ".join(f"{printable(label)} {share:.1%}" for label, share in prediction.top)
    return f"{printable(prediction.file)}: {top}"
