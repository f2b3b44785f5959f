"""The options by which `classify` and `classes build` are given their classes."""

from __future__ import annotations

from typing import Annotated

import typer

LabelsOption = Annotated[
    list[str] | None, typer.Option("--labels", help="The classes, parted by commas: cat,dog. Repeatable.")
]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", help="A class as it stands: 'red, blue'. Repeatable.")
]
LabelsFileOption = Annotated[
    str | None,
    typer.Option("--labels-file", help="The classes: a file in UTF-8 with one a line; - is standard input."),
]
TemplatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--templates",
        help="plain, photo, icon, CLIP's simple (7) or imagenet (80), a text with {} in it, or a file of such "
        "texts, one a line. Repeatable.",
    ),
]
