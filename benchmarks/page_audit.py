"""The page over an index, audited by Lighthouse in headless Chromium, at a desk and as on a slow phone.

    python benchmarks/page_audit.py runs/demo/emoji.index --lighthouse .cache/lighthouse --result RESULT.md

Exit code 1 where a score is below 95. Lighthouse's own reports stay beside it, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page import page_over

LEAST = 95
CATEGORIES = ("performance", "accessibility", "best-practices")
VIEWS = {
    "start": "",
    "search by words": "?q=happy+cat",
    "clusters": "?view=clusters",
    "map": "?view=map",
}
TIMES = {
    "first-contentful-paint": "first paint",
    "largest-contentful-paint": "largest paint",
    "total-blocking-time": "blocked",
}
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
LIMIT_S = 180
LOST = 0.9


@dataclass(frozen=True)
class Audit:
    """One view as one device: scores of 100, milliseconds, and what cost points."""

    view: str
    device: str
    scores: tuple[int, ...]
    times_ms: tuple[float, ...]
    lost: tuple[str, ...]


def main() -> None:
    """Audits, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--lighthouse", type=Path, required=True, help="folder that npm installed it into")
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    audits = []
    with page_over(given.index) as url:
        for view, query in VIEWS.items():
            for device in ("desktop", "mobile"):
                found = _lighthouse(given.lighthouse, url + query, device)
                audits.append(_audit(view, device, found))
    text = report(audits, found)
    print(text)
    if given.result is not None:
        given.result.write_text(text, encoding="utf-8")
    sys.exit(0 if all(min(one.scores) >= LEAST for one in audits) else 1)


def _lighthouse(folder: Path, url: str, device: str) -> dict[str, Any]:
    """Its report on `url`."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium is installed: apt-get install chromium")
    out = folder / "report.json"
    out.unlink(missing_ok=True)
    command = [str(folder / "node_modules" / ".bin" / "lighthouse"), url, "--quiet", "--output=json"]
    command += [f"--output-path={out}", f"--only-categories={','.join(CATEGORIES)}", f"--chrome-flags={FLAGS}"]
    if device == "desktop":
        command.append("--preset=desktop")
    environment = {**os.environ, "CHROME_PATH": chromium}
    subprocess.run(command, check=True, env=environment, timeout=LIMIT_S, stdout=subprocess.DEVNULL)
    return dict(json.loads(out.read_text(encoding="utf-8")))


def _audit(view: str, device: str, found: dict[str, Any]) -> Audit:
    audits = found["audits"]
    lost = [
        f"{view}, {device}: {one['title']}"
        for category in CATEGORIES
        for reference in found["categories"][category]["auditRefs"]
        if reference["weight"]
        and (one := audits[reference["id"]])["score"] not in (None, 1)
        and one["score"] < 0.9
    ]
    scores = tuple(round(100 * found["categories"][name]["score"]) for name in CATEGORIES)
    return Audit(view, device, scores, tuple(audits[name]["numericValue"] for name in TIMES), tuple(lost))


def _score(audit: dict[str, Any]) -> float:
    """From 0 to 1; what can't be said costs nothing."""
    return 1.0 if audit["score"] is None else float(audit["score"])


def report(audits: list[Audit], found: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# The page, audited by Lighthouse",
        "",
        f"`protoclip ui` over the demo's index, Lighthouse {found['lighthouseVersion']} with "
        f"{found['environment']['hostUserAgent'].split()[-2]} on the same machine. *Mobile* simulates a slow "
        "network and a processor four times slower. By `benchmarks/page_audit.py`, of `make page-audit`.",
        "",
        f"| view | device | {' | '.join(CATEGORIES)} | {' | '.join(f'{name}, ms' for name in TIMES.values())} |",
        f"|---|---|{'---:|' * (len(CATEGORIES) + len(TIMES))}",
    ]
    for one in audits:
        cells = [*map(str, one.scores), *(f"{value:.0f}" for value in one.times_ms)]
        lines.append(f"| {one.view} | {one.device} | {' | '.join(cells)} |")
    lost = [line for one in audits for line in one.lost]
    lines += [
        "",
        "What cost points:" if lost else "Nothing cost a tenth of its points.",
        *(f"- {one}" for one in lost),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
