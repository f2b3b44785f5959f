"""The page over an index in headless Chromium: how soon hits are there, axe's faults, and pictures of it.

python benchmarks/page.py runs/demo/emoji.index --pictures .cache/page --result benchmarks/page_2cores_202611.md
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

QUERIES = (
    "a red heart",
    "happy cat",
    "crying face",
    "something sweet",
    "the beach",
    "music",
    "stormy weather",
    "car",
)
ROUNDS = 4
VIEWS = (
    ("start", ""),
    ("search", "?q=happy+cat"),
    ("examples", "?q=happy&like={id}&labels=cat,dog,heart"),
    ("clusters", "?view=clusters"),
    ("map", "?view=map&colour=category"),
)
# From the key to hits in the page, and from there until the first pictures are drawn.
MEASURE = """(text) => new Promise((done) => {
  const began = performance.now();
  const results = document.querySelector("#results");
  new MutationObserver((_, observer) => {
    const now = document.querySelector("#results");
    if (now === results || !now.querySelector(".hit")) return;
    observer.disconnect();
    const hits = performance.now() - began;
    const drawn = () => [...now.querySelectorAll("img")].slice(0, 6).every((one) => one.complete);
    const wait = () => (drawn() ? done([hits, performance.now() - began]) : requestAnimationFrame(wait));
    wait();
  }).observe(document.querySelector("main"), { childList: true });
  document.querySelector("#q").value = text;
  document.querySelector("#search").requestSubmit();
})"""


@contextmanager
def page_over(index: Path) -> Iterator[str]:
    """`protoclip ui` on a free port, ended at the end; its address."""
    command = [sys.executable, "-m", "protoclip", "ui", str(index), "--port", "0", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def first_hits(page: Any, url: str) -> list[tuple[float, float]]:
    """Milliseconds to hits and to their pictures, of each query in each round."""
    page.goto(url)
    page.evaluate(MEASURE, "warm up")
    return [tuple(page.evaluate(MEASURE, f"{query}{' ' * turn}")) for turn in range(ROUNDS) for query in QUERIES]


def show(browser: Any, url: str, folder: Path, look: Callable[[Any, str], None]) -> None:
    """Every view, light, dark and on a phone, as pictures in a folder; `look` is called on each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scheme, size in (
        ("light", "light", (1280, 800)),
        ("dark", "dark", (1280, 800)),
        ("phone", "light", (360, 740)),
    ):
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(url)
        first = page.evaluate("decodeURIComponent(document.querySelector('.hit .next a').href.split('like=')[1])")
        for view, query in VIEWS:
            page.goto(url + query.replace("{id}", first), wait_until="networkidle")
            look(page, f"{view}, {name}")
            page.screenshot(path=str(folder / f"{view}_{name}.png"))
        context.close()


def main() -> None:
    """Measures, looks, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--pictures", type=Path, required=True, help="folder for pictures of the page")
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()

    from browser import chromium, serious_faults

    faults: dict[str, list[str]] = {}
    widths: dict[str, bool] = {}

    def look(page: Any, name: str) -> None:
        faults[name] = serious_faults(page)
        widths[name] = bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    with page_over(given.index) as url, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        times = np.array(first_hits(page, url))
        entries = page.locator("#model").inner_text()
        show(browser, url, given.pictures, look)
        version = browser.version
    found = [f"{name}: {fault}" for name, several in faults.items() for fault in several]
    found += [f"{name}: wider than the screen" for name, fits in widths.items() if not fits]
    text = report(times, entries, version, len(faults), found)
    print(text)
    if given.result is not None:
        given.result.write_text(text, encoding="utf-8")
    sys.exit(1 if found else 0)


def report(times: np.ndarray, entries: str, version: str, num_views: int, found: list[str]) -> str:
    """The result as Markdown."""
    rows = [
        f"| {name} | {np.percentile(column, 50):.0f} | {np.percentile(column, 95):.0f} | {column.max():.0f} |"
        for name, column in zip(("hits in the page", "first six pictures drawn"), times.T, strict=True)
    ]
    return "\n".join(
        [
            "# The page in a browser",
            "",
            f"`protoclip ui` over the demo's ({' '.join(entries.split())}) in headless Chromium {version} on the "
            f"same machine, {len(times)} searches by words, one at a time; Python {platform.python_version()}, "
            f"{platform.machine()}. By `benchmarks/page.py`, of `make page-test`.",
            "",
            "| ms from Enter to | p50 | p95 | largest |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"axe-core, and the page's width, on {num_views} views (light, dark, a phone of 360 pixels): "
            + ("no serious or critical fault, and nothing wider than the screen." if not found else "**faults**:"),
            *(f"- {one}" for one in found),
            "",
        ]
    )


if __name__ == "__main__":
    main()
