"""Whether another data set holds images that the run was trained on: a score on them is too good."""

from __future__ import annotations

from pathlib import Path

from opsin.data.audit import digest
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.errors import RefusedError
from opsin.runs import Run
from opsin.types import SizePolicy


def copies_note(run: Run, samples: Samples, size: SizePolicy, root: Path | str | None = None) -> str | None:
    """What a reader of the scores must know of copies of training images among `samples`; None where there are none.

    Copies are images that are equal, pixel for pixel, at the network's input size, as in the audit.

    Args:
        run: whose training images.
        samples: packed images that are to be scored, of a data set that is not the run's own.
        size: how both were brought to the network's input.
        root: where catalogue sets lie; None takes the run's.
    """
    try:
        skip = run.config.data.skip_unreadable
        packed = pack(run.dataset(root), size, cache=default_cache(), splits=["train"], skip_unreadable=skip)
    except RefusedError as error:
        return f"it is not known whether training images are among these: {error.what}"
    trained_on = {digest(image) for image in packed["train"].images}
    count = sum(digest(image) in trained_on for image in samples.images)
    if not count:
        return None
    return f"{count:,} of {len(samples.images):,} images were trained on, pixel for pixel: the scores are too good"
