"""The page of `served_soak.py`: what it found, and whether that is what has to hold."""

from __future__ import annotations

import argparse
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from soak_clients import Tally
from soak_inputs import BAD_SHARE, BOUND
from soak_server import MEMORY, REGION_BYTES, REGIONS, Events

GROWTH = 0.10
"""Memory counts as flat where the fitted line grows by no more than this share over the second half of the run."""
LEAST_MB, LEAST_REGIONS = 5.0, 2.0
"""Less than this is no growth."""
WINDOWS = 3
"""Medians that a line is fitted through, at least."""


@dataclass(frozen=True)
class Flatness:
    """A line through the medians of what was sampled in the second half.

    Attributes:
        middle: their mean; growth: of the line, from the half's beginning to its end; most: of all samples.
        flat: None where the run was too short for a line.
    """

    middle: float
    growth: float
    most: float
    flat: bool | None


def flatness(samples: Sequence[tuple[float, float]], duration_s: float, window_s: float, least: float) -> Flatness:
    """Of samples (seconds, value): one median for each `window_s`, since what happens in each is the same."""
    half_s = duration_s / 2
    times, values = np.array(samples).T
    windows = [
        (start_s + window_s / 2, float(np.median(values[inside])))
        for start_s in np.arange(half_s, duration_s - window_s + 1e-6, window_s)
        if (inside := (times >= start_s) & (times < start_s + window_s)).any()
    ]
    if len(windows) < WINDOWS:
        return Flatness(float(np.mean(values)), float("nan"), float(values.max()), None)
    places, medians = np.array(windows).T
    growth = float(np.polyfit(places, medians, 1)[0] * half_s)
    middle = float(medians.mean())
    return Flatness(middle, growth, float(values.max()), growth <= max(GROWTH * middle, least))


@dataclass(frozen=True)
class Found:
    """All that a run has found.

    Attributes:
        saturation: requests answered in a second without a pause; rate: of the run.
        models: fingerprints of the two models, with their names for the page.
        planned: requests that were given out.
        log: lines of supervision.
        afterwards: what was wrong with the answers after the run.
    """

    given: argparse.Namespace
    tally: Tally
    events: Events
    saturation: float
    rate: float
    models: Mapping[str, str]
    planned: int
    duration_s: float
    log: Sequence[str]
    afterwards: Sequence[str]

    @property
    def flat(self) -> dict[str, Flatness]:
        """By what was sampled."""
        return {
            what: flatness(
                samples,
                self.given.minutes * 60,
                self.given.switch_s,
                LEAST_REGIONS if what == REGIONS else LEAST_MB,
            )
            for what, samples in self.events.samples.items()
        }

    @property
    def faults(self) -> list[str]:
        """What must not be, a line each."""
        lines = [f"wrong answer: {wrong}" for wrong in self.tally.wrong[:5]]
        lines += [f"no answer: {kind}: {why} ({count} ×)" for (kind, why), count in self.tally.failures.items()]
        if self.tally.requests != self.planned:
            lines.append(f"{self.planned} requests were due, and {self.tally.requests} came to an end")
        lines += [f"switch: {failed}" for failed in self.events.failed_switches]
        lines += [f"not flat: {what}" for what, flat in self.flat.items() if flat.flat is False]
        return [*lines, *(f"afterwards: {wrong}" for wrong in self.afterwards)]


def report(found: Found) -> str:
    """Markdown."""
    given, events = found.given, found.events
    restarts = sum("answers again" in line for line in found.log)
    items, bad = sum(found.tally.items.values()), sum(found.tally.bad.values())
    judged = all(flat.flat is not None for flat in found.flat.values())
    verdict = "; ".join(found.faults) or (
        "every answer was the right one of the model that it came from, no item was lost, and the only errors "
        "were those of bad inputs, each with its reason"
        + ("; memory and /dev/shm stayed flat" if judged else "; the run was too short to judge memory")
    )
    parts = [
        "# A server under load, with all that happens to servers",
        "",
        f"`python benchmarks/served_soak.py --minutes {given.minutes:g}`: {found.tally.requests:,} requests with "
        f"{items:,} items, {bad:,} of them bad ({BAD_SHARE:.0%} drawn), at {found.rate:.1f} requests/s: "
        f"{found.rate / found.saturation:.0%} of the {found.saturation:.1f} that the same clients reached without "
        f"pauses. Clients and server share {os.cpu_count()} cores; {platform.machine()}, "
        f"Python {platform.python_version()}. Load of the machine at the end: {os.getloadavg()[0]:.1f}.",
        "",
        f"Meanwhile: {len(events.kills)} Python workers killed, {restarts} starts by supervision, "
        f"{len(events.switches)} switches of the model, {events.disconnects:,} clients that went away.",
        "",
        f"**{verdict[0].upper()}{verdict[1:]}.**",
        "",
        *_requests(found.tally),
        "",
        *_memory(found),
        "",
        *_events(found),
    ]
    return "\n".join(parts) + "\n"


def _requests(tally: Tally) -> list[str]:
    lines = [
        "| requests | number | items | bad, refused | other errors | p50 ms | p90 | p99 | p99.9 | most |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows: dict[str, list[float]] = {}
    for (kind, client), waits in tally.waits_s.items():
        rows.setdefault(kind, []).extend(waits)
        rows.setdefault(f"… by {client}", []).extend(waits)
    failed: Counter[str] = Counter()
    for (kind, _), count in tally.failures.items():
        failed[kind] += count
    for name in sorted(rows, key=lambda name: (name.startswith("…"), name)):
        # Items are counted by what a request holds alone.
        counts = (tally.items, tally.bad, failed) if name in tally.items else ()
        cells = [f"{count.get(name, 0):,}" for count in counts] or ["", "", ""]
        waits_ms = 1e3 * np.array(rows[name])
        shown = [f"{value:,.0f}" for value in (*np.percentile(waits_ms, (50, 90, 99, 99.9)), waits_ms.max())]
        lines.append(f"| {name} | {len(waits_ms):,} | {' | '.join(cells + shown)} |")
    return [*lines, "", "Milliseconds from when a request was due, starts of the server and retries included."]


def _memory(found: Found) -> list[str]:
    lines = ["| | mean | growth over the second half | most | flat |", "|---|---:|---:|---:|---|"]
    words = {True: "yes", False: "**no**", None: "(run too short)"}
    for what in (*MEMORY, REGION_BYTES, REGIONS):
        if what in found.flat:
            flat = found.flat[what]
            name = f"PSS of {what}, MB" if what in MEMORY else what
            cells = f"{flat.middle:.1f} | {flat.growth:+.1f} | {flat.most:.1f}"
            lines.append(f"| {name} | {cells} | {words[flat.flat]} |")
    what = (
        f"Every two seconds. Growth: of the line through the medians of each {found.given.switch_s:g} s. Flat: by "
        f"no more than {GROWTH:.0%}, or than {LEAST_MB:g} MB and {LEAST_REGIONS:g} regions."
    )
    return [*lines, "", what]


def _events(found: Found) -> list[str]:
    switched = ", ".join(f"{when:.0f} s to {name}" for when, name in found.events.switches)
    killed = ", ".join(f"{when:.0f} s {name}" for when, name in found.events.kills)
    models = ", ".join(f"{count:,} of {found.models.get(key, key)}" for key, count in found.tally.models.items())
    bound = f"A vector is right where no component is off by more than {BOUND:g}."
    return [f"Switches: {switched or 'none'}. Killed: {killed or 'none'}. Answers: {models}. {bound}"]
