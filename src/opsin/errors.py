"""Everything Opsin raises on purpose, in one tree.

    OpsinError                    exit code of the command line
    ├── RefusedError              2   wrong usage, or input that is refused whole
    │   ├── ConfigError               a setting: unknown key, wrong type, out of range
    │   ├── InputError                bytes from outside
    │   │   ├── ImageError                an image file
    │   │   ├── ArrayError                .npy, .npz, IDX, CIFAR records
    │   │   ├── ArchiveError              zip, tar, gz
    │   │   ├── AnnotationError           CSV, XML, JSON labels, boxes, masks
    │   │   ├── TensorFileError           safetensors and torch weights
    │   │   └── DownloadError             a download that failed or does not match its hash
    │   ├── DataError                 a data set: labels, splits, leaks, empty classes
    │   ├── ArtifactError             a model folder: altered, incomplete, of a newer format
    │   ├── RunError                  a run folder or checkpoint: missing, taken, corrupt
    │   │   └── SealedSplitError          a split without scores (yet); also a KeyError
    │   └── WriteError                an output: full disk, no permission
    │       └── NameTakenError            a folder of this name exists
    ├── CheckFailedError          3   a failed check
    │   ├── DivergedError             NaN or Inf in loss, gradient or weights
    │   └── PreflightError            a run that would fail, stopped before its first step
    ├── GroupError                1   processes that train together died or lost their connection
    ├── FollowerError            as   the process that leads this one failed, and reported why
    └── InterruptedRunError     130   stopped by the user, with a checkpoint left

A message says what is wrong, where, what was found, what was expected, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class OpsinError(Exception):
    """Base of every deliberate error.

    Args:
        what: one sentence that says what is wrong.
        where: the file, field or index in question.
        got: what was found there.
        expected: what would have been accepted.
        do: what the user can do about it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        do: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.do = what, where, got, expected, do
        details = (("where", where), ("got", got), ("expected", expected), ("do", do))
        lines = [f"  {name + ':':<10}{value}" for name, value in details if value is not None]
        super().__init__("\n".join([what, *lines]))


class RefusedError(OpsinError):
    """Wrong usage, or input that is refused whole."""

    exit_code = 2


class ConfigError(RefusedError):
    """A setting that is unknown, of the wrong type or out of range."""


class InputError(RefusedError):
    """Bytes from outside that are refused."""


class ImageError(InputError):
    """An image file that is refused."""


class ArrayError(InputError):
    """An array file (.npy, .npz, IDX, CIFAR records) that is refused."""


class ArchiveError(InputError):
    """An archive that is refused whole."""


class AnnotationError(InputError):
    """Labels, boxes or masks that are refused."""


class TensorFileError(InputError):
    """A file of tensors that is refused."""


class DownloadError(InputError):
    """A download that failed, or does not match its hash."""


class DataError(RefusedError):
    """A data set that cannot be used as it is."""


class ArtifactError(RefusedError):
    """A model folder that is altered, incomplete or of a newer format."""


class RunError(RefusedError):
    """A run folder or a checkpoint that is missing, taken or corrupt."""


class SealedSplitError(RunError, KeyError):
    """Scores of a split that has none: the test split before it was opened, or an unknown split."""

    __str__ = Exception.__str__  # a KeyError would show the message quoted, on one line


class WriteError(RefusedError):
    """An output that cannot be written: full disk, no permission, name taken."""


class NameTakenError(WriteError):
    """A folder with the name of the new one exists and must not be replaced."""


class CheckFailedError(OpsinError):
    """A failed check."""

    exit_code = 3


class DivergedError(CheckFailedError):
    """NaN or Inf in a loss, a gradient or a weight."""


class PreflightError(CheckFailedError):
    """A run that would fail, stopped before its first step."""


class GroupError(OpsinError):
    """Processes that train together died, or lost each other."""


class FollowerError(OpsinError):
    """A process ends because the one that leads it has ended, and has said why."""

    def __init__(self, what: str, *, got: object, exit_code: int) -> None:
        super().__init__(what, got=got)
        self.exit_code = exit_code


class InterruptedRunError(OpsinError):
    """Stopped by the user; a checkpoint was left."""

    exit_code = 130


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest to `name`, or None when none is close.

    >>> nearest("minst", ["mnist", "cifar10"])
    'mnist'
    """
    matches = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None
