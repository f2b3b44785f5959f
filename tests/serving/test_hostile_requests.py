"""Some hundred odd requests by both protocols; `benchmarks/fuzz_server.py` sends 50,000."""

from __future__ import annotations

from pathlib import Path

from scripts import load_script

fuzz_server = load_script("benchmarks/fuzz_server.py")


def test_odd_requests_end_nothing_and_change_no_answer(tiny_repository: Path) -> None:
    outcome, _ = fuzz_server.run(tiny_repository, range(400), seed=7, limit_s=300.0)
    assert outcome.faults == []
    statuses = {answer for _, answer in outcome.answers}
    # Requests of every fate were among them, and none was the server's fault.
    assert {"200", "400", "415", "OK", "INVALID_ARGUMENT", "UNIMPLEMENTED"} <= statuses
    assert "500" not in statuses
