"""How commands without a configuration read data: the options, and errors that speak of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from protoclip.contract.errors import ConfigError, DataError

if TYPE_CHECKING:
    from protoclip.sources import ReadOptions

LayoutName = Literal["table", "class_folders", "sidecars", "webdataset", "pictures"]
ImageColumnOption = Annotated[
    str | None, typer.Option(help="Column of the data with the picture; default: the one that is called like it.")
]
TextColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="Column of the data with the text; default: the one that is called like it. Repeatable."),
]
SplitOption = Annotated[str | None, typer.Option(help="Which part of the data, if it has several, or all.")]
EncodingOption = Annotated[str, typer.Option(help="Of CSV, TSV and JSON Lines.")]
DelimiterOption = Annotated[
    str | None, typer.Option(help="Between the fields of CSV; default: as in its first line.")
]
LayoutOption = Annotated[LayoutName | None, typer.Option(help="What a folder is, if it can be read in two ways.")]
MaxLeftOutOption = Annotated[
    float, typer.Option(min=0, help="Rows and files that may be left out; below 1 a share, else a number.")
]
DEFAULT_ENCODING = "utf-8"
DEFAULT_MAX_LEFT_OUT = 0.5

_TEXT_COLUMNS = re.compile(r"(?:--set )?'?data\.text_columns=\[((?:\"[^\"]*\"(?:, )?)+)\]'?")
_SPLIT = re.compile(r"data\.split_column=\S+ and data\.train_split=(\S+)")
_SETTINGS = r"data\.(image_column|encoding|delimiter|layout|max_left_out)"
_QUOTED = re.compile(rf"--set '{_SETTINGS}=([^']*)'")
# Not what only looks like one: a file may be called data.csv, or even data.encoding.
_NAME = re.compile(rf"(?<![\w./\\-])(?:--set )?{_SETTINGS}\b(?!\.)(=)?")
_TEXT_COLUMNS_NAME = re.compile(r"(?<![\w./\\-])data\.text_columns\b(?!\.)")
# Ways out that only a run has.
_OF_A_RUN = (
    ("--set data.train_split=all in a run, --split all elsewhere", "--split all"),
    (", or both as a list in data.path", ""),
    ("give data.cache_dir, or TMPDIR,", "give TMPDIR"),
)


@dataclass(frozen=True)
class ReadingOptions:
    """What the options of a command say of reading."""

    image_column: str | None = None
    text_columns: Sequence[str] | None = None
    split: str | None = None
    encoding: str = DEFAULT_ENCODING
    delimiter: str | None = None
    layout: LayoutName | None = None
    max_left_out: float = DEFAULT_MAX_LEFT_OUT

    def of(self, *paths: str, texts: bool) -> ReadOptions:
        """What to read of these paths; `texts`: whether rows need one."""
        from protoclip.sources import ReadOptions

        return ReadOptions(
            paths,
            self.image_column,
            None if not self.text_columns else tuple(self.text_columns),
            texts=texts,
            split=self.split,
            encoding=self.encoding,
            delimiter=self.delimiter,
            layout=self.layout,
            max_left_out=self.max_left_out,
            # Without texts it is for an index, whose pictures a server decodes.
            decoded_here=texts,
        )


@contextmanager
def errors_as_options(other: Mapping[str, str] | None = None) -> Iterator[None]:
    """Names the command's options where an error of reading names the settings of a run.

    Args:
        other: what an option is called for this data.
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        message = as_options(str(error))
        for option, name in (other or {}).items():
            message = message.replace(option, name)
        raise type(error)(message) from error


def as_options(message: str) -> str:
    """`data.image_column=x` as `--image-column x`, and so on."""
    message = message.removeprefix("data.path: ")
    for said, instead in _OF_A_RUN:
        message = message.replace(said, instead)
    message = _SPLIT.sub(r"--split \1", _TEXT_COLUMNS.sub(_text_columns, message))
    message = _TEXT_COLUMNS_NAME.sub("--text-column", message)
    message = _QUOTED.sub(lambda found: f"--{found[1].replace('_', '-')} '{found[2]}'", message)
    return _NAME.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}", message)


def _text_columns(found: re.Match[str]) -> str:
    return " ".join(f"--text-column {shlex.quote(name)}" for name in re.findall(r'"([^"]*)"', found[1]))


def print_left_out(left_out: Sequence[Any]) -> None:
    """Says on standard error how many rows and files are left out, by reason, and the first of them."""
    from protoclip.sources.left_out import counts_by_reason

    from .app import console

    if left_out:
        first = left_out[0]
        console.print(
            f"[bold yellow]warning:[/] {len(left_out)} left out: {counts_by_reason(left_out)}; the first: "
            f"{first.name}: {first.reason}",
            highlight=False,
        )
