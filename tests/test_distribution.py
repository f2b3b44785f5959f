"""The three import names are short words: they must be ours alone, and the light ones must stay light."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import typer

from protoclip.cli import app
from protoclip.cli.app import COMMANDS

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


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


def test_commands_are_listed_as_a_user_comes_to_need_them() -> None:
    group: Any = typer.main.get_command(app)
    assert tuple(group.list_commands(None)) == COMMANDS
    assert set(group.commands) == set(COMMANDS)


def test_every_command_shows_an_example_of_itself_and_prints_json() -> None:
    found = dict(_commands(typer.main.get_command(app), ("protoclip",)))
    assert {("protoclip", "doctor"), ("protoclip", "index", "info")} <= set(found)
    for path, command in found.items():
        text = " ".join((command.help or "").split())
        assert f"Example: {' '.join(path)}" in text, path
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options or hasattr(command, "commands"), path


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", "protoclip do", "doctor"),
        ("bash", "protoclip index i", "info"),
        ("zsh", "protoclip ev", "evaluate"),
    ],
)
def test_the_shell_completes_commands(shell: str, words: str, expected: str) -> None:
    position = str(len(words.split()) - 1)
    environment = {"COMP_WORDS": words, "COMP_CWORD": position, "_TYPER_COMPLETE_ARGS": words}
    done = _run_protoclip(_PROTOCLIP_COMPLETE=f"complete_{shell}", **environment)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert "build" not in done.stdout


def test_the_shell_gets_its_completion_script() -> None:
    shown = subprocess.run(
        ["bash", "-c", f"'{Path(sys.executable).with_name('protoclip')}' --show-completion; true"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "complete -o default -F _protoclip_completion protoclip" in shown


def _run_protoclip(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("protoclip")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import protoclip

    assert {"Client", "Index"} <= set(dir(protoclip))
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = protoclip.Clint


def test_every_package_is_in_the_distribution_and_in_the_repository() -> None:
    """A package that no list names works from a checkout, and is missing where it is installed from one."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    places = [path.parent for top in ("protoclip", "export", "serving") for path in (ROOT / top).rglob("*.py")]
    found = {".".join(place.relative_to(ROOT).parts) for place in places}
    without_code = {"serving.triton.backends.onnxruntime"}
    assert found - without_code == listed - {"model_repository"}
    for place in set(places) - {ROOT / "serving/triton/backends/onnxruntime"}:
        assert (place / "__init__.py").is_file(), place
    ignored = subprocess.run(
        ["git", "check-ignore", "--", *map(str, {path for place in places for path in place.glob("*.py")})],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split()
    assert not ignored


def test_public_names_are_what_people_write_in_their_own_code() -> None:
    import protoclip

    wanted = {"Client", "Index", "Hit", "Classification", "Embeddings", "ItemError", "ServerError", "ConfigError"}
    wanted |= {"DataError", "ModelError", "IndexFileError", "VerdictError", "train", "load_config", "Pairs"}
    assert wanted <= set(protoclip.__all__)
    for name in protoclip.__all__:
        assert getattr(protoclip, name) is not None, name


def test_a_folder_of_ones_own_is_not_in_the_clients_way(tmp_path: Path) -> None:
    """People have folders called `serving` and `export`, and start Python beside them."""
    for name in ("serving", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong folder')")
    code = "from protoclip import Client, Index, Hit; print(Client.__module__, Index.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["protoclip.client.client", "protoclip.search.index"], done.stderr
