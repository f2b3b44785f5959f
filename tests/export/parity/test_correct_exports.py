"""Right exports raise no alarm: two of the ten of `benchmarks/correct_exports.py`, with one and two threads."""

from __future__ import annotations

import pytest

from export.parity.samples import Samples
from scripts import load_script


@pytest.mark.parametrize("architecture", ["correct-convnext", "correct-text-deep"])
def test_a_right_export_raises_no_alarm(architecture: str, samples: Samples, traced_once: None) -> None:
    script = load_script("benchmarks/correct_exports.py")
    [export] = script.study((architecture,), samples, ("fp32", "int8"))
    assert export.alarms == ()
    assert export.num_checks > 2 * 2 * 10
