"""Times a stranger's way: clone, installation, and one command from own pictures to a page that answers.

    python benchmarks/strangers_walk.py runs/demo --result benchmarks/strangers_walk_2cores_202611.md

Twice over the same 2,000 pictures: with a published model, which a hub on the loopback gives (the run's own
weights, as open_clip publishes them), and with the run's artifact. Exit code 1 where one takes over 15 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from own_pictures import write_pictures

from protoclip.contract.files import write_text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

LIMIT_S = 15 * 60
SIZE = (1024, 768)
PUBLISHED = "loopback/emoji"
QUESTION = "?q=a+red+heart"


def main() -> None:
    """Walks, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="what `protoclip demo` left: its weights and its artifact")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--python", type=Path, help="an environment's python to use instead of a new one")
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "photos", given.pictures, SIZE)
        python, rows = _installed(folder, given.python)
        rows += _walks(python, folder, given.run.resolve())
    text = report(given.pictures, rows)
    print(text)
    if given.result is not None:
        write_text(given.result, text)
    installed = sum(seconds for name, seconds in rows if not name.startswith("`index"))
    sys.exit(
        0 if all(installed + seconds <= LIMIT_S for name, seconds in rows if name.startswith("`index")) else 1
    )


def _installed(folder: Path, python: Path | None) -> tuple[Path, list[tuple[str, float]]]:
    """A python with the package, and what it took: nothing where one was given."""
    if python is not None:
        return python, []
    clone, environment = folder / "protoclip", folder / "environment"
    new = environment / "bin" / "python"
    steps = (
        ("git clone", ["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(clone)]),
        ("python -m venv", [sys.executable, "-m", "venv", str(environment)]),
        (
            "pip install '.[cpu]', packages downloaded",
            [str(new), "-m", "pip", "install", "--quiet", "--no-cache-dir", "-c", "constraints.txt", ".[cpu]"],
        ),
    )
    rows = []
    for name, command in steps:
        began_s = time.perf_counter()
        subprocess.run(command, check=True, cwd=clone if clone.exists() else folder, env=_environment())
        rows.append((f"`{name}`", time.perf_counter() - began_s))
    return new, rows


def _walks(python: Path, folder: Path, run: Path) -> list[tuple[str, float]]:
    """Both ways to the page."""
    from loopback_hub import serve_hub

    (folder / "hub").mkdir()
    with serve_hub(folder / "hub") as hub:
        repository = hub.repository(PUBLISHED)
        shutil.copy(run / "model.safetensors", repository / "open_clip_model.safetensors")
        shutil.copy(run / "open_clip_config.json", repository)
        (repository / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
        at_hub = _environment(HF_ENDPOINT=hub.url, HF_HOME=str(folder / "hub_home"), NO_PROXY="127.0.0.1")
        published = _page(python, folder, "published.index", ["--export", f"hf-hub:{PUBLISHED}"], at_hub)
    demo = _page(python, folder, "demo.index", ["--url", str(run / "artifact")], _environment())
    return [
        ("`index build … --export hf-hub:… --ui`, until the page shows hits", published),
        ("`index build … --url ARTIFACT --ui`, until the page shows hits", demo),
    ]


def _page(python: Path, folder: Path, index: str, model: list[str], environment: dict[str, str]) -> float:
    """Seconds from the command to hits with pictures on the page."""
    began_s = time.perf_counter()
    command = [str(python), "-m", "protoclip", "index", "build", "photos", index, *model, "--ui", "--ui-port=0"]
    with subprocess.Popen(
        [*command, "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            text = process.stdout.read(1)
            while "url" not in (facts := _last_object(text)):
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{' '.join(command)}: ended with exit code {process.wait()}")
                text += line
            with urllib.request.urlopen(f"{facts['url']}{QUESTION}", timeout=60) as answer:
                page = answer.read().decode()
            assert page.count('class="card hit"') > 0, page[:2000]
            return time.perf_counter() - began_s
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _last_object(text: str) -> dict[str, object]:
    """The last of the JSON objects that were printed so far; empty where it is not whole yet."""
    try:
        return dict(json.loads(text.strip().splitlines()[-1])) if text.strip() else {}
    except (json.JSONDecodeError, ValueError, TypeError):
        return {}


def _environment(**more: str) -> dict[str, str]:
    """This process's, without what would have the clone import these sources."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROTOCLIP"))}
    return {**kept, **more}


def report(pictures: int, rows: list[tuple[str, float]]) -> str:
    """The result as Markdown."""
    lines = [
        "# A stranger's way to the page",
        "",
        f"{pictures:,} pictures of {SIZE[0]} × {SIZE[1]} in a folder, {os.cpu_count()} cores, a new environment; "
        "nothing is there before but Python and git. By `benchmarks/strangers_walk.py`, of `make strangers-walk`.",
        "",
        "| step | s |",
        "|---|---:|",
        *(f"| {name} | {seconds:.0f} |" for name, seconds in rows),
        "",
    ]
    installed = sum(seconds for name, seconds in rows if not name.startswith("`index"))
    for name, kind in (("--export", "a published model"), ("--url", "the demo's model")):
        seconds = next(seconds for row, seconds in rows if name in row)
        lines.append(
            f"With {kind}: {(installed + seconds) / 60:.1f} minutes, one command after the installation.  "
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
