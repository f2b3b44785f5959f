"""Starting and ending a real server, well and badly."""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from protoclip.contract.errors import ConfigError, ModelError, ServerError
from serving.triton import binary, launcher, ports
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.ports import Ports, listen, pick, resolve
from serving.triton.server_log import end_of, explain, find_taken_port
from serving.triton.temporary_folder import TemporaryFolder

STOP_LIMIT_S = 15.0
"""Half of what Triton waits by itself for an idle connection, and room for a busy machine."""
ONE = ("tiny_012345_text",)
"""One of the two public models, where that is enough: half the workers to start."""


def _leftovers(server: LaunchedServer) -> list[str]:
    scratch = server.log_file.parent
    regions = [path.name for path in Path("/dev/shm").glob(f"{scratch.name}*")]
    return regions + ([str(scratch)] if scratch.exists() else [])


def _session(leader: int) -> list[int]:
    """The living processes of the server's session: itself and its workers."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = file.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state != "Z":
            found.append(int(file.parent.name))
    return found


def _session_ends(leader: int) -> bool:
    deadline = time.monotonic() + STOP_LIMIT_S
    while _session(leader) and time.monotonic() < deadline:
        time.sleep(0.02)
    return _session(leader) == []


def test_server_outlives_the_thread_that_started_it_and_stops_with_an_idle_connection(
    tiny_repository: Path,
) -> None:
    server, found = TritonServer(tiny_repository, names=ONE), []
    starter = threading.Thread(target=lambda: found.append(server.__enter__()))
    starter.start()
    starter.join()
    time.sleep(0.5)
    (launched,) = found
    assert launched.pid in _session(launched.pid)
    assert len(_leftovers(launched)) == 5  # one region for each Python worker, and the folder
    idle = http.client.HTTPConnection(launched.http_url.removeprefix("http://"), timeout=10)
    idle.request("GET", "/v2/health/ready")
    assert idle.getresponse().read() == b""
    began = time.monotonic()
    server.__exit__(None, None, None)
    assert time.monotonic() - began <= STOP_LIMIT_S
    idle.close()
    assert _session_ends(launched.pid)
    assert _leftovers(launched) == []


def test_a_server_that_hangs_is_killed_in_time(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "STOP_S", 1.0)
    with TritonServer(tiny_repository, names=ONE) as launched:
        os.kill(launched.pid, signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began <= STOP_LIMIT_S
    assert _session_ends(launched.pid)
    assert _leftovers(launched) == []


def test_a_server_that_ends_by_itself_is_noticed(tiny_repository: Path) -> None:
    server = TritonServer(tiny_repository, names=ONE)
    with server as launched:
        server.wait(0.05)
        os.kill(launched.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match="ended by itself with exit code -9"):
            server.wait(10)
    assert _session_ends(launched.pid)
    assert _leftovers(launched) == []


def test_server_ends_with_a_parent_that_is_killed(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of its own: other servers that start on this machine would tidy up too.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "import sys; from pathlib import Path; from serving.triton.launcher import TritonServer\n"
        "with TritonServer(Path(sys.argv[1]), names=sys.argv[2:]) as server:\n"
        "    print(server.pid, server.log_file.parent, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_repository), *ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    assert int(pid) in _session(int(pid))
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    deadline = time.monotonic() + STOP_LIMIT_S
    while _session(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _session(int(pid)) == []
    # Nobody was left to remove the folder: the next one to start does.
    assert Path(folder).exists()
    TemporaryFolder().remove()
    assert not Path(folder).exists()
    assert list(Path("/dev/shm").glob(f"{Path(folder).name}*")) == []


def test_a_model_that_does_not_load_is_named_with_the_server_s_reason(
    tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "a folder; with $(odd) characters"
    shutil.copytree(tiny_repository, repository)
    (repository / "tiny_012345_text_encoder" / "1" / "model.onnx").write_bytes(b"garbage")
    log = tmp_path / "server.log"
    with pytest.raises(ServerError, match=r"'tiny_012345_text_encoder'.*parsing failed") as failure:
        TritonServer(repository, names=ONE, log_file=log).__enter__()
    assert "\n" not in str(failure.value)
    assert str(repository) in str(failure.value)
    assert str(log) in str(failure.value)
    assert "failed to load" in log.read_text()


def test_a_model_that_answers_without_sense_is_not_served(tiny_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository)
    path = repository / "tiny_012345_text_encoder" / "1" / "model.onnx"
    graph = onnx.load(path)
    (matrix,) = (tensor for tensor in graph.graph.initializer if tensor.name == "matrix")
    matrix.CopyFrom(onnx.numpy_helper.from_array(np.full(matrix.dims, np.nan, np.float32), "matrix"))
    onnx.save(graph, path)
    with pytest.raises(ServerError, match="tiny_012345_text: the answer is not 16 finite values"):
        TritonServer(repository, names=ONE).__enter__()


def test_a_start_beyond_its_deadline_is_given_up(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Noted(TemporaryFolder):
        def __init__(self) -> None:
            super().__init__()
            made.append(self.folder)

    monkeypatch.setattr(launcher, "TemporaryFolder", Noted)
    with pytest.raises(ServerError, match="did not get ready in time"):
        TritonServer(tiny_repository, start_timeout_s=0.2).__enter__()
    (folder,) = made
    assert [*Path("/dev/shm").glob(f"{folder.name}*"), *folder.parent.glob(folder.name)] == []


@pytest.mark.parametrize("kind", ["http", "grpc", "metrics"])
def test_a_busy_port_is_named_with_its_option(kind: str, tiny_repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127\.0\.0\.1 .*in use.*--{kind}-port"):
            TritonServer(tiny_repository, ports=Ports(**{kind: port})).__enter__()


def test_ports_are_kept_or_picked() -> None:
    picked = pick("127.0.0.1")
    assert len({picked.http, picked.grpc, picked.metrics, 0}) == 4
    assert pick("127.0.0.1", picked.metrics).metrics == picked.metrics
    with pytest.raises(ConfigError, match="--metrics-port"):
        pick("127.0.0.1", 70_000)
    with pytest.raises(ConfigError, match=r"--host=192\.0\.2\.1 is not an address of this machine"):
        pick("192.0.2.1")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_no_two_of_a_server_s_ports_are_the_same(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives a released port again: each is held until all are picked."""
    held: list[socket.socket] = []

    def holding(*arguments: Any) -> socket.socket:
        assert all(listener.fileno() >= 0 for listener in held)
        held.append(listen(*arguments))
        return held[-1]

    monkeypatch.setattr(ports, "listen", holding)
    pick(address)
    assert len(held) == 3
    assert all(listener.fileno() < 0 for listener in held)


def test_hosts_become_ipv4_addresses() -> None:
    assert resolve("localhost") == "127.0.0.1"
    assert resolve("0.0.0.0") == "0.0.0.0"
    for host in ("::1", "2001:db8::1"):
        with pytest.raises(ConfigError, match=f"--host={host} has no IPv4 address"):
            resolve(host)


def test_a_port_taken_between_picking_and_listening_is_picked_again(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        picks = [replace(pick("127.0.0.1"), http=port)]

        def first(address: str, metrics_port: int) -> Ports:
            return picks.pop() if picks else pick(address, metrics_port)

        monkeypatch.setattr(launcher, "pick", first)
        with TritonServer(tiny_repository, names=ONE) as launched:
            assert picks == []
            assert launched.http_url != f"http://127.0.0.1:{port}"


def test_a_machine_without_a_server_is_told_what_to_install(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binary, "CONTAINER_BINARY", tmp_path / "none")
    monkeypatch.setattr(binary, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"no Triton server .*pip install .*\[cpu\]"):
        TritonServer(tiny_repository).__enter__()


def test_a_server_on_the_path_is_taken_with_its_own_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "tritonserver"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = binary.find_server(tmp_path)
    assert (found.path, found.embedded, found.arguments) == (own, False, ())


def test_a_python_that_the_embedded_server_does_not_know_is_named(tmp_path: Path) -> None:
    (tmp_path / "python_backend_stubs" / "2.7").mkdir(parents=True)
    with pytest.raises(ServerError, match=r"no worker for Python 3\.\d+: use one of 2\.7"):
        binary.make_backends(tmp_path, tmp_path / "backends")


def test_a_numpy_that_the_embedded_server_mistreats_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "version", lambda name: "2.1.0")
    with pytest.raises(ServerError, match=r"numpy 2\.1\.0: pip install 'numpy<2'"):
        binary.find_server(tmp_path)


def test_a_program_that_cannot_be_executed_is_named(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "tritonserver"
    own.write_text("no program")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match=r"tmp.*/tritonserver: Exec format error"):
        TritonServer(tiny_repository).__enter__()


def test_a_repository_without_a_part_is_named_before_anything_starts(
    tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository)
    shutil.rmtree(repository / "tiny_012345_text_encoder")
    with pytest.raises(ModelError, match="tiny_012345_text needs the model tiny_012345_text_encoder"):
        TritonServer(repository).__enter__()


def test_clients_may_not_touch_models_memory_or_files(triton: LaunchedServer) -> None:
    http_client = tritonclient.http.InferenceServerClient(triton.http_url.removeprefix("http://"))
    grpc_client = tritonclient.grpc.InferenceServerClient(triton.grpc_url.removeprefix("grpc://"))
    for client in (http_client, grpc_client):
        for attempt in (
            lambda client=client: client.load_model("tiny_012345_text"),
            lambda client=client: client.unload_model("tiny_012345_text"),
            client.get_system_shared_memory_status,
            client.get_log_settings,
            client.get_trace_settings,
        ):
            with pytest.raises(InferenceServerException, match=r"not allowed|restricted|not served here"):
                attempt()
        assert client.is_model_ready("tiny_012345_text")
        client.close()


def test_an_empty_repository_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no ProtoCLIP model"):
        TritonServer(tmp_path).__enter__()


def test_folders_of_living_owners_are_left_alone() -> None:
    first = TemporaryFolder()
    second = TemporaryFolder()
    assert first.folder.exists()
    second.remove()
    assert first.folder.exists()
    first.remove()
    assert not first.folder.exists()


def test_nothing_removes_what_is_old_in_a_folder_that_is_in_use() -> None:
    """As tmpfiles.d(5) says of systemd-tmpfiles: what is below a locked folder is skipped."""
    temporary = TemporaryFolder()
    folder = os.open(temporary.folder, os.O_RDONLY)
    try:
        for lock in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, lock | fcntl.LOCK_NB)
        temporary.remove()
        temporary.remove()
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "E1122 00:37:14.6 7641 x.cc:6] \"failed to load 'a' version 1: Internal: Bad: x\\n\\nAt:\\n y\"",
            "model 'a': Internal: Bad: x",
        ),
        (
            "/x/stub: error while loading shared libraries: libpython: gone\nI",
            "/x/stub: error while loading shared libraries: libpython: gone",
        ),
        ("error: creating server: Invalid argument - nothing there\n", "Invalid argument - nothing there"),
        (
            'E1122 00:37:28.4 8137 server.cc:241] "CudaDriverHelper has not been initialized."\n'
            'E1122 00:37:28.5 8137 x.cc:1] "odd"\n',
            "odd",
        ),
        ("I1122 all is well\n", ""),
    ],
)
def test_reasons_are_found_in_a_log(log: str, line: str) -> None:
    assert explain(log) == line
    assert find_taken_port(log) is None


MESSAGE = 'I1122 00:37:28.4 8137 x.cc:1] "well"'


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", "it wrote nothing to its log"),
        (f"\n{MESSAGE}\n+----+\n| x  |\n+----+\n\n", "its log ends with: | x  |"),
        (f"{MESSAGE}\nthe ports are the same\n{MESSAGE}\n", "its log ends with: the ports are the same"),
        (f"{MESSAGE} one\n{MESSAGE} two\n", f"its log ends with: {MESSAGE} two"),
    ],
)
def test_a_log_without_a_reason_is_told_by_its_end(log: str, line: str) -> None:
    assert explain(log) == ""
    assert end_of(log) == line
