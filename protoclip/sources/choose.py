"""Which columns of the parts are the picture, the texts and the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from protoclip.contract.errors import ConfigError, DataError

from .arrow_texts import NESTED, can_be_captions, is_single_value, is_text
from .names import IMAGE_NAMES, TEXT_NAMES, find_column
from .options import ReadOptions
from .pairs import CAPTION_KEY, LEFT_OUT_KEY
from .part import OFFSET, SIZE, SPLIT, Part
from .rows import Columns, no_pictures

_PLACES = (OFFSET, SIZE)


def shared_names(parts: Sequence[Part]) -> list[str]:
    """The columns that all parts have, in the order of the first; `split` where their names tell it."""
    schemas = [part.schema().names for part in parts]
    names = [name for name in schemas[0] if all(name in other for other in schemas) and name not in _PLACES]
    if any(part.split is not None for part in parts) and SPLIT not in names:
        names.append(SPLIT)
    return names


def find_shared_column(parts: Sequence[Part], known: Sequence[str], setting: str) -> str:
    """The one column of all parts that is among the `known` names.

    Raises:
        ConfigError: none or several are, or the parts call theirs by different names.
    """
    names = shared_names(parts)
    if any(name.lower() in known for name in names):
        return find_column(names, known, setting)
    own = [(part, [name for name in _own_names(part) if name.lower() in known]) for part in parts]
    first = next(((part, found) for part, found in own if found), None)
    if first is None or len(parts) == 1:
        return find_column(names, known, setting)
    other = next(part for part in parts if first[1][0] not in _own_names(part))
    raise ConfigError(
        f"data.{setting}: {first[0].name} has {' and '.join(first[1])}, and {other.name} has "
        f"{', '.join(_own_names(other)) or 'no column'}: rename the column there: tables that are read together "
        "call it alike"
    )


def choose_columns(parts: Sequence[Part], options: ReadOptions) -> Columns:
    """The columns to read, as the options say or by their names.

    Raises:
        ConfigError: a column that is needed can't be told by its name.
        DataError: a column that an option names isn't there.
    """
    names = shared_names(parts)
    image = options.image_column or find_shared_column(parts, IMAGE_NAMES, "image_column")
    texts = _text_columns(parts, options)
    for part in parts:
        _check(part, [image, *texts, *options.apart], others=len(parts) > 1)
        if NESTED in (part.schema().field(image).metadata or {}):
            raise no_pictures(part, image, "objects or lists")
        _check_captions(part, texts)
    written = tuple(n for n in names if n not in (image, *texts) or n in options.apart)
    if not options.texts:
        written = tuple(name for name in names if name != image)
    kinds = {name: _common_type([part.schema() for part in parts], name) for name in written}
    others = tuple(name for name, kind in kinds.items() if kind is not None)
    missing = [name for name in options.apart if name not in others]
    if missing:
        raise DataError(f"column {missing[0]!r}: holds {_kinds_of(parts, missing[0])}, and not one value a row")
    schema = _schema(parts, image, {name: kinds[name] for name in others})
    about = {LEFT_OUT_KEY: json.dumps(_left_out(parts, (image, *texts, *others)))}
    schema = schema.with_metadata(about | ({CAPTION_KEY: texts[0]} if len(texts) == 1 else {}))
    return Columns(image, texts, others, options.texts, schema)


def _left_out(parts: Sequence[Part], taken: Sequence[str]) -> dict[str, str]:
    names = {name: None for part in parts for name in _own_names(part) if name not in taken}
    shared = shared_names(parts)
    return {
        name: f"holds {_kinds_of(parts, name)}: values are texts, numbers, dates or lists of texts"
        if name in shared
        else "is not in all of the tables"
        for name in names
    }


def _text_columns(parts: Sequence[Part], options: ReadOptions) -> tuple[str, ...]:
    if options.text_columns is not None:
        return options.text_columns
    try:
        found = find_shared_column(parts, TEXT_NAMES, "text_columns")
        if not options.texts:
            for part in parts:
                _check_captions(part, [found])
        return (found,)
    except (ConfigError, DataError):
        if options.texts:
            raise
        return ()


def _check(part: Part, needed: Sequence[str], *, others: bool) -> None:
    there = _own_names(part)
    if part.split is not None:
        there.append(SPLIT)
    for name in needed:
        if name not in there:
            alike = ": rename its own: tables that are read together call it alike" if others else ""
            raise DataError(f"{part.name}: column {name!r} isn't there: it has {', '.join(there)}{alike}")


def _own_names(part: Part) -> list[str]:
    return [name for name in part.schema().names if name not in _PLACES]


def _check_captions(part: Part, texts: Sequence[str]) -> None:
    schema = part.schema()
    for field in (schema.field(name) for name in texts if name in schema.names):
        if not can_be_captions(field):
            kind = "objects or lists in lists" if field.metadata else str(field.type)
            raise DataError(
                f"{part.name}: column {field.name!r}: captions are texts or lists of texts, and it holds {kind}: "
                "write the texts into a column of their own, or name another one with data.text_columns"
            )


def _kinds_of(parts: Sequence[Part], name: str) -> str:
    return str(next(part.schema().field(name).type for part in parts if name in part.schema().names))


def _schema(parts: Sequence[Part], image: str, others: dict[str, Any]) -> Any:
    import pyarrow as pa
    from pyarrow import types

    fields = [("image", pa.string()), ("texts", pa.list_(pa.string()))]
    kinds = [part.schema().field(image).type for part in parts]
    if not all(is_text(kind) or types.is_null(kind) for kind in kinds):
        fields.append(("bytes", pa.large_binary()))
    if any(part.archive for part in parts):
        fields += [("offset", pa.int64()), ("size", pa.int64())]
    return pa.schema(fields + [(f":{name}", kind) for name, kind in others.items()])


def _common_type(schemas: Sequence[Any], name: str) -> Any:
    """The type that a column is kept in: its own where all parts agree, else text; None where it is not kept."""
    import pyarrow as pa
    from pyarrow import types

    kinds = [schema.field(name).type for schema in schemas if name in schema.names]
    if not all(_is_plain(kind) for kind in kinds):
        return None
    same = len(set(kinds)) == 1 and not types.is_null(kinds[0])
    return kinds[0] if same and not types.is_large_string(kinds[0]) else pa.string()


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return bool(types.is_string(kind.value_type) or types.is_large_string(kind.value_type))
    return is_single_value(kind)
