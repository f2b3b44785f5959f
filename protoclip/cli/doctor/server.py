"""The doctor's checks of Triton; in this room because `protoclip.doctor` may not import `serving`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from protoclip.contract.errors import ConfigError, ServerError
from protoclip.doctor import Check, Group, State

PORTS = (8000, 8001, 8002)
_HELP_LIMIT_S = 20.0


def server_checks() -> Mapping[str, Callable[[], Sequence[Check]]]:
    """The checks of this module, by name."""
    return {"triton": lambda: [check_triton()], "ports": lambda: [check_ports(PORTS)]}


def check_triton() -> Check:
    """Whether there is a server binary, it fits Python and numpy, and its libraries load."""
    from serving.triton.binary import find_server

    with TemporaryDirectory() as temporary:
        try:
            server = find_server(Path(temporary))
        except ServerError as error:
            reason, _, advice = str(error).partition(": ")
            state = State.MISSING if reason.startswith("no Triton server") else State.PROBLEM
            return Check("triton", state, reason, advice)
    kind = "embedded" if server.embedded else "installed"
    obstacle = _why_it_does_not_start(server.path, server.environment)
    if obstacle is not None:
        advice = "pip install --force-reinstall nvidia-pytriton" if server.embedded else f"reinstall {server.path}"
        return Check("triton", State.PROBLEM, f"{kind}, does not start: {obstacle}", advice)
    return Check("triton", State.OK, f"{kind}: {server.path}")


def check_ports(ports: Sequence[int]) -> Check:
    """Whether a server could listen on its usual ports."""
    from serving.triton.ports import listen

    taken = []
    for port in ports:
        try:
            listen("127.0.0.1", port, "--http-port").close()
        except ConfigError:
            taken.append(port)
    free = [str(port) for port in ports if port not in taken]
    if not taken:
        return Check("ports", State.OK, f"free: {', '.join(free)}", group=Group.MACHINE)
    found = f"taken: {', '.join(map(str, taken))}" + (f"; free: {', '.join(free)}" if free else "")
    advice = "protoclip serve --http-port 0 --grpc-port 0 --metrics-port 0 picks free ones"
    return Check("ports", State.PROBLEM, found, advice, Group.MACHINE)


def _why_it_does_not_start(binary: Path, environment: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            [binary, "--help"],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_HELP_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_HELP_LIMIT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    if "--model-repository" in done.stdout + done.stderr:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
