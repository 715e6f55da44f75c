"""Arrays of any type, where a function takes or gives whatever is there: pixels, labels, probabilities, masks."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
"""Arrays by name, as in a file of them."""
