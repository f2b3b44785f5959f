"""What `make check` holds a user's script to, and that the script runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from scripts import load_script

ROOT = Path(__file__).parents[1]
STRICT = {
    # What `mypy --strict` sets beside what the project has everywhere.
    "disallow_any_generics",
    "disallow_incomplete_defs",
    "disallow_subclassing_any",
    "disallow_untyped_calls",
    "disallow_untyped_decorators",
    "extra_checks",
    "strict_equality",
    "warn_return_any",
}
EVERYWHERE = {
    "check_untyped_defs",
    "disallow_untyped_defs",
    "no_implicit_reexport",
    "warn_redundant_casts",
    "warn_unused_ignores",
}


def test_it_is_checked_as_strictly_as_users_can() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert "tests/typing" in found["files"]
    assert all(found[name] for name in EVERYWHERE)
    own = next(one for one in found["overrides"] if "users_script" in one["module"])
    assert {name for name in own if own[name] is True} == STRICT
    assert {file.stem for file in (ROOT / "tests" / "typing").glob("*.py")} == set(own["module"])


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = load_script("tests/typing/users_script.py").main(tmp_path)
    assert [name for name, _ in hits] == ["0"]
    assert hits[0][1] == pytest.approx(1, abs=1e-6)
    printed = capsys.readouterr().out
    assert "3 of 3, 0 skipped" in printed
    assert "id '0' is there twice" in printed
    assert "3 3 1 2" in printed
