"""Named checks: what counts as passed, what as open, and how they reach verdict.json and the command line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from export.parity.checks import Check, bounded, failed_lines, not_checked, unchecked_lines, with_checks
from export.parity.report import Report, unseen_report
from protoclip.cli.export.output import print_report

GOLDEN = Path(__file__).parents[2] / "golden" / "version_0_1.tar.xz"


def test_an_outcome_that_is_not_passed_has_its_reason_and_a_name_has_no_colon() -> None:
    with pytest.raises(ValueError, match="its explanation says why"):
        Check("range", "not checked")
    with pytest.raises(ValueError, match="no colon"):
        Check("range: gpu", "passed")
    with pytest.raises(ValueError, match="two checks have one name: range"):
        with_checks([Check("range", "passed")], [Check("range", "passed")])


def test_lines_begin_with_the_checks_name() -> None:
    checks = [
        bounded("unit norm", False, "a row has the norm 1.15", 1.15, "1 ± 0.001"),
        bounded("row alone", True, "rows depend on their neighbours", 0.0, 1e-5),
        not_checked("range on a GPU", "needs one"),
    ]
    assert failed_lines(checks) == ("unit norm: a row has the norm 1.15",)
    assert unchecked_lines(checks) == ("range on a GPU: needs one",)
    assert checks[1].explanation == ""


def test_an_open_check_neither_fails_nor_hides_and_a_failed_one_fails() -> None:
    engine = unseen_report("onnx_fp16", "fp16", "ONNX Runtime", "not run: no memory")
    assert engine.failures == ("not run: no memory",)
    report = Report("all", "torch", "samples", 1, 1, (engine,)).with_checks(
        not_checked("server", "no --url was given"), Check("tokens", "failed", "other ids for 'a'")
    )
    assert report.failures == ("tokens: other ids for 'a'", "onnx_fp16: not run: no memory")
    assert report.not_checked == ("server: no --url was given",)
    assert not report.passed
    written = json.loads(report.to_json())
    assert [check["name"] for check in written["checks"]] == ["server", "tokens"]
    assert written["engines"][0]["failures"] == ["not run: no memory"]
    assert written["engines"][0]["ran"] is False


def test_the_command_line_names_failed_and_open_checks(capsys: pytest.CaptureFixture[str]) -> None:
    engine = unseen_report("onnx_fp16", "fp16", "ONNX Runtime", "not run: no memory")
    engine = engine.with_checks(not_checked("range on a GPU", "verify on a machine with one [cuda]"))
    report = Report("all", "torch", "samples", 1, 1, (engine,)).with_checks(Check("tokens", "failed", "other ids"))
    print_report(json.loads(report.to_json()), as_json=False)
    printed = capsys.readouterr().out
    assert "the artifact: tokens: other ids" in printed
    assert "onnx_fp16: not run: no memory" in printed
    assert "onnx_fp16, not checked: range on a GPU: verify on a machine with one [cuda]" in printed


def test_a_verdict_of_an_earlier_version_is_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(GOLDEN) as archive:
        file = archive.extractfile("artifact/verdict.json")
        assert file is not None
        old: dict[str, Any] = json.load(file)
    assert "checks" not in old
    print_report(old, as_json=False)
    assert "onnx_fp32" in capsys.readouterr().out
