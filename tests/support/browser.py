"""A headless Chromium for tests, where one is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".cache" / "axe" / "package" / "axe.min.js"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, with a profile of its own; the test is skipped where there is none, or nothing to drive it."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium is installed: `apt-get install chromium`, then `make page-test`")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make page-test`")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def serious_faults(page: Any) -> list[str]:
    """What axe finds in a page that keeps people out: its rule and the first place."""
    if not AXE.is_file():
        pytest.skip("axe-core is not here: `make page-test` fetches it")
    page.evaluate(AXE.read_text(encoding="utf-8") + "; null")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
