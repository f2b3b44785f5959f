"""The whole study, preset after preset in the order of docs/results/protocol.md, and only what is missing.

    make icons study

What was made so far stands in docs/results: it may be stopped at any time, and goes on. A second call beside the
first shares the work, a third is refused. The choice on validation parts is a person's: at the end stands what to
write and commit before the test cells are measured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from evidence import RESULTS, end_of, options_of, planned_runs, run_study
from evidence_arms import PRESETS
from evidence_locks import one_of_two
from evidence_pace import Pace

from protoclip.contract.errors import ProtoclipError

ORDER = ("bundled-small", "small", "bundled-choosing", "choosing", "bundled", "study")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(ORDER))
    parser.add_argument("--out", type=Path, default=Path(".cache/evidence"), help="folder for data and runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results lie, and are written")
    parser.add_argument("--minutes", type=float, help="start no further run after that time")
    parser.add_argument("--machine", default="2 CPU cores", help="what it ran on, in words")
    options = parser.parse_args()
    calls = [calls_of(options, preset) for preset in options.presets]
    with one_of_two(options.out):
        pace = Pace(run for call in calls for run in planned_runs(call))
        ends_at = end_of(options)
        print(pace.words(), flush=True)
        for call in calls:
            run_study(call, pace, ends_at)
        print(closing(options.results, is_cut_off=time.monotonic() > ends_at))


def calls_of(options: argparse.Namespace, preset: str) -> argparse.Namespace:
    """The options of `evidence.py` for one preset."""
    given = {"--out": options.out, "--machine": options.machine, "--result": options.results / preset}
    return options_of(["--preset", preset, *(str(word) for pair in given.items() for word in pair)])


def closing(results: Path, *, is_cut_off: bool) -> str:
    """What to do next."""
    if is_cut_off:
        return "the time is over: the same command goes on"
    return (
        f"validation parts are done: choose by the protocol, write {results}/choice-study.json and "
        f'choice-bundled.json, {{"preset": …, "arms": […]}}, commit them, then: python benchmarks/evidence.py '
        "--preset study --test --arms …"
    )


if __name__ == "__main__":
    try:
        main()
    except ProtoclipError as error:
        raise SystemExit(str(error)) from None
