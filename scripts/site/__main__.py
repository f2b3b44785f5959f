"""Command line: `python -m scripts.site`: prepares the pages, builds the site with MkDocs, checks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .prepare import SiteError, prepare
from .self_contained import external_resources

ROOT = Path(__file__).parents[2]
FOLDER = Path(".cache/site")  # as in mkdocs.yml


def main() -> int:
    folder = ROOT / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    try:
        prepare(ROOT, folder / "pages")
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    # Its notice about the future of MkDocs: decision 0038.
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    # Not with --quiet: warnings are not counted then, and nothing is strict.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    if built.returncode:
        print(built.stderr, file=sys.stderr)
        return 1
    if found := external_resources(folder / "html"):
        print("\n".join(["the site's pages load from elsewhere:", *found]), file=sys.stderr)
        return 1
    pages = sum(1 for _ in (folder / "html").rglob("*.html"))
    print(f"{FOLDER / 'html'}: {pages} pages; to read them: {sys.executable} -m http.server -d {FOLDER / 'html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
