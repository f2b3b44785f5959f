"""`protoclip deploy` against a real server: no gap, nothing changed by what fails, and what survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from command_line import Run, runner
from other_artifacts import add_golden, fail_verdict, other_artifact, resign

from protoclip import Client, Index
from protoclip.cli.serve import deployable
from protoclip.client import ModelNotFound
from protoclip.contract.errors import IndexFileError, ServerError
from protoclip.contract.golden import GoldenVectors
from serving.triton import deployment
from serving.triton.aliases import alias_version, marked_unproven, read_deployments, write_deployments
from serving.triton.grpc_request import embed_by_grpc
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.readiness import embed
from serving.triton.repository import write_repository
from serving.triton.supervision import RestartLimit, Supervisor

OLD, NEW, THIRD = "tiny_012345", "tiny_fedcba", "tiny_abcdef"
FINGERPRINTS = {OLD: "0123456789abcdef", NEW: "fedcba9876543210", THIRD: "abcdef0123456789"}
TEXT = "red shoes"
REQUEST = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [TEXT]}]})
WAIT_S = 90.0
Ask = Callable[[], tuple[int, np.ndarray]]


class Deployable:
    """A supervised server that takes the command's requests."""

    def __init__(self, repository: Path, server: TritonServer, launched: LaunchedServer) -> None:
        self.repository, self.server, self.launched = repository, server, launched
        self.events: list[str] = []
        self._stopped = threading.Event()
        self._supervisor = Supervisor(server, self.events.append, limit=RestartLimit(100, pause_s=0.0))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self._supervisor.look()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def client(self, model: str | None = "tiny") -> Client:
        return Client(self.launched.grpc_url, model=model)

    def state(self) -> tuple[object, ...]:
        """All that a deployment which fails must leave as it was."""
        folders = sorted(path.name for path in self.repository.iterdir())
        with self.client() as client:
            found = client.model.prefix
        models = tuple(model.name for model in self.server.live.public)
        return folders, read_deployments(self.repository), models, found


@pytest.fixture(scope="module")
def artifacts(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three artifacts of one name, by the prefixes of their models."""
    folder = tmp_path_factory.mktemp("artifacts")
    made = {OLD: shutil.copytree(tiny_artifact, folder / OLD)}
    made |= {prefix: other_artifact(made[OLD], folder / prefix, FINGERPRINTS[prefix]) for prefix in (NEW, THIRD)}
    for artifact in made.values():
        add_golden(artifact)
    return made


@pytest.fixture(scope="module")
def expected(artifacts: dict[str, Path]) -> dict[str, np.ndarray]:
    """What each model answers for the text."""
    answers = {}
    for prefix, artifact in artifacts.items():
        with Client(str(artifact)) as client:
            answers[prefix] = client.embed_texts(TEXT)
    return answers


@pytest.fixture(scope="module")
def deployed(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployable]:
    """A server with the old model, on which the tests deploy one after the other."""
    repository = tmp_path_factory.mktemp("repository")
    write_repository(artifacts[OLD], repository, encoder_threads=1)
    server = TritonServer(repository, start_timeout_s=60.0)
    with server as launched:
        found = Deployable(repository, server, launched)
        try:
            with deployable(server, launched, found.events.append):
                yield found
        finally:
            found.stop()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], deployed: Deployable) -> Run:
    command = runner(monkeypatch, capsys)
    return lambda *arguments: command("deploy", *arguments, "--url", deployed.launched.http_url)


class Load:
    """Asks the alias by one protocol until stopped, and keeps what was answered by which version."""

    def __init__(self, ask: Ask) -> None:
        self.answers: list[tuple[int, np.ndarray]] = []
        self.failures: list[str] = []
        self._ask = ask
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            try:
                self.answers.append(self._ask())
            except Exception as error:  # noqa: BLE001 - every failure is one too many
                self.failures.append(repr(error))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@contextmanager
def _by_http(launched: LaunchedServer) -> Iterator[Ask]:
    connection = HTTPConnection("127.0.0.1", int(launched.http_url.rpartition(":")[2]), timeout=WAIT_S)

    def ask() -> tuple[int, np.ndarray]:
        connection.request("POST", "/v2/models/tiny_text/infer", REQUEST)
        answer = json.loads(connection.getresponse().read())
        values = {output["name"]: output["data"] for output in answer["outputs"]}
        return int(answer["model_version"]), np.array(values["embedding"], np.float32)

    with closing(connection):
        yield ask


@contextmanager
def _by_grpc(launched: LaunchedServer) -> Iterator[Ask]:
    client = grpc_client.InferenceServerClient(launched.grpc_url.removeprefix("grpc://"))
    tensor = grpc_client.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[TEXT.encode()]], dtype=np.object_))

    def ask() -> tuple[int, np.ndarray]:
        answer = client.infer("tiny_text", [tensor])
        return int(answer.get_response().model_version), answer.as_numpy("embedding")[0]

    with closing(client):
        yield ask


def test_no_gap(
    run: Run, deployed: Deployable, artifacts: dict[str, Path], expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert run(artifacts[OLD]).code == 0
    versions = {alias_version(FINGERPRINTS[prefix]): prefix for prefix in (OLD, NEW)}
    with (
        deployed.client() as stays,
        _by_http(deployed.launched) as ask_http,
        _by_grpc(deployed.launched) as ask_grpc,
    ):
        index = Index.build(tmp_path / "old.index", stays, texts=["red shoes", "a cat"])
        loads = [Load(ask_http), Load(ask_grpc)]
        outcome = run(artifacts[NEW], "--json")
        time.sleep(0.2)
        for load in loads:
            load.stop()
        assert outcome.code == 0, outcome.err
        assert outcome.json["aliases"]["tiny"]["current"] == NEW
        for load in loads:
            assert load.failures == []
            assert {versions[version] for version, _ in load.answers} == {OLD, NEW}
            for version, vector in load.answers:
                assert np.abs(vector - expected[versions[version]]).max() < 1e-5
        # A client stays with the model that it found, until it is told to follow.
        assert stays.model.prefix == OLD
        assert np.abs(stays.embed_texts(TEXT) - expected[OLD]).max() < 1e-5
        assert stays.follow().prefix == NEW
        assert np.abs(stays.embed_texts(TEXT) - expected[NEW]).max() < 1e-5
        # An index is asked with its own model, which is still there.
        assert stays.search(index, text=TEXT, k=1)[0].score == pytest.approx(1, abs=1e-5)
        assert Index.open(tmp_path / "old.index", stays).fingerprint == FINGERPRINTS[OLD]
    with deployed.client(None) as found:
        assert found.model.prefix == NEW


def _garbage(artifact: Path) -> None:
    (artifact / "text.onnx").write_bytes(b"garbage")
    resign(artifact)


def _other_bytes(artifact: Path) -> None:
    (artifact / "text.onnx").write_bytes((artifact / "text.onnx").read_bytes() + b" ")


def _other_weights(artifact: Path) -> None:
    shutil.copyfile(artifact.parent / OLD / "text.onnx", artifact / "text.onnx")
    resign(artifact)


def _wrong_golden(artifact: Path) -> None:
    golden = add_golden(artifact)
    wrong = GoldenVectors(expected=golden.text.expected[::-1], centre=golden.text.centre)
    manifest = resign(artifact)
    assert manifest.golden is not None
    resign(artifact, golden=manifest.golden.model_copy(update={"text": wrong}))


def _failed_verdict(artifact: Path) -> None:
    fail_verdict(artifact)


def _failed_verdict_and_other_weights(artifact: Path) -> None:
    _other_weights(artifact)
    fail_verdict(artifact)


@pytest.mark.parametrize(
    ("damage", "arguments", "code", "reason"),
    [
        (_garbage, (), 2, f"can't load {THIRD}_text_encoder"),
        (_other_bytes, (), 2, "not the file that the manifest speaks of"),
        (_other_weights, (), 1, f"{THIRD}_text does not answer as"),
        (_wrong_golden, (), 1, f"{THIRD}_text does not answer as"),
        (_failed_verdict, (), 1, "the parity verdict of onnx_fp32 is FAILED"),
        (_failed_verdict_and_other_weights, ("--allow-inaccurate",), 1, f"{THIRD}_text does not answer as"),
    ],
)
def test_what_fails_leaves_everything_as_it_was(
    damage: Callable[[Path], None],
    arguments: tuple[str, ...],
    code: int,
    reason: str,
    run: Run,
    deployed: Deployable,
    artifacts: dict[str, Path],
    tmp_path: Path,
) -> None:
    for prefix in (OLD, THIRD):
        shutil.copytree(artifacts[prefix], tmp_path / prefix)
    damage(tmp_path / THIRD)
    before = deployed.state()
    deployed.events.clear()
    outcome = run(tmp_path / THIRD, *arguments)
    assert (outcome.code, deployed.state()) == (code, before), outcome.err
    assert not any("starting the server again" in event for event in deployed.events)
    assert reason in outcome.err
    with deployed.client(THIRD) as client, pytest.raises(ModelNotFound):
        _ = client.model


def test_what_is_written_already_is_loaded_as_it_is_and_stays(
    run: Run, deployed: Deployable, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    write_repository(artifacts[THIRD], deployed.repository, max_batch_size=8)
    before = deployed.state()
    outcome = run(artifacts[THIRD], "--max-batch-size", "16")
    assert (outcome.code, "with settings of its own" in outcome.err) == (2, True), outcome.err
    shutil.copytree(artifacts[THIRD], tmp_path / THIRD)
    _garbage(tmp_path / THIRD)
    outcome = run(tmp_path / THIRD)
    assert (outcome.code, "from other files than" in outcome.err) == (2, True), outcome.err
    assert deployed.state() == before


def test_a_canary_is_for_some_clients_and_each_keeps_its_model(
    run: Run, deployed: Deployable, artifacts: dict[str, Path]
) -> None:
    current = deployed.state()[3]
    assert run(artifacts[THIRD], "--canary", "50%").code == 0
    with deployed.client(THIRD) as client:
        # As it was written before.
        assert client.model.max_batch_size == 8
    found = []
    for _ in range(24):
        with deployed.client() as client:
            found.append(client.model.prefix)
            assert {client.follow().prefix for _ in range(3)} == {found[-1]}
    assert set(found) == {current, THIRD}
    refused = run(artifacts[str(current)], "--canary", "50%")
    assert (refused.code, "can't be a canary, as all clients have it" in refused.err) == (2, True), refused.err
    assert run("--promote").code == 0
    assert deployed.state()[3] == THIRD
    assert run("--rollback").code == 0
    assert deployed.state()[3] == current


def test_a_server_that_was_killed_has_its_alias_where_it_was(
    run: Run, deployed: Deployable, expected: dict[str, np.ndarray]
) -> None:
    before = deployed.state()
    deployed.events.clear()
    os.kill(deployed.server.pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while not any("answers again" in line for line in deployed.events):
        assert time.monotonic() < deadline, deployed.events
        time.sleep(0.1)
    assert deployed.state() == before
    with _by_http(deployed.launched) as ask:
        version, vector = ask()
    assert version == alias_version(FINGERPRINTS[str(before[3])])
    assert np.abs(vector - expected[str(before[3])]).max() < 1e-5


def test_a_removed_model_is_missed_by_its_index_alone(run: Run, deployed: Deployable, tmp_path: Path) -> None:
    with deployed.client(THIRD) as client:
        index = Index.build(tmp_path / "third.index", client, texts=["red shoes", "a cat"])
        refused = run("--remove", str(deployed.state()[3]))
        assert refused.code == 2
        assert "stands for" in refused.err
        # A server that is starting reads its files.
        starting, seen = deployed.server.files_in_use, []

        def started() -> None:
            seen.append(THIRD in {model.prefix for model in deployed.server.models})
            starting.release()

        starting.acquire()
        threading.Timer(1.0, started).start()
        assert run("--remove", THIRD).code == 0
        assert seen == [True]
        assert not list(deployed.repository.glob(f"{THIRD}*"))
        with pytest.raises(ModelNotFound, match=r"call follow\(\)"):
            client.embed_texts(TEXT)
    with deployed.client() as client, pytest.raises(IndexFileError, match="made with"):
        client.search(index, text=TEXT, k=1)


def test_a_server_that_is_started_anew_has_it_too_and_nothing_unproven(
    deployed: Deployable, artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    current, kept = deployed.state()[3], read_deployments(deployed.repository)
    # As a deployment leaves it that was killed, and could not even be loaded.
    write_repository(artifacts[THIRD], deployed.repository)
    (deployed.repository / f"{THIRD}_text_encoder" / "1" / "model.onnx").write_bytes(b"garbage")
    write_deployments(deployed.repository, marked_unproven(kept, THIRD, True))
    server = TritonServer(deployed.repository)
    with server as launched, Client(launched.http_url, model="tiny") as client:
        assert client.model.prefix == current
        assert THIRD not in {model.prefix for model in launched.models}
        # Nobody waits for a dead server to unload a model: who starts it again would wait too.
        monkeypatch.setattr(deployment, "UNLOAD_S", 1000.0)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerError, match="ended by itself"):
            server.wait(WAIT_S)
        other = next(model.prefix for model in launched.models if model.prefix != current)
        deployment.Deployer(server, print)._unload(other, server.live.starts)
        assert other not in {model.prefix for model in server.live.models}


def test_what_answers_otherwise_over_grpc_is_not_deployed(
    run: Run, deployed: Deployable, artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = next(model for model in deployed.server.live.public if model.role == "text")
    texts = [TEXT.encode(), b"a cat"]
    host, port = deployed.launched.http_url.removeprefix("http://").split(":")
    by_http = [embed(host, int(port), model, text, WAIT_S) for text in texts]
    by_grpc = embed_by_grpc(deployed.launched.grpc_url.removeprefix("grpc://"), model, texts, WAIT_S)
    np.testing.assert_allclose(by_grpc, by_http, atol=1e-6)
    with pytest.raises(ServerError, match=r"over gRPC failed with INVALID_ARGUMENT: .*blank"):
        embed_by_grpc(deployed.launched.grpc_url.removeprefix("grpc://"), model, [b" "], WAIT_S)

    def backwards(*arguments: object) -> list[np.ndarray]:
        return embed_by_grpc(*arguments)[::-1]  # type: ignore[arg-type]

    before = deployed.state()
    monkeypatch.setattr(deployment, "embed_by_grpc", backwards)
    outcome = run(artifacts[str(before[3])])
    assert (outcome.code, "does not answer over gRPC as" in outcome.err) == (1, True), outcome.err
    assert deployed.state() == before
