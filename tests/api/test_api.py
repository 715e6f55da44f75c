"""The public API: every name is there, documented, and arrays and PyTorch's data sets become data sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import opsin
from opsin import plugins
from opsin.data.readers.found import Found

RUN = Path(__file__).parents[1] / "runs" / "fixtures" / "v1" / "digits"


@pytest.mark.parametrize("name", opsin.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(opsin, name).__doc__


def test_every_error_of_the_tree_is_public() -> None:
    from opsin import errors

    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert tree <= set(opsin.__all__)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, opsin; opsin.models; assert 'torch' not in sys.modules; opsin.OpsinError"
    subprocess.run([sys.executable, "-c", code], check=True)


def images_and_labels(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, 1, 12, 12), dtype=np.uint8), np.arange(count) % 2


def test_arrays_become_a_data_set_with_splits() -> None:
    images, labels = images_and_labels()
    data = opsin.Dataset.from_arrays(images=images, labels=labels, classes=["a", "b"])
    assert data.classes == ("a", "b")
    assert sum(len(source) for source in data.splits.values()) == 40
    assert isinstance(data, opsin.Dataset)


def test_a_pytorch_data_set_keeps_its_splits_pixels_and_labels() -> None:
    images, labels = images_and_labels()
    floats = torch.from_numpy(images).float() / 255
    train = TensorDataset(floats[:30], torch.from_numpy(labels[:30]))
    test = TensorDataset(floats[30:], torch.from_numpy(labels[30:]))
    data = opsin.Dataset.from_torch(train, test=test, classes=("even", "odd"))
    assert np.array_equal(data.splits["test"].image(3), images[33])
    assert data.splits["test"].labels is not None
    assert data.splits["test"].labels.tolist() == labels[30:].tolist()


@pytest.mark.parametrize(
    ("sample", "match"),
    [
        (torch.zeros(1, 4, 4), "not a pair"),
        ((torch.full((1, 4, 4), -2.0), 0), "not pixel values"),
        ((torch.zeros(5, 4, 4), 0), "not an image"),
        ((torch.zeros(1, 4, 4), 0.5), "not a whole number"),
    ],
)
def test_a_sample_that_is_no_image_with_a_label_is_refused(sample: object, match: str) -> None:
    with pytest.raises(opsin.DataError, match=match):
        opsin.Dataset.from_torch([sample, sample])  # type: ignore[arg-type]


def test_a_data_loader_is_refused_with_what_to_give_instead() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8), torch.arange(4)))
    with pytest.raises(opsin.DataError, match=r"loader\.dataset"):
        opsin.Dataset.from_torch(loader)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: opsin.compare(["a", "b"]), r"\*runs"),  # type: ignore[arg-type]
        (lambda: opsin.explain(RUN, np.zeros((8, 8, 3), np.uint8)), "PNG"),  # type: ignore[arg-type]
        (lambda: opsin.predict(RUN, Image.new("RGB", (8, 8))), r"run\.predict"),  # type: ignore[arg-type]
        (lambda: opsin.Run(RUN).predict(torch.zeros(8, 8, 3)), "Pillow image"),
        (lambda: opsin.plan(torch.nn.Flatten()), "register_model"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_a_remedy(call: Callable[[], object], match: str) -> None:
    with pytest.raises(opsin.OpsinError, match=match):
        call()


def test_lists_and_iterators_of_paths_are_predicted(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    file = tmp_path / "a.png"
    assert len(opsin.predict(RUN, [file], iter([str(file)]), file)) == 3


def test_a_plan_takes_a_run() -> None:
    assert opsin.plan(opsin.Run(RUN), timed=False).layers.parameters == opsin.Run(RUN).summary.parameters


def test_a_registered_layout_reads_what_it_recognizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = images_and_labels()
    np.save(tmp_path / "pixels.npy", images)
    pool = opsin.Dataset.from_arrays(images=images, labels=labels).splits["train"]

    def read(path: Path) -> Found | None:
        if not (path / "pixels.npy").is_file():
            return None
        return Found(name="mine", task="classify", classes=("0", "1"), layout="my layout", pool=pool)

    monkeypatch.setitem(plugins._registered["layouts"], "mine", read)
    assert opsin.load(tmp_path).layout.startswith("my layout")


def test_a_plan_of_data_is_a_plan_of_the_network_that_training_would_choose() -> None:
    assert opsin.plan("digits", timed=False, filters=(8,), model="plain").request.spec.options["filters"] == [8]


def test_filtering_an_image_gives_the_textbook_sizes() -> None:
    found = opsin.filter_image(np.zeros((1, 512, 512), np.uint8), "gaussian:15x15,sigma=3")
    assert [found.convolved[mode].shape[-1] for mode in ("full", "same", "valid")] == [526, 512, 498]
