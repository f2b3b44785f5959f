"""The study beside its main table: concepts drawn anew, equal time, steps for equal quality, and the time left."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from protoclip.contract.errors import ConfigError
from scripts import load_script

MEASURE = "unseen concepts R@1"


@pytest.fixture(scope="module")
def measures() -> ModuleType:
    return load_script("benchmarks/evidence_measures.py")


@pytest.fixture(scope="module")
def curves() -> ModuleType:
    return load_script("benchmarks/evidence_curves.py")


def run(module: ModuleType, **values: Any) -> Any:
    """One run as it is kept; only `values` matter."""
    rest = {"stability": [], "clusterings": 0, "train_seconds": 1.0, "measure_seconds": 1.0, "counts": {}}
    return module.Measured.model_validate({"values": {}, "curve": [[1, 0.0, 0.0]], **rest, **values})


def test_concepts_are_drawn_together_for_all_seeds(measures: ModuleType) -> None:
    """Against a loop that draws concepts and takes the mean over seeds of the difference of percentages."""
    concepts = load_script("benchmarks/evidence_concepts.py")
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 6, 40)
    hits = rng.integers(0, sizes + 1, (2, 3, 40))
    arm, baseline = (
        [run(measures, hits={MEASURE: tuple(one)}, sizes={MEASURE: tuple(sizes)}) for one in seeds.tolist()]
        for seeds in hits
    )
    found = concepts.over_concepts(arm, baseline, MEASURE, 8)
    drawn = []
    for _ in range(4000):
        chosen = rng.integers(40, size=40)
        percents = 100 * hits[:, :, chosen].sum(axis=2) / sizes[chosen].sum()
        drawn.append((percents[0] - percents[1]).mean())
    low, high = np.quantile(drawn, [0.05 / 16, 1 - 0.05 / 16])
    percents = 100 * hits.sum(axis=2) / sizes.sum()
    assert found.mean == pytest.approx((percents[0] - percents[1]).mean(), abs=1e-3)
    # Two draws of 4,000: their ends differ by chance, and by far less than the interval is wide.
    assert (found.low, found.high) == (
        pytest.approx(low, abs=0.1 * (high - low)),
        pytest.approx(high, abs=0.1 * (high - low)),
    )
    assert concepts.over_concepts([*arm, run(measures)], [*baseline, run(measures)], MEASURE, 8) is None


def test_counts_are_written_short_and_read_back(measures: ModuleType) -> None:
    found = run(measures, hits={"x": (0, 0, 0, 0, 2, 1, 1)})
    assert '"x":"0x4 2 1x2"' in found.model_dump_json()
    assert measures.Measured.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValueError, match="numbers such as"):
        run(measures, hits={"x": "0xx4"})


def test_seconds_of_training_leave_validation_out(measures: ModuleType) -> None:
    """A second a step; the validation after step 10 took 5 s, and is in what the clock says from step 20 on."""
    lines = [
        {"kind": "step", "step": 10, "seconds": 10.0},
        {"kind": "validation", "step": 10, "seconds": 5.0},
        {"kind": "step", "step": 20, "seconds": 25.0},
        {"kind": "validation", "step": 20, "seconds": 7.0},
    ]
    assert measures.training_seconds(lines, [10, 15, 20]) == (10.0, 15.0, 20.0)


def test_equal_time_is_when_the_shorter_run_ended(curves: ModuleType, measures: ModuleType) -> None:
    """The arm's steps last a quarter longer: when plain CLIP ended, after 100 steps, it had made 80."""
    plain = run(measures, curve=[[50, 0.0, 10.0], [100, 0.0, 20.0]], cpu_seconds=100.0)
    arm = run(measures, curve=[[50, 0.0, 10.0], [100, 0.0, 30.0]], cpu_seconds=125.0)
    found = curves.at_equal_time(arm, plain)
    assert (found.ratio, found.value, found.baseline) == (1.25, pytest.approx(22.0), 20.0)
    back = curves.at_equal_time(plain, arm)
    assert (back.value, back.baseline) == (20.0, pytest.approx(22.0))
    assert curves.at_equal_time(arm, run(measures)) is None


def test_steps_are_read_from_the_first_crossing(curves: ModuleType, measures: ModuleType) -> None:
    curve = [(10.0, 4.0), (20.0, 8.0), (30.0, 6.0), (40.0, 12.0)]
    assert curves.first_reached(curve, 2.0) == 5.0
    assert curves.first_reached(curve, 7.0) == 17.5
    assert curves.first_reached(curve, 9.0) == 35.0
    assert curves.first_reached(curve, 12.5) is None
    assert curves.first_reached(curve, 0.0) == 0.0
    plain = run(measures, curve=[[10, 0, 4], [20, 0, 8], [30, 0, 6], [60, 0, 12]])
    assert curves.steps_needed(run(measures, curve=[[20, 0, 9]]), plain) == pytest.approx(45 / 20)


def test_time_left_follows_each_models_own_pace() -> None:
    pace = load_script("benchmarks/evidence_pace.py").Pace([("small", 100), ("small", 100), ("large", 50)])
    assert pace.words() == "0 of 3 runs"
    pace.done("small", 100, 50.0)
    # 100 steps of 0.5 s, and 50 of a model that is taken to be as slow.
    assert pace.left_s == 75.0
    pace.done("large", 50, 200.0)
    assert pace.words() == "2 of 3 runs, 50 s left"


def test_two_processes_share_a_folder_and_a_third_is_refused(tmp_path: Path) -> None:
    """Locks of one process' open files are apart from one another, as those of several processes are."""
    locks = load_script("benchmarks/evidence_locks.py")
    with locks.one_of_two(tmp_path), locks.one_of_two(tmp_path):
        with (
            pytest.raises(ConfigError, match="two processes run studies there already"),
            locks.one_of_two(tmp_path),
        ):
            pass
        with locks.locked(tmp_path / "run") as first, locks.locked(tmp_path / "run") as second:
            assert (first, second) == (True, False)
    with locks.one_of_two(tmp_path), locks.locked(tmp_path / "run") as free:
        assert free
