"""Messages that name the settings of a run, in the words of a command's options."""

from __future__ import annotations

import pytest

from protoclip.cli.reading import as_options
from protoclip.contract.errors import ConfigError
from protoclip.sources.names import IMAGE_NAMES, TEXT_NAMES, find_column


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("data.path: t.csv: holds no row", "t.csv: holds no row"),
        ("name it with data.encoding, such as cp1252", "name it with --encoding, such as cp1252"),
        ("data.encoding='x': there is none", "--encoding 'x': there is none"),
        ("raise data.max_left_out", "raise --max-left-out"),
        ("data.layout=sidecars or data.layout=table", "--layout sidecars or --layout table"),
        ("say data.split_column=split and data.train_split=val, or `all`", "say --split val, or `all`"),
        ("data.path: data.csv: no such file", "data.csv: no such file"),
        ("shop/data.parquet: row 3: no text", "shop/data.parquet: row 3: no text"),
        ("shop/data.text_columns.csv: is empty", "shop/data.text_columns.csv: is empty"),
        (
            "take all rows with --set data.train_split=all in a run, --split all elsewhere, or name only files",
            "take all rows with --split all, or name only files",
        ),
        (
            "name the one that is wanted, such as a.csv, or both as a list in data.path",
            "name the one that is wanted, such as a.csv",
        ),
        ("give data.cache_dir, or TMPDIR, a folder with room", "give TMPDIR a folder with room"),
    ],
)
def test_settings_as_options(message: str, shown: str) -> None:
    assert as_options(message) == shown


@pytest.mark.parametrize(
    ("names", "known", "setting", "ways"),
    [
        (["bild"], IMAGE_NAMES, "image_column", ["--image-column bild"]),
        (["# my file"], IMAGE_NAMES, "image_column", ["--image-column '# my file'"]),
        (
            ["text", "title", "caption"],
            TEXT_NAMES,
            "text_columns",
            ["--text-column title", "--text-column text --text-column title --text-column caption"],
        ),
        (["alt text"], TEXT_NAMES, "text_columns", ["--text-column 'alt text'"]),
    ],
)
def test_ways_out_can_be_pasted(names: list[str], known: tuple[str, ...], setting: str, ways: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        find_column(names, known, setting)
    shown = as_options(str(error.value))
    assert all(way in shown for way in ways), shown
    assert "data." not in shown
    assert "--set" not in shown
