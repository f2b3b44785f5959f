"""What the client, the contract and the command line must not load."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from protoclip.contract.manifest import Role
from serving.triton.repository import CONTRACT_FILES

HEAVY = [
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "triton",
    "sklearn",
]
HEAVIER_THAN_A_CONTRACT = [*HEAVY, "faiss", "tritonclient", "pandas", "scipy", "transformers"]

CONTRACT = [
    "protoclip",
    "protoclip.contract.addresses",
    "protoclip.contract.errors",
    "protoclip.contract.files",
    "protoclip.contract.manifest",
    "protoclip.contract.openvino_encoder",
    "protoclip.contract.picture_files",
    "protoclip.contract.pixels",
    "protoclip.contract.resizing",
    "protoclip.contract.text",
    "protoclip.contract.zero_shot",
]


def loaded(code: str, modules: list[str]) -> list[str]:
    """Which of `modules` a fresh interpreter has after `code`."""
    report = f"import json, sys; {code}; print('\\n' + json.dumps([m for m in {modules!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_question_can_be_answered_with_yes() -> None:
    assert loaded("import numpy", ["numpy", "torch"]) == ["numpy"]


@pytest.mark.parametrize("module", CONTRACT)
def test_contract(module: str) -> None:
    assert loaded(f"import {module}", HEAVIER_THAN_A_CONTRACT) == []


@pytest.mark.parametrize("role", CONTRACT_FILES)
def test_files_that_the_server_copies_need_nothing_of_ours(role: Role, tmp_path: Path) -> None:
    """Imported as Triton does, from a package that is a folder of copies."""
    (tmp_path / "copies").mkdir()
    for name in CONTRACT_FILES[role]:
        (tmp_path / "copies" / name).write_bytes((files("protoclip.contract") / name).read_bytes())
    code = f"sys.path.insert(0, {str(tmp_path)!r}); import copies.{CONTRACT_FILES[role][0].removesuffix('.py')}"
    assert loaded(code, [*HEAVIER_THAN_A_CONTRACT, "protoclip", "protoclip.contract"]) == []


@pytest.mark.parametrize("module", ["serving", "protoclip.client", "protoclip.search", "protoclip.cli"])
def test_client_stores_and_command_line(module: str) -> None:
    assert loaded(f"import {module}", HEAVY) == []


def test_public_names_of_the_package() -> None:
    assert loaded("from protoclip import Client, Index", HEAVY) == []


@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["export", "--help"]], ids=" ".join)
def test_help(arguments: list[str]) -> None:
    code = "import atexit, json, sys; from protoclip.cli import main; "
    code += f"atexit.register(lambda: print('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))); "
    code += f"sys.argv = ['protoclip', *{arguments!r}]; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
