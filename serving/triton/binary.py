"""Finds a Triton server on this machine and prepares what it needs to start.

A full installation (a container, or `tritonserver` on PATH) has its own backends. The binary inside the
nvidia-pytriton wheel has only the Python backend; a folder of backends is made for it, with ours for ONNX.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from protoclip.contract.errors import ServerError
from protoclip.contract.install import install_command

CONTAINER_BINARY = Path("/opt/tritonserver/bin/tritonserver")
OUR_BACKENDS = Path(__file__).with_name("backends")
GIVEN_UP = Path(__file__).parents[2] / "model_repository" / "sources" / "shared" / "given_up.py"


@dataclass(frozen=True)
class ServerBinary:
    """A server that can be started: `path` with `arguments` before all others, in `environment`."""

    path: Path
    embedded: bool
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def find_server(folder: Path) -> ServerBinary:
    """The server of this machine: on PATH, else the container's, else the embedded one.

    Args:
        folder: an empty temporary folder, kept while the server runs.

    Raises:
        ServerError: there is none, or the embedded one doesn't fit this Python or its numpy.
    """
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return ServerBinary(Path(on_path), False, (), _environment())
    if CONTAINER_BINARY.is_file():
        return ServerBinary(CONTAINER_BINARY, False, (), _environment())
    home = _embedded_home()
    if home is None:
        raise ServerError(
            f"no Triton server on this machine: {install_command('cpu')} brings one on Linux, "
            "or put `tritonserver` on PATH"
        )
    backends = make_backends(home, folder / "backends")
    _check_numpy()
    arguments = (f"--backend-directory={backends}", f"--cache-directory={home / 'caches'}")
    return ServerBinary(home / "bin" / "tritonserver", True, arguments, _embedded_environment(home))


def make_backends(home: Path, folder: Path) -> Path:
    """Makes the backend folder of the embedded server in `folder`.

    Args:
        home: the wheel's `tritonserver` folder.

    Raises:
        ServerError: the wheel has no Python backend stub for this version of Python.
    """
    python_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    worker = home / "python_backend_stubs" / python_version / "triton_python_backend_stub"
    if not worker.is_file():
        there = ", ".join(sorted(path.name for path in (home / "python_backend_stubs").iterdir()))
        raise ServerError(
            f"the embedded Triton server has no worker for Python {python_version}: use one of {there}"
        )
    python = folder / "python"
    python.mkdir(parents=True)
    # The library looks for the stub beside its own real path: a link would resolve into the wheel.
    shutil.copyfile(home / "backends" / "python" / "libtriton_python.so", python / "libtriton_python.so")
    utilities = "triton_python_backend_utils.py"
    (python / utilities).symlink_to(home / "backends" / "python" / utilities)
    (python / worker.name).symlink_to(worker)
    shutil.copytree(
        OUR_BACKENDS / "onnxruntime", folder / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copyfile(GIVEN_UP, folder / "onnxruntime" / "given_up.py")
    return folder


def _embedded_home() -> Path | None:
    spec = find_spec("pytriton")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent / "tritonserver"
    return home if (home / "bin" / "tritonserver").is_file() else None


def _check_numpy() -> None:
    if int(version("numpy").split(".")[0]) >= 2:
        raise ServerError(
            f"the embedded Triton server gives wrong results with numpy {version('numpy')}: pip install 'numpy<2'"
        )


def _environment() -> dict[str, str]:
    # A repository may be mounted read-only, and its files are compared: no __pycache__ in it.
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _embedded_environment(home: Path) -> dict[str, str]:
    environment = _environment()
    # The stub process embeds libpython and finds its packages through the first python3 on PATH.
    binaries = Path(sys.executable).parent
    environment["PATH"] = os.pathsep.join([str(binaries), environment.get("PATH", os.defpath)])
    libraries = [sysconfig.get_config_var("LIBDIR"), home.parent.parent / "nvidia_pytriton.libs"]
    inherited = [environment["LD_LIBRARY_PATH"]] if environment.get("LD_LIBRARY_PATH") else []
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*(str(path) for path in libraries if path), *inherited])
    return environment
