"""What to read, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["table", "class_folders", "sidecars", "webdataset", "pictures"]
ALL_SPLITS = "all"


@dataclass(frozen=True)
class ReadOptions:
    """Where the pairs are and which columns hold what.

    Attributes:
        paths: files, folders, patterns such as `shards/*.tar`, or addresses such as `s3://bucket/shop`.
        image_column: None: the one that is called like a picture.
        text_columns: None: the one that is called like a caption.
        texts: whether rows need a text. Without, they may have some, and a column need not be there.
        split: the part to read where folders, files or a column have several; `all`: every part. None: what is
            there, and refused where there are several parts.
        keep_splits: read all parts, for a caller that chooses among them by the column `split`.
        apart: columns in which rows of one picture must agree to be one pair.
        agreeing: columns in which rows of one picture must agree, or reading fails.
        encoding: of CSV, TSV and JSON Lines.
        delimiter: of CSV; None: as the first line shows.
        layout: what a folder is, where it can be read in two ways.
        max_left_out: how much may be left out: below 1 a share, else a number.
        decoded_here: whether this process decodes the pictures: then those in folders of a kind that it can't read
            are left out with the reason. Otherwise whoever decodes them says so.
        cache_dir: where large tables are kept as Arrow files; None: in a temporary file.
    """

    paths: tuple[str, ...]
    image_column: str | None = None
    text_columns: tuple[str, ...] | None = None
    texts: bool = True
    split: str | None = None
    keep_splits: bool = False
    apart: tuple[str, ...] = ()
    agreeing: tuple[str, ...] = ()
    encoding: str = "utf-8"
    delimiter: str | None = None
    layout: Layout | None = None
    max_left_out: float = 0.5
    decoded_here: bool = True
    cache_dir: Path | None = None
