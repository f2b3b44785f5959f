"""Whether the page of benchmarks/served_comparison.py says rightly what was reached."""

from __future__ import annotations

import argparse

from protoclip.load_test.served import ServedTimes
from scripts import load_script

page = load_script("benchmarks/comparison_page.py")
WAITS_MS = {page.HERE: 10.0, page.GRPC: 11.0, page.HTTP: 13.0, page.RAW: 11.0, page.PLAIN: 12.0, page.TORCH: 60.0}
RATES = {page.HERE: 100, page.GRPC: 90, page.HTTP: 80, page.RAW: 95, page.PLAIN: 85, page.TORCH: 35}


def verdicts(added_ms: float | None = 2.0) -> dict[str, str]:
    """What was found and the word for it, by what was asked."""
    results = {
        clients: {name: page.Measured([WAITS_MS[name]] * 9, [RATES[name]] * 3) for name in WAITS_MS}
        for clients in (page.FEW, page.MANY)
    }
    text = page._verdicts(argparse.Namespace(added_ms=added_ms, at_most=1.05), results)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {what: f"{found} {word}" for what, _, found, word in rows[2:]}


def test_latency_is_compared_with_that_in_this_process() -> None:
    found = verdicts()
    assert found[f"one client, p50: {page.GRPC}, to {page.HERE}"] == "+ 1.00 ms reached"
    assert found[f"one client, p50: {page.HTTP}, to {page.HERE}"] == "+ 3.00 ms **missed**"
    assert verdicts(None)[f"one client, p50: {page.GRPC}, to {page.HERE}"] == "1.100 × **missed**"


def test_rates_are_compared_with_each_service() -> None:
    found = verdicts()
    assert found[f"eight clients, pictures/s: {page.GRPC}, to {page.PLAIN}"] == "1.06 × reached"
    assert found[f"eight clients, pictures/s: {page.HTTP}, to {page.PLAIN}"] == "0.94 × **missed**"
    assert found[f"eight clients, p99: {page.HTTP}, to {page.PLAIN}"] == "1.08 × **missed**"
    assert found[f"eight clients, pictures/s: {page.GRPC}, to {page.TORCH}"] == "2.57 × **missed**"


def test_the_parts_of_a_request_add_up() -> None:
    def served(name: str, total: float, queue: float, infer: float) -> ServedTimes:
        return ServedTimes(name, 5, 0, 5, 5, 1.0, total, queue, 0.1, infer, 0.1, {1: 5})

    parts = [
        served("a_image", 9.0, 0.0, 0.0),
        served("a_image_preprocess", 3.0, 0.2, 2.0),
        served("a_image_encoder", 5.0, 0.3, 4.0),
    ]
    text = page._profile(page.Profile(whole_ms=10.0, pixels_ms=1.5, encode_ms=3.0, served=parts))
    last = [float(line.split("|")[-2]) for line in text.splitlines() if line.startswith("|") and line[2].isalpha()]
    assert last[:-1] == [0.7, 1.2, 0.5, 2.1, 1.0]
    assert sum(last[:-1]) == last[-1] == 5.5
