"""`opsin predict`: predictions of a trained network for image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
        """Arguments of every way of predicting."""

        device: torch.device
        skipped: list[Skipped] | None
        report: Reporter


def predict(
    run: str,
    /,
    *images: Path,
    out: OutOption = "runs",
    masks: Annotated[
        Path | None, Parameter(help="Folder for predicted masks, PNG files of each image's size (segmentation).")
    ] = None,
    boxes: Annotated[
        Path | None, Parameter(help="Folder for pictures with the predicted box drawn (localization).")
    ] = None,
    csv: Annotated[
        Path | None,
        Parameter(
            help="CSV table of the predictions: file, label, score, box if any, and p_CLASS for each class: "
            "its probability, or its share of the mask."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        WHOLE,
        Parameter(help="Predict masks tile by tile, at the photo's own scale: side of a tile in px."),
    ] = None,
    overlap: Annotated[
        int | None,
        WHOLE,
        Parameter(help="With --tile: margin around each tile in px; by default the receptive field of a pixel."),
    ] = None,
    tta: TtaOption = None,
    coverage: Annotated[
        float | None,
        Parameter(help="Also give a set of classes that contains the true one with this probability, e.g. 0.95."),
    ] = None,
    abstain: Annotated[
        float | None,
        Parameter(help="Abstain where the risk is too high: at most this share of the given answers is wrong."),
    ] = None,
    device: DeviceOption = "auto",
    weights: Annotated[
        str | None,
        Parameter(help="Weights of a published network: a file, `package`, or `timm` or `torchvision` (downloads)."),
    ] = None,
    weights_range: Annotated[
        str | None,
        Parameter(
            help="Input range these weights expect, where their file does not say: unit, signed, imagenet, caffe …"
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        Parameter(
            help="Folder whose images are predicted as they come, those that are there first, until Ctrl-C. With "
            "--json, each line is one document."
        ),
    ] = None,
    strict: Annotated[
        bool, Parameter(negative="", help="Refuse the whole call if a file cannot be read (exit status 2).")
    ] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Predict images: files, or folders of them.

    Exit status 3: unreadable files were skipped; they are named, under `skipped` in JSON.

    Parameters
    ----------
    run
        Run by path or name, a model folder, or a published network (`opsin models`), e.g. mobilenet_v2.
    images
        Image files and folders.
    """
    from opsin.devices import pick_device
    from opsin.errors import RefusedError
    from opsin.inference.table import check_table_name
    from opsin.progress import Reporter
    from opsin.training.engine.machine import set_allocator

    asked = _Asked(
        masks_folder=masks,
        boxes_folder=boxes,
        tile=tile,
        overlap=overlap,
        tta=tta,
        coverage=coverage,
        abstain=abstain,
        weights=weights,
        weights_range=weights_range,
    )
    if not images and watch is None:
        raise RefusedError("no image to predict", do="name files or folders after the run, or a folder after --watch")
    if csv is not None:
        check_table_name(csv)
    report, views, place = Reporter(quiet=quiet), views_of(tta), pick_device(device)
    set_allocator(keep_memory=True)  # else each batch maps its activations anew, which takes a third of its time
    if watch is not None:
        _refuse_with_watch(
            IMAGES=images or None,
            boxes=boxes,
            csv=csv,
            tile=tile,
            coverage=coverage,
            abstain=abstain,
            strict=strict or None,
        )
    artifact, line = _opened(run, out, asked, place, report)
    if watch is not None:
        from opsin.cli.watching import watch as watch_folder
        from opsin.inference.predictor import Predictor

        predictor = Predictor(artifact, device=place, views=views)
        return watch_folder(predictor, watch, masks=masks, line=line, as_json=json_)
    skipped: list[Skipped] | None = None if strict else []
    found, caution = _predicted(artifact, images, asked, views, {"device": place, "skipped": skipped, "report": report})
    if csv is not None:
        _write_table(csv, found, artifact)
    _tell(found, caution, skipped, line=line, as_json=json_)
    if caution is not None and not quiet:
        for note in caution.notes:
            print_note(f"note: {note}")
    return _tell_skipped(skipped or ())


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What of the options decides how images are predicted, as given."""

    masks_folder: Path | None
    boxes_folder: Path | None
    tile: int | None
    overlap: int | None
    tta: str | None
    coverage: float | None
    abstain: float | None
    weights: str | None
    weights_range: str | None

    @property
    def cautious(self) -> bool:
        """Whether predictions are sets of classes, or may be left out."""
        return self.coverage is not None or self.abstain is not None


def _opened(
    run: str, out: str, asked: _Asked, device: torch.device, report: Reporter
) -> tuple[Artifact, Callable[[Prediction], str]]:
    """The network, and how one of its predictions is written on a line.

    Raises:
        RefusedError: it cannot do what is asked for.
    """
    from opsin.api.verbs import is_published, model_folder
    from opsin.artifact import opened
    from opsin.errors import RefusedError
    from opsin.tasks import get_task

    masks, boxes, tile, overlap, tta = asked.masks_folder, asked.boxes_folder, asked.tile, asked.overlap, asked.tta
    if asked.cautious:
        _refuse_with_caution(masks=masks, boxes=boxes, tile=tile, tta=tta, weights=asked.weights)
    if asked.weights is not None or is_published(run, out):
        _refuse_for_published(masks=masks, boxes=boxes, tile=tile, overlap=overlap)
        return _published(run, asked.weights, asked.weights_range, report=report), _top_line
    if asked.weights_range is not None:
        raise RefusedError(
            "the input range of a run is fixed by its training",
            where="--weights-range",
            got=asked.weights_range,
            do="leave it out",
        )
    _refuse_combinations(masks=masks, boxes=boxes, tile=tile, overlap=overlap, tta=tta)
    artifact = opened(model_folder(run, out), device=device)
    return artifact, _line if get_task(artifact.task).score_is_of_label else _label_line


def _predicted(
    model: Artifact, images: tuple[Path, ...], asked: _Asked, views: Sequence[ViewName], common: _Common
) -> tuple[list[Prediction], Caution | None]:
    """The predictions of a network for the images; with how cautious they are, where that was asked for."""
    from opsin.inference.cautious import predict_cautiously
    from opsin.inference.pictures import predict_pictured
    from opsin.inference.predictor import predict_files
    from opsin.inference.tiles import predict_tiled

    if asked.cautious:
        return predict_cautiously(model, images, coverage=asked.coverage, abstain=asked.abstain, **common)
    if asked.tile is not None and asked.masks_folder is not None:
        found = predict_tiled(model, images, masks=asked.masks_folder, tile=asked.tile, overlap=asked.overlap, **common)
    elif asked.boxes_folder is not None:
        found = predict_pictured(model, images, boxes=asked.boxes_folder, views=views, **common)
    else:
        found = predict_files(model, images, masks=asked.masks_folder, views=views, **common)
    return found, None


def _write_table(csv: Path, found: Sequence[Prediction], artifact: Artifact) -> None:
    from opsin.inference.table import write_predictions
    from opsin.tasks import get_task

    task = get_task(artifact.task)
    write_predictions(csv, found, artifact.classes, box=task.gives_boxes, prefix=task.column_prefix)


def _tell(
    found: Sequence[Prediction],
    caution: Caution | None,
    skipped: Sequence[Skipped] | None,
    *,
    line: Callable[[Prediction], str],
    as_json: bool,
) -> None:
    """Print the predictions."""
    if as_json:
        lost = [asdict(file) for file in skipped or ()]
        told = {} if caution is None else {"caution": caution.to_json()}
        print_json({"predictions": [prediction.to_json() for prediction in found], "skipped": lost} | told)
        return
    for prediction in found:
        print_line(line(prediction))


def _tell_skipped(skipped: Sequence[Skipped]) -> int:
    """Name the skipped files on stderr; returns the exit status."""
    from opsin.io.gate import printable

    for file in skipped:
        print_note(f"skipped: {printable(file.file)}: {file.reason}")
    if skipped:
        print_note(f"skipped files: {len(skipped):,}")
    return 3 if skipped else 0


def _refuse_combinations(
    *, masks: Path | None, boxes: Path | None, tile: int | None, overlap: int | None, tta: str | None
) -> None:
    """Refuse combinations of options that no network supports.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if boxes is not None and (masks is not None or tile is not None):
        got = "--boxes with " + ("--masks" if masks is not None else "--tile")
        raise RefusedError("a network predicts boxes or masks, not both", got=got, do="leave one of them out")
    if overlap is not None and tile is None:
        raise RefusedError("--overlap needs --tile", got=overlap, do="add --tile 512")
    if tile is not None and masks is None:
        raise RefusedError("--tile needs a folder for the masks", do="add --masks FOLDER")
    if tile is not None and tta is not None:
        raise RefusedError(
            "test-time augmentation does not apply to tiles", got="--tta with --tile", do="leave one of them out"
        )


def _refuse_with_caution(**asked: object) -> None:
    """Refuse options for which coverage and risk are not known.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if got := [f"--{name}" for name, value in asked.items() if value is not None]:
        what, do = "coverage and risk are known only for classes of unmodified images", "leave them out"
        raise RefusedError(what, got=", ".join(got), do=do)


def _refuse_with_watch(**asked: object) -> None:
    """Refuse options that need all images at once.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if got := [name if name.isupper() else f"--{name}" for name, value in asked.items() if value is not None]:
        what, do = "--watch predicts one image after another, alone", "leave them out"
        raise RefusedError(what, got=", ".join(got), do=do)


def _refuse_for_published(**asked: object) -> None:
    """Refuse options that do not apply to networks of ImageNet's classes.

    Raises:
        RefusedError: naming them.
    """
    from opsin.errors import RefusedError

    if got := [f"--{name}" for name, value in asked.items() if value is not None]:
        raise RefusedError("published networks predict classes only", got=", ".join(got), do="name a run")


def _published(name: str, weights: str | None, weights_range: str | None, *, report: Reporter) -> Artifact:
    """A published network; notes on its weights are printed."""
    from opsin.inference.published import published_artifact

    artifact, notes = published_artifact(name, weights=weights, weights_range=weights_range)
    for note in notes:
        report.message(f"weights: {note}")
    return artifact


def _line(prediction: Prediction) -> str:
    """A prediction of a run as one line."""
    from opsin.io.gate import printable

    notes = f"  ({'; '.join(prediction.notes)})" if prediction.notes else ""
    box = f" at {', '.join(f'{edge:.1f}' for edge in prediction.box)}" if prediction.box else ""
    label = f"{printable(prediction.label)} {prediction.score:.1%}{box}"
    if prediction.answered is False:
        label = f"abstained (likeliest {label})"
    if prediction.possible is not None:
        label += f", set: {', '.join(map(printable, prediction.possible)) or 'empty'}"
    return f"{printable(prediction.file)}: {label}{notes}"


def _label_line(prediction: Prediction) -> str:
    """A prediction with one label, as one line."""
    from opsin.io.gate import printable

    notes = f"  ({'; '.join(prediction.notes)})" if prediction.notes else ""
    return f"{printable(prediction.file)}: {printable(prediction.label)}{notes}"


def _top_line(prediction: Prediction) -> str:
    """A prediction of many classes as one line: the likeliest."""
    from opsin.io.gate import printable

    top = ", ".join(f"{printable(label)} {share:.1%}" for label, share in prediction.top)
    return f"{printable(prediction.file)}: {top}"
