"""The layouts of data sets that Opsin reads, in one table: recognition, help, documentation and error texts follow it.

A layout says of what form a path must be, which function tells whether it is recognized there, and which one reads it.
The first layout of the table that is recognized is taken; where the user asks for a task, those of that task come
first. Functions are named and not imported, so that the command line can show the table without loading any reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opsin.errors import DataError
from opsin.types import TaskName

if TYPE_CHECKING:
    from opsin.data.readers.found import Found
    from opsin.data.readers.place import Place

FOLDER = "folder"
TITLES: dict[TaskName, str] = {
    "classify": "Classes",
    "localize": "Boxes",
    "segment": "Masks",
    "multilabel": "Several classes an image",
    "regress": "Numbers",
}
"""What the layouts of a task are called in help and documentation."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of data sets.

    Attributes:
        name: what a person calls it.
        task: the task of sets in this layout.
        form: "folder", or the suffix of a file.
        looks: what it looks like, a line of Markdown for the documentation.
        read: module in `data.readers` and its function of a `Place` that reads it.
        seen: the same of a function that tells whether a place of this form has this layout; "" where the form says it.
        inside: whether a file in this layout is found in a folder that holds it and its images.
        also: what a set in another layout holds besides, if it has this one too; "" where that is not said.
    """

    name: str
    task: TaskName
    form: str
    looks: str
    read: str
    seen: str = ""
    inside: bool = False
    also: str = ""

    def at(self, place: Place) -> Place | None:
        """The place that this layout's reader takes, or None where `place` is of another form or another layout.

        Raises:
            InputError: a file that tells it is damaged.
            DataError: a folder with several files of annotations.
        """
        if place.form != self.form:
            if not (self.inside and place.form == FOLDER and place.listed and place.listed.form == self.form):
                return None
            place = place.listed
        return place if not self.seen or _function(self.seen)(place) else None


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="shards",
        task="classify",
        form=FOLDER,
        looks="what `opsin data shard` writes: tars with `index.json`. Of any task; read shard by shard, never whole",
        seen="shards:is_sharded",
        read="shards:read_shards",
    ),
    Layout(
        name="VOC 2012 masks",
        task="segment",
        form=FOLDER,
        looks="`ImageSets/Segmentation/*.txt` beside `SegmentationClass/` and `JPEGImages/`",
        seen="mask_files:is_voc",
        read="mask_files:read_voc_place",
    ),
    Layout(
        name="CamVid",
        task="segment",
        form=FOLDER,
        looks="`train/` beside `trainannot/`, and so for val and test",
        seen="mask_files:is_camvid",
        read="mask_files:read_camvid_place",
    ),
    Layout(
        name="COCO masks by split",
        task="segment",
        form=FOLDER,
        looks="`annotations/instances_train*.json` beside `train*/`, or `train/_annotations.coco.json` (Roboflow), and "
        "so for val and test",
        seen="coco_masks:has_split_files",
        read="coco_masks:read_coco_masks",
    ),
    Layout(
        name="YOLO",
        task="localize",
        form=FOLDER,
        looks="`data.yaml` (`names`, and a folder for `train`, `val`, `test`), photos below `images/`, and for each a "
        "`.txt` below `labels/` with lines of `class x y w h`",
        seen="yolo:is_yolo",
        read="yolo:read_yolo",
        also="boxes",
    ),
    Layout(
        name="pairs",
        task="segment",
        form=FOLDER,
        looks="`images/` beside `masks/` (or `JPEGImages`, `SegmentationClass`, `labels`, …), at once, inside `train`, "
        "`val`, `test`, or holding them. An image and its mask have the same stem. `classes.txt` may name the classes",
        seen="mask_files:holds_pairs",
        read="mask_files:read_pairs",
    ),
    Layout(
        name="folder of arrays",
        task="localize",
        form=FOLDER,
        looks="`training_images.npy`, `training_labels.npy`, `training_boxes.npy` (pixels or shares of the sides), and "
        "so for `validation_` and `test_`",
        seen="array_files:is_array_folder",
        read="array_files:read_array_folder",
        also="boxes",
    ),
    Layout(
        name="Pascal VOC",
        task="localize",
        form=FOLDER,
        looks="`Annotations/*.xml` (pixels, counted from 1 or from 0) beside `JPEGImages/`, perhaps "
        "`ImageSets/Main/*.txt` for the splits",
        seen="box_files:is_voc",
        read="box_files:read_voc",
        also="boxes",
    ),
    Layout(
        name="COCO",
        task="localize",
        form=".json",
        looks="a `.json` with `images`, `annotations` (`bbox`: x, y, width, height in pixels), `categories`; or a "
        "folder that holds one",
        inside=True,
        read="box_files:read_coco",
    ),
    Layout(
        name="COCO masks",
        task="segment",
        form=".json",
        looks="a `.json` whose annotations have polygons or run lengths, with `--task segment`; or a folder that holds "
        "one",
        inside=True,
        seen="coco_masks:holds_outlines",
        read="coco_masks:read_coco_masks",
        also="outlines",
    ),
    Layout(
        name="COCO categories",
        task="multilabel",
        form=".json",
        looks="a COCO `.json`, with `--task multilabel`: the categories of an image's objects; or a folder "
        "that holds one",
        inside=True,
        seen="tag_files:is_asked",
        read="tag_files:read_tag_coco",
    ),
    Layout(
        name="table of boxes",
        task="localize",
        form=".csv",
        looks="`.csv` with `path,label,xmin,ymin,xmax,ymax` (pixels, or shares of the sides), and perhaps "
        "`split`, `group`",
        inside=True,
        seen="box_files:is_box_table",
        read="box_files:read_box_table",
    ),
    Layout(
        name="table of tags",
        task="multilabel",
        form=".csv",
        looks="`.csv` with `path` and `label` (or `labels`, `tags`), of which some value has `;` or `|` between names; "
        "perhaps `split` and `group`",
        seen="tag_files:holds_tags",
        read="tag_files:read_tag_table",
    ),
    Layout(
        name="table of numbers",
        task="regress",
        form=".csv",
        looks="`.csv` with `path` and `value`, or `values` with `;` between them, or the columns that "
        "`--number-columns` names; perhaps `split` and `group`",
        seen="number_files:holds_numbers",
        read="number_files:read_numbers",
    ),
    Layout(
        name="table",
        task="classify",
        form=".csv",
        looks="`.csv` with the columns `path,label`, and perhaps `split` and `group`; paths are relative to the table. "
        "Samples of one group stay in one split",
        read="folders:read_csv",
    ),
    Layout(
        name="arrays",
        task="classify",
        form=".npz",
        looks="`.npz` with `images` (or `x`) and `labels` (or `y`), each alone or by split: `x_train`, `train_images`, "
        "…; perhaps `groups`, `ids`, and `classes` (names). With `boxes`, `masks`, `tags` or `numbers` it is a set for "
        "those. From Python: a mapping of the same arrays",
        read="array_files:read_npz_place",
    ),
    Layout(
        name="IDX",
        task="classify",
        form=FOLDER,
        looks="MNIST's files, `train-images-idx3-ubyte` and so on, plain or `.gz`",
        seen="publishers:is_idx",
        read="publishers:read_idx_place",
    ),
    Layout(
        name="CIFAR binaries",
        task="classify",
        form=FOLDER,
        looks="`data_batch_1.bin` to `5` and `test_batch.bin` of CIFAR-10, or `train.bin` and `test.bin` of CIFAR-100",
        seen="publishers:is_cifar",
        read="publishers:read_cifar_place",
    ),
    Layout(
        name="WebDataset",
        task="classify",
        form=FOLDER,
        looks="a tar, or a folder of tars (`train-0000.tar`, `val-0000.tar`), in which `KEY.jpg` stands beside "
        "`KEY.cls`; `classes.txt` may name the numbers",
        seen="webdataset:holds_samples",
        read="webdataset:read_webdataset",
    ),
    Layout(
        name="Parquet",
        task="classify",
        form=".parquet",
        looks="`.parquet` with `image` (bytes of image files) and `label`, as Hugging Face's data sets have them; "
        "extra `parquet`",
        read="parquet_sets:read_parquet",
    ),
    Layout(
        name="folder of Parquet",
        task="classify",
        form=FOLDER,
        looks="such files at once or in `data/`: `train-00000-of-00001.parquet`, `validation…`, `test…`",
        seen="parquet_sets:holds_parquet",
        read="parquet_sets:read_parquet",
    ),
    Layout(
        name="folders of tags",
        task="multilabel",
        form=FOLDER,
        looks="class folders, with `--task multilabel`: an image that lies in several has all their classes",
        seen="tag_files:is_asked",
        read="tag_files:read_tag_folder",
    ),
    Layout(
        name="class folders",
        task="classify",
        form=FOLDER,
        looks="`photos/CLASS/*.jpg`; or divided: `train/CLASS/…`, `val/CLASS/…`, `test/CLASS/…` (`training`, `valid`, "
        "`validation`, `testing` are taken too). Folders are classes in natural order (2 before 10)",
        read="folders:read_folder",
    ),
)
"""In the order of recognition: what is told by more comes before what is told by less."""


def read_layout(place: Place) -> Found:
    """The data set at a place, as its publisher divides it.

    Raises:
        DataError: it is of no known layout, or what it holds cannot be used.
        InputError: a file is damaged.
    """
    for layout in _in_order(place.task):
        if (where := layout.at(place)) is not None:
            found: Found = _function(layout.read)(where)
            return replace(found, notes=(*found.notes, *_other_targets(where, layout)))
    raise DataError(
        "Opsin cannot read this file as a data set",
        where=place.path,
        got=place.path.suffix or "no suffix",
        expected=f"a folder, or a file that ends in {', '.join(_suffixes())}",
        do="`opsin data layouts` shows what they look like",
    )


def layout_at(place: Place) -> Layout | None:
    """The layout that a place has, unread.

    Raises:
        InputError: a file that tells it is damaged.
        DataError: a folder with several files of annotations.
    """
    return next((layout for layout in _in_order(place.task) if layout.at(place) is not None), None)


def help_text() -> str:
    """The layouts by task in one line, for the command line."""
    kinds = (f"{title}: {', '.join(layout.name for layout in _of_task(task))}." for task, title in TITLES.items())
    return " ".join(kinds)


def markdown_table(task: TaskName) -> str:
    """The layouts of a task as a Markdown table, for the documentation."""
    rows = (f"| {layout.name} | {layout.looks} |" for layout in _of_task(task))
    return "\n".join(("| layout | what it looks like |", "|---|---|", *rows))


def _of_task(task: TaskName) -> list[Layout]:
    return [layout for layout in LAYOUTS if layout.task == task]


def _suffixes() -> list[str]:
    return sorted({layout.form for layout in LAYOUTS if layout.form != FOLDER})


def _in_order(task: TaskName | None) -> list[Layout]:
    """The table, with the layouts of the task that is asked for first."""
    return sorted(LAYOUTS, key=lambda layout: task is not None and layout.task != task)


def _other_targets(place: Place, taken: Layout) -> Iterator[str]:
    """Notes on what the place could serve besides, where the user has not asked for a task."""
    if place.task is not None:
        return
    others = [layout for layout in LAYOUTS if layout.also and layout.task != taken.task and layout.form == place.form]
    for layout in others:
        if layout.at(place) is not None:
            yield f"there are {layout.also} too: `--task {layout.task}` uses them"


def _function(name: str) -> Callable[[Place], Any]:
    module, function = name.split(":")
    found: Callable[[Place], Any] = getattr(import_module(f"opsin.data.readers.{module}"), function)
    return found
