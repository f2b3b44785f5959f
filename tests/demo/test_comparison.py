"""The study of ProtoCLIP against plain CLIP: numbers calculated by hand, and files that are refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from protoclip.contract.errors import DataError
from protoclip.demo.comparison import compare, load_comparison, markdown_table

STUDY: dict[str, Any] = {
    "date": "2026-01-02",
    "machine": "2 CPU cores",
    "command": "make recipe",
    "steps": 1200,
    "config_sha256": "0123456789abcdef",
    "seeds": [0, 1, 2],
    "results": {
        "ProtoCLIP with teacher": {"R@1": [48.1, 47.9, 48.3], "probe": [60.0, 61.0, 59.0]},
        "ProtoCLIP without teacher": {"R@1": [46.0, 45.0, 47.0], "probe": [50.0, 50.5, 49.4]},
        "plain CLIP": {"R@1": [46.1, 45.2, 46.3], "probe": [60.5, 60.0, 59.5]},
    },
}


def write(folder: Path, study: object) -> Path:
    path = folder / "comparison.json"
    path.write_text(json.dumps(study))
    return path


def test_a_study_becomes_a_table(tmp_path: Path) -> None:
    study = load_comparison(write(tmp_path, STUDY))
    assert study is not None
    table = compare(study)
    assert table.figures == ("R@1", "probe")
    assert [row.variant for row in table.rows] == list(STUDY["results"])
    assert table.rows[2].differences is None
    assert table.num_comparisons == 4
    shown = [[str(found.verdict) for found in row.differences or ()] for row in table.rows[:2]]
    # R@1 differs by 2.0, 2.7 and 2.0: 2.23 ± 1.00 alone, and ± 2.07 among four.
    assert shown == [["better", "no clear difference"], ["no clear difference", "worse"]]
    assert table.rows[1].differences is not None
    assert table.rows[1].differences[1].estimate.mean == pytest.approx(-10.03333, abs=1e-5)


def test_the_documentation_says_what_the_study_and_the_rule_say() -> None:
    study = load_comparison()
    assert study is not None
    page = (Path(__file__).parents[2] / "docs/results.md").read_text("utf-8")
    assert markdown_table(study) in page, "docs/results.md: take the table that `make recipe` prints"


def test_a_missing_file_is_no_study(tmp_path: Path) -> None:
    assert load_comparison(tmp_path / "comparison.json") is None


def test_what_ships_with_the_package_is_a_study_or_nothing() -> None:
    found = load_comparison()
    assert found is None or compare(found).rows


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("seeds",), [0, 1], "3 values for 2 seeds"),
        (("seeds",), [0, 0, 1], "name one twice"),
        (("seeds",), [], "seeds"),
        (("steps",), 0, "steps"),
        (("results", "plain CLIP"), {}, "need 'plain CLIP'"),
        (("results", "plain CLIP", "R@1"), [48.0, 101.0, 50.0], "results.plain CLIP.R@1.1"),
        (("results", "plain CLIP", "other"), [1.0, 2.0, 3.0], "other figures"),
        (("results",), {"plain CLIP": {"R@1": [1, 2, 3]}}, "a variant to compare"),
        (("note",), "x", "note"),
    ],
)
def test_a_malformed_study_is_one_clear_error(
    tmp_path: Path, place: tuple[str, ...], value: object, message: str
) -> None:
    study = deepcopy(STUDY)
    inner: Any = study
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = write(tmp_path, study)
    with pytest.raises(DataError, match=message) as caught:
        load_comparison(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_json_and_a_folder_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(DataError, match=r"comparison\.json: the whole of it: Invalid JSON"):
        load_comparison(tmp_path / "comparison.json")
    with pytest.raises(DataError, match="can't be read"):
        load_comparison(tmp_path)
