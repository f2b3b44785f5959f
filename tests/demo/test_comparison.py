"""The study of ProtoCLIP against plain CLIP: numbers calculated by hand, and files that are refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from protoclip.contract.errors import DataError
from protoclip.demo.comparison import compare, estimate, load_comparison, paired_difference

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


def test_an_interval_is_students() -> None:
    """s = 1, t = 4.30265 with 2 degrees: 4.30265 / √3. Of two values 1 and 3: s = √2, t = 12.70620."""
    three = estimate([1.0, 2.0, 3.0])
    assert (three.mean, three.half_width) == (2.0, pytest.approx(2.48414, abs=1e-5))
    two = estimate([1.0, 3.0])
    assert (two.mean, two.half_width) == (2.0, pytest.approx(12.70620, abs=1e-5))


def test_differences_are_paired_by_seed() -> None:
    """2.0, 2.7 and 2.0: mean 2.23333, s = 0.40415, half-width 4.30265 · 0.40415 / √3 = 1.00395."""
    found = paired_difference([48.1, 47.9, 48.3], [46.1, 45.2, 46.3])
    assert found.mean == pytest.approx(2.23333, abs=1e-5)
    assert found.half_width == pytest.approx(1.00395, abs=1e-4)
    assert found.shows_difference
    # Seeds that move both alike leave no doubt, though the values themselves are far apart.
    assert paired_difference([10.0, 50.0, 90.0], [9.0, 49.0, 89.0]).half_width == 0


def test_a_difference_is_shown_only_where_the_interval_leaves_out_zero() -> None:
    assert estimate([2.0, 2.1, 1.9]).shows_difference
    assert estimate([-2.0, -2.1, -1.9]).shows_difference
    assert not estimate([2.0, -1.0, 2.5]).shows_difference
    assert not estimate([0.0, 0.0, 0.0]).shows_difference
    assert not estimate([5.0]).shows_difference
    assert estimate([5.0]).half_width is None


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf"), 1.0]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


def test_a_study_becomes_a_table(tmp_path: Path) -> None:
    study = load_comparison(write(tmp_path, STUDY))
    assert study is not None
    table = compare(study)
    assert table.figures == ("R@1", "probe")
    assert [row.variant for row in table.rows] == list(STUDY["results"])
    assert table.rows[2].differences is None
    shown = [[found.shows_difference for found in row.differences or ()] for row in table.rows[:2]]
    assert shown == [[True, False], [False, True]]
    assert table.rows[1].differences is not None
    assert table.rows[1].differences[1].mean == pytest.approx(-10.03333, abs=1e-5)


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
    with pytest.raises(DataError, match=r"comparison\.json: file: Invalid JSON"):
        load_comparison(tmp_path / "comparison.json")
    with pytest.raises(DataError, match="can't be read"):
        load_comparison(tmp_path)
