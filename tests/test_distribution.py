"""The three import names are short words: they must be ours alone, and the light ones must stay light."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["protoclip", "export", "serving", "model_repository"])
def test_the_import_name_belongs_to_this_distribution(name: str) -> None:
    owners = set(packages_distributions().get(name, []))
    assert owners <= {"protoclip"}
    code = f"import {name}; print({name}.__path__[0])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert Path(found.stdout.strip()) == ROOT / name


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "serve", "search", "demo"])
def test_help_shows_an_example_and_loads_no_torch(command: str) -> None:
    code = (
        "import sys\nfrom protoclip.cli import app\n"
        f"app(['{command}', '--help'], standalone_mode=False)\n"
        "print('LOADED', [m for m in ('torch', 'open_clip', 'onnx', 'faiss') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"protoclip {command}" in " ".join(shown.split())
    assert "LOADED []" in shown


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import protoclip

    assert {"Client", "Index"} <= set(dir(protoclip))
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = protoclip.Clint
