"""Templates to markup. Everything is escaped unless it is markup; an unknown name is an error."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from opsin.io.images import encode_jpeg, encode_png
from opsin.report import formats
from opsin.tasks.cards import package_of, task_names
from opsin.text import printable_lines

Values = Mapping[str, Any]
"""What a template shows, by name: markup, scores, texts, plain JSON."""
SEPARATED = re.compile(r"(?<=[/\\_-])(?=[^/\\_-])")
"""Characters after which a name may wrap."""
SHARP_BELOW = 64
"""Thumbnails with a shorter side below this are drawn with hard pixels, and stored losslessly."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A thumbnail as the page holds it: a data address, its size in pixels, and whether to draw hard pixels."""

    address: str
    width: int
    height: int
    sharp: bool


@cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: autoescaped, strict about names."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("opsin.report"), *map(_task_templates, task_names())]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers = (formats.number, formats.percent, formats.duration, formats.size, formats.plain, formats.shorten, soft)
    made.filters.update({helper.__name__: helper for helper in helpers})
    return made


def _task_templates(task: str) -> jinja2.BaseLoader:
    return jinja2.FileSystemLoader(str(files(package_of(task)) / "templates"))


def _shown(value: object) -> object:
    """A value as printed by a template: valid text without bidirectional control characters; markup unchanged."""
    return printable_lines(value) if type(value) is str else value


def soft(name: str) -> Markup:
    """A name that may wrap after its separators, so that a column need only be as wide as its longest part.

    >>> print(soft("roses/red_1.jpg"))
    roses/<wbr>red_<wbr>1.jpg
    """
    return Markup("<wbr>").join(part for part in SEPARATED.split(printable_lines(name)) if part)


def render(template: str, values: Mapping[str, object]) -> Markup:
    """A template of `templates/` with its values, as markup."""
    return Markup(environment().get_template(template).render(**values))


def source(template: str) -> str:
    """The text of a file in `templates/`, unrendered."""
    return (files("opsin.report") / "templates" / template).read_text(encoding="utf-8")


def picture(pixels: np.ndarray) -> Picture:
    """A thumbnail as a data address: PNG for small images, JPEG for photographs, which would be ten times as large.

    Args:
        pixels: uint8 [C, h, w], C = 3 (RGB) or 1 (grey).
    """
    height, width = pixels.shape[1:]
    sharp = min(height, width) < SHARP_BELOW
    color = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    data, kind = (encode_png(pixels), "png") if sharp else (encode_jpeg(color, quality=88), "jpeg")
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(address=address, width=width, height=height, sharp=sharp)
