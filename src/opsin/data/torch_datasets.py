"""Samples of a map-style PyTorch data set as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Arrays
from opsin.errors import DataError
from opsin.io.in_memory import image_of


class MapStyle(Protocol):
    """A map-style data set like `torch.utils.data.Dataset`: pairs of an image and a label by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def arrays_of(dataset: MapStyle, *, split: str) -> Arrays:
    """`images` uint8 [N, C, H, W] and `labels` int64 [N] of a data set, read once, in order.

    Args:
        dataset: gives (image, label); an image is uint8 or float in [0, 1], [C, H, W] as a tensor, [H, W] or [H, W, C]
            as an array, or a Pillow image; a label is a whole number.
        split: its name in error messages.

    Raises:
        DataError: it is no map-style data set, a sample is not a pair, an image is invalid or of another size than the
            first, a label is no number.
    """
    if not hasattr(dataset, "__getitem__"):
        do = "give the data set of a DataLoader (`loader.dataset`), or a list of the pairs that it yields"
        expected = "samples by index, as of torch.utils.data.Dataset or a list"
        got = type(dataset).__name__
        raise DataError("the data set has no samples by index", where=split, got=got, expected=expected, do=do)
    if not len(dataset):
        raise DataError("the data set is empty", where=split, expected="at least one sample")
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for i in range(len(dataset)):
        where = f"{split}[{i}]"
        sample = dataset[i]
        if not isinstance(sample, Sequence) or len(sample) != 2:
            raise DataError("a sample is not a pair", where=where, got=type(sample).__name__, expected="(image, label)")
        pixels = pixels_of(sample[0], where=where)
        if images and pixels.shape != images[0].shape:
            do = "resize the images to one size, e.g. by torchvision.transforms.v2.Resize"
            raise DataError("images of several sizes", where=where, got=pixels.shape, expected=images[0].shape, do=do)
        images.append(pixels)
        labels.append(_label_of(sample[1], where=where))
    return {"images": np.stack(images), "labels": np.array(labels, dtype=np.int64)}


def pixels_of(image: Any, *, where: str) -> NDArray[np.uint8]:
    """An image as uint8 [C, H, W]; C is 1 or 3.

    >>> pixels_of(np.full((2, 2), 0.5, np.float32), where="x").tolist()
    [[[128, 128], [128, 128]]]

    Raises:
        DataError: it is not an image, or its values are not pixel values.
    """
    mode = getattr(image, "mode", None)  # an attribute of Pillow images; of tensors a method
    if isinstance(mode, str) and mode not in ("L", "RGB"):  # palette indices, or transparency
        return image_of(image, where).pixels
    is_tensor = hasattr(image, "detach")
    array = np.asarray(image.detach().cpu() if is_tensor else image)
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and not is_tensor:
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        expected = "[C, H, W] as a tensor, [H, W] or [H, W, C] as an array; C is 1 or 3"
        raise DataError("a sample is not an image", where=where, got=list(array.shape), expected=expected)
    if array.dtype == np.uint8:
        return array
    inside = np.issubdtype(array.dtype, np.floating) and array.size and array.min() >= 0 and array.max() <= 1
    if not inside:
        expected, do = "uint8, or floating in [0, 1]", "leave the normalization to Opsin"
        got = f"{array.dtype}, {array.min():g} to {array.max():g}" if array.size else "no pixels"
        raise DataError("the values are not pixel values", where=where, got=got, expected=expected, do=do)
    return np.round(array * 255).astype(np.uint8)


def _label_of(label: Any, *, where: str) -> int:
    number = np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
    if number.ndim or not np.issubdtype(number.dtype, np.integer):
        raise DataError("a label is not a whole number", where=where, got=label, expected="an index of a class")
    return int(number)
