"""The Dockerfile: linted, its stages and users as promised, what it copies is there. No image is built here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
IMAGES = ("client", "train", "serve")


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM (.+) AS (\w+)$", TEXT, flags=re.MULTILINE)[1:]
    return dict(zip(parts[1::3], parts[2::3], strict=True))


def lint(text: str) -> list[str]:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed: make check-deploy")
    found = subprocess.run([linter, "--no-color", "-"], input=text, capture_output=True, text=True, check=False)
    return found.stdout.splitlines() + found.stderr.splitlines()


def test_hadolint_finds_nothing() -> None:
    assert lint(TEXT) == []


def test_hadolint_would_find_a_base_without_a_tag() -> None:
    assert any("DL3006" in line for line in lint("FROM python\nUSER 1000\n"))


def test_the_last_stage_serves() -> None:
    """`docker build .` without a target gives the server."""
    assert list(stages()) == ["wheel", "python", "client", "train", "serve"]


@pytest.mark.parametrize("image", IMAGES)
def test_no_image_runs_as_root(image: str) -> None:
    """By number: Kubernetes can't tell whether a name is root's."""
    assert re.findall(r"^USER (.+)$", stages()[image], re.MULTILINE) == ["1000:1000"]


@pytest.mark.parametrize("image", IMAGES)
def test_every_image_says_how_it_is_checked(image: str) -> None:
    assert len(re.findall(r"^HEALTHCHECK ", stages()[image], re.MULTILINE)) == 1


def test_bases_have_a_tag() -> None:
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.MULTILINE))
    for base in re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE):
        name = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
        assert name == "python" or re.search(r":[\w.-]*\d", name), name


def test_what_is_copied_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    sources = re.findall(r"^COPY (?!\. )(\S+)", TEXT, re.MULTILINE)
    sources += re.findall(r"--mount=type=bind,source=([^,/]+)", TEXT)
    assert len(sources) >= 4
    for source in sources:
        assert (ROOT / source).is_file(), source
        assert source.split("/")[0] not in ignored


def test_every_pip_command_is_constrained() -> None:
    """But the one that makes the wheel, which installs nothing beside it."""
    commands = re.findall(r"pip install .*", TEXT)
    assert len(commands) == 3
    assert all("--constraint /constraints.txt" in command for command in commands)


def test_the_server_has_what_its_models_import() -> None:
    from serving.triton import repository

    sources = Path(repository.__file__).parents[2] / "model_repository" / "sources"
    imported = {
        name
        for file in [*sources.glob("*_preprocess/*.py"), *(ROOT / "protoclip/contract").glob("pixels*.py")]
        for name in re.findall(
            r"^\s*(?:import|from) (numpy|PIL|tokenizers|ftfy|scipy|torch)\b", file.read_text(), re.M
        )
    }
    names = {"PIL": "pillow"}
    (installed,) = re.findall(r"pip install ((?:.*\\\n)*.*)", stages()["serve"])
    assert {names.get(name, name) for name in imported} <= set(installed.split())


def test_the_image_starts_the_server_as_the_tests_do(tiny_repository: Path, tmp_path: Path) -> None:
    """With the launcher's flags, on a checkout's model_repository, which holds sources/ as well."""
    repository = tmp_path / "models"
    shutil.copytree(tiny_repository, repository)
    shutil.copytree(ROOT / "model_repository" / "sources", repository / "sources")
    (command,) = re.findall(r"^CMD (.+)$", stages()["serve"], re.MULTILINE)
    program, *arguments = json.loads(command)
    assert program == "protoclip"
    gateway = ["--gateway", "--gateway-host", "0.0.0.0"]
    assert arguments == ["serve", "/models", "--host", "0.0.0.0", "--latency-summaries", "--log-json", *gateway]
    ports = [f"--{kind}-port=0" for kind in ("http", "grpc", "metrics", "gateway")]
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "protoclip",
            "serve",
            repository,
            "--json",
            "--latency-summaries",
            "--gateway",
            *ports,
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        facts = json.loads(server.stdout.readline())
        flags = Path(f"/proc/{facts['pid']}/cmdline").read_bytes().decode().split("\0")
        server.terminate()
    closed = [flag for flag in flags if "shared-memory" in flag]
    assert [flag.partition("=")[0] for flag in closed] == ["--http-restricted-api", "--grpc-restricted-protocol"]
    summaries = "--metrics-config=summary_latencies=true"
    assert {"--model-control-mode=poll", "--http-address=127.0.0.1", summaries} <= set(flags)
