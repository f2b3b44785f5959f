"""Tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

NAME_WIDTH = 14


def narrow_table(
    headers: Sequence[str], *, title: str | None = None, caption: str | None = None, texts: Collection[str] = ()
) -> Table:
    """An empty table whose first column holds names: those that don't fit are folded, never cut off.

    Args:
        headers: of the columns; a line break in one keeps its column narrow.
        title: above the table.
        caption: below it.
        texts: headers whose columns are aligned to the left, as the first one is; numbers go to the right.
    """
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        header_style="",
        box=SIMPLE_HEAD,
        padding=(0, 1 if len(headers) < 9 else 0, 0, 0),
        pad_edge=False,
    )
    table.add_column(headers[0], overflow="fold", min_width=min(NAME_WIDTH, 80 // len(headers)))
    for header in headers[1:]:
        table.add_column(header, justify="left" if header in texts else "right", no_wrap=True)
    return table
