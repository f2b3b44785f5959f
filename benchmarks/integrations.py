"""Runs the tests of tests/integrations against the libraries themselves, and writes what ran: `make integrations`.

Each library is installed into the environment at `--environment`, which sees the packages of the project's own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "integrations"


@dataclass(frozen=True)
class Library:
    """What is installed, and the tests that use it."""

    requirements: tuple[str, ...]
    tests: str


LIBRARIES = {
    "LangChain": Library(("langchain-core",), "test_langchain.py"),
    "LangChain's and LlamaIndex's OpenAI classes": Library(
        ("langchain-openai", "llama-index-embeddings-openai"), "with_openai_embeddings.py"
    ),
    "LlamaIndex": Library(("llama-index-core",), "with_llama_index.py"),
    "Haystack": Library(("haystack-ai",), "with_haystack.py"),
    "FiftyOne": Library(("fiftyone", "graphql-core<3.3"), "with_fiftyone.py"),
    "sentence-transformers": Library(("sentence-transformers",), "with_sentence_transformers.py"),
}


@dataclass(frozen=True)
class Outcome:
    """A row of the result."""

    name: str
    versions: str
    passed: int
    said: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, required=True, help="folder of an environment of its own")
    parser.add_argument("--constraint", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--only", nargs="*", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--result", type=Path, help="a table in Markdown")
    arguments = parser.parse_args()
    python = _environment(arguments.environment)
    outcomes = [_try(python, arguments.constraint, name, LIBRARIES[name]) for name in arguments.only]
    table = _table(outcomes, _size_mb(python))
    print(table)
    if arguments.result is not None:
        arguments.result.write_text(table, encoding="utf-8")
    return 0 if all(outcome.said.endswith("passed") for outcome in outcomes) else 1


def _environment(folder: Path) -> Path:
    """Its python; packages of this process's environment are seen, behind its own."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        theirs = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "project.pth").write_text(f"{theirs}\n", encoding="utf-8")
    return python


def _try(python: Path, constraint: Path, name: str, library: Library) -> Outcome:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(constraint),
        *library.requirements,
    ]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        reason = installed.stderr.strip().splitlines()[-1][:200]
        return Outcome(name, "", 0, f"not installed: {reason}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    tests = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "default", str(TESTS / library.tests)]
    ran = subprocess.run(tests, capture_output=True, text=True, cwd=ROOT, env=environment)
    print(ran.stdout[-4000:] if ran.returncode else "", end="")
    last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ran.stderr.strip()[-200:]
    counted = re.search(r"(\d+) passed", last)
    skipped = re.search(r"(\d+) skipped", last)
    said = "passed" if ran.returncode == 0 and counted else re.sub(r" in [\d.]+s.*", "", last).strip("= ")
    said = f"{skipped.group(1)} skipped, the others {said}" if skipped else said
    passed = int(counted.group(1)) if counted else 0
    return Outcome(name, _versions(python, library), passed, said)


def _versions(python: Path, library: Library) -> str:
    names = ", ".join(
        f"'{name} ' + version('{name}')" for name in (one.partition("<")[0] for one in library.requirements)
    )
    code = f"from importlib.metadata import version; print({names}, sep=', ')"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _size_mb(python: Path) -> float:
    site = python.parents[1] / "lib"
    return sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6


def _table(outcomes: list[Outcome], size_mb: float) -> str:
    rows = [f"| {one.name} | {one.versions} | {one.passed} | {one.said} |" for one in outcomes]
    head = (
        "# The client in other libraries' classes\n\n"
        "`make integrations`: the tests of `tests/integrations` with the libraries themselves, in an environment\n"
        f"of its own that sees the project's packages and holds {size_mb:.0f} MB beside them.\n\n"
        "| library | version | tests passed | outcome |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
