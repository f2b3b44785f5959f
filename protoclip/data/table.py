"""The pairs of a run: read as its configuration says, and the part of them that is trained on."""

from __future__ import annotations

from protoclip.config.schema import DataConfig
from protoclip.contract.errors import DataError
from protoclip.sources import Pairs, ReadOptions, read_pairs
from protoclip.sources.options import ALL_SPLITS

from .cache_folder import cache_folder


def read_options(config: DataConfig, agreeing: str | None = None) -> ReadOptions:
    """What `config` says of reading: rows of one picture stay apart where their split, group or class differs.

    Args:
        agreeing: a column in which rows that become one pair must agree.
    """
    own = (None, config.image_column, *config.text_columns)
    apart = [name for name in (config.split_column, config.group_column, config.class_column) if name not in own]
    return ReadOptions(
        paths=config.path,
        image_column=config.image_column,
        text_columns=config.text_columns,
        split=ALL_SPLITS if config.train_split == ALL_SPLITS else None,
        keep_splits=config.split_column is not None,
        apart=tuple(name for name in dict.fromkeys(apart) if name is not None),
        agreeing=() if agreeing is None else (agreeing,),
        encoding=config.encoding,
        delimiter=config.delimiter,
        layout=config.layout,
        max_left_out=config.max_left_out,
        cache_dir=cache_folder(config.cache_dir),
    )


def load_pairs(config: DataConfig, agreeing: str | None = None) -> Pairs:
    """All pairs of all parts of the data; see `read_pairs`, whose errors it raises, and `read_options`."""
    return read_pairs(read_options(config, agreeing))


def training_pairs(pairs: Pairs, config: DataConfig) -> Pairs:
    """The rows of the training split, or all where no split column is set.

    Raises:
        DataError: the split column isn't there or holds no training row.
    """
    if config.split_column is None or config.train_split == ALL_SPLITS:
        return pairs
    splits = pairs.column(config.split_column)
    chosen = splits == config.train_split
    if not chosen.any():
        values = ", ".join(sorted({str(value) for value in splits}))
        raise DataError(f"no row has {config.split_column} = {config.train_split!r}: the column holds {values}")
    return pairs.select(chosen)
