"""Aliases as they are kept and written, and who may have one, without a server."""

from __future__ import annotations

import math
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run, runner
from other_artifacts import add_golden, fail_verdict, other_artifact

from protoclip.cli.deploy import _of_artifact
from protoclip.contract.errors import ConfigError, ModelError, ServerError, VerdictError
from protoclip.contract.golden import FARTHEST_DIFFERENCE, LEAST_CENTRED_COSINE, GoldenBound, loosened
from serving.triton import control
from serving.triton.aliases import (
    STATE_FILE,
    Alias,
    Deployments,
    alias_models,
    alias_version,
    moved,
    promoted,
    read_deployments,
    rolled_back,
    write_deployments,
)
from serving.triton.catalog import find_models
from serving.triton.control import ControlSocket, Running, ask, find_running
from serving.triton.live_models import LiveModels
from serving.triton.loading import _Failures
from serving.triton.pbtxt import from_pbtxt
from serving.triton.readiness import ModelState
from serving.triton.repository import write_repository

OLD, NEW = "tiny_012345", "tiny_fedcba"


@pytest.fixture(scope="module")
def repository(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    write_repository(tiny_artifact, folder / "repository")
    write_repository(other_artifact(tiny_artifact, folder / "new", "fedcba9876543210"), folder / "repository")
    return folder / "repository"


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    assert read_deployments(tmp_path) == Deployments()
    kept = Deployments(aliases={"tiny": Alias(current=OLD, canary=NEW, canary_share=0.1)}, unproven=(NEW,))
    write_deployments(tmp_path, kept)
    assert read_deployments(tmp_path) == kept


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 2}', '{"aliases": {"tiny": {"current": "../etc"}}}']
)
def test_a_file_that_is_damaged_is_named_with_the_way_out(text: str, tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(ModelError, match=f"{STATE_FILE}: can't be read .*: remove it, and deploy again"):
        read_deployments(tmp_path)


def test_an_alias_has_the_steps_of_its_model_and_its_version(repository: Path, tmp_path: Path) -> None:
    live = LiveModels(repository, tmp_path / "live")
    live.begin(find_models(repository), {"tiny": Alias(current=OLD)})
    live.lay_out()
    for prefix, other, fingerprint in ((OLD, NEW, "012345"), (NEW, OLD, "fedcba"), (OLD, NEW, "012345")):
        live.point("tiny", Alias(current=prefix, canary=other, canary_share=0.25))
        folder = tmp_path / "live" / "tiny_text"
        config = from_pbtxt((folder / "config.pbtxt").read_bytes(), "alias")
        assert [step.model_name for step in config.ensemble_scheduling.step] == [
            f"{prefix}_text_preprocess",
            f"{prefix}_text_encoder",
        ]
        values = {key: value.string_value for key, value in config.parameters.items()}
        assert values["fingerprint"][:6] == fingerprint
        assert {key: values[key] for key in ("alias", "current", "canary", "canary_share")} == {
            "alias": "tiny",
            "current": prefix,
            "canary": other,
            "canary_share": "0.25",
        }
        versions = sorted(path.name for path in folder.iterdir() if path.is_dir())
        assert versions == [str(alias_version(fingerprint))]
        # Another version's folder is there for a moment while the alias moves, and must not be served.
        assert list(config.version_policy.specific.versions) == [alias_version(fingerprint)]
    live.point("tiny", None)
    assert not list((tmp_path / "live").glob("tiny_text"))


def test_what_is_not_proven_is_gone_after_a_start(repository: Path, tmp_path: Path) -> None:
    models = find_models(repository)
    old, new = ([m for m in models if m.prefix == prefix] for prefix in (OLD, NEW))
    live = LiveModels(repository, tmp_path / "live")
    live.begin(old, {})
    live.lay_out()
    live.add(new, live.starts)
    assert {model.prefix for model in live.public} == {OLD, NEW}
    assert {model.prefix for model in live.models} == {OLD}
    before = live.starts
    live.lay_out()
    assert {model.prefix for model in live.public} == {OLD}
    assert not list((tmp_path / "live").glob(f"{NEW}*"))
    with pytest.raises(ServerError, match="started again meanwhile"):
        live.add(new, before)
    with pytest.raises(ServerError, match="started again meanwhile"):
        live.prove(NEW, before)
    live.add(new, live.starts)
    live.prove(NEW, live.starts)
    live.lay_out()
    assert {model.prefix for model in live.public} == {OLD, NEW}
    live.remove(NEW)
    assert not list((tmp_path / "live").glob(f"{NEW}*"))
    assert len(list((tmp_path / "live").glob(f"{OLD}*"))) == 6


def test_a_start_has_the_aliases_that_were_kept(repository: Path, tmp_path: Path) -> None:
    models = find_models(repository)
    live = LiveModels(repository, tmp_path / "live")
    live.begin([model for model in models if model.prefix == OLD], {"tiny": Alias(current=OLD)})
    live.lay_out()
    live.add([model for model in models if model.prefix == NEW], live.starts)
    before = live.starts
    live.point("tiny", Alias(current=NEW))
    # The server died while it was to take that.
    live.lay_out()
    assert live.aliases == {"tiny": Alias(current=OLD)}
    config = (tmp_path / "live" / "tiny_text" / "config.pbtxt").read_text()
    assert (f"{OLD}_text_encoder" in config, NEW in config) == (True, False)
    with pytest.raises(ServerError, match="started again meanwhile"):
        live.keep_aliases(before)
    live.add([model for model in models if model.prefix == NEW], live.starts)
    live.prove(NEW, live.starts)
    live.point("tiny", Alias(current=NEW))
    live.keep_aliases(live.starts)
    live.lay_out()
    assert live.aliases == {"tiny": Alias(current=NEW)}


def test_an_alias_of_what_is_not_served(repository: Path) -> None:
    old = [model for model in find_models(repository) if model.prefix == OLD]
    with pytest.raises(ConfigError, match=f"tiny stands for {NEW}, which is not served: serve it too"):
        alias_models({"tiny": Alias(current=NEW)}, old)
    with pytest.raises(ConfigError, match="is a model's own name"):
        alias_models({OLD: Alias(current=OLD)}, old)


def test_back_and_on() -> None:
    canary = Alias(current=OLD, previous=None, canary=NEW, canary_share=0.1)
    assert promoted("tiny", canary) == Alias(current=NEW, previous=OLD)
    assert rolled_back("tiny", canary) == Alias(current=OLD)
    assert rolled_back("tiny", Alias(current=NEW, previous=OLD)) == Alias(current=OLD, previous=NEW)
    with pytest.raises(ConfigError, match="has stood for nothing but"):
        rolled_back("tiny", Alias(current=OLD))
    with pytest.raises(ConfigError, match="tiny has no canary"):
        promoted("tiny", Alias(current=OLD))


def test_a_canary_needs_others_that_do_not_get_it() -> None:
    current = Alias(current=OLD, previous=NEW)
    assert moved(current, NEW, 0.1) == Alias(current=OLD, previous=NEW, canary=NEW, canary_share=0.1)
    assert moved(current, NEW, None) == Alias(current=NEW, previous=OLD)
    assert moved(None, NEW, None) == Alias(current=NEW)
    with pytest.raises(
        ConfigError, match="as there is no one model that the other clients have: deploy it without"
    ):
        moved(None, NEW, 0.1)
    with pytest.raises(ConfigError, match="can't be a canary, as all clients have it"):
        moved(current, OLD, 0.1)


def test_an_earlier_failure_is_not_taken_for_one_of_now() -> None:
    failed, loading, ready = (
        ModelState("UNAVAILABLE", "damaged\n\nAt:\n file.py"),
        ModelState("LOADING", ""),
        ModelState("READY", ""),
    )
    failures = _Failures()
    for state in (failed, failed, loading, ready, ModelState("UNAVAILABLE", "unloaded")):
        failures.look({"tiny": state})
    assert failures.most == 0
    for state in (loading, failed, failed):
        failures.look({"tiny": state})
    assert (failures.most, failures.last) == (1, "tiny: damaged")


def test_a_failed_verdict_is_not_deployed_unless_allowed(tiny_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_artifact, tmp_path / "tiny")
    add_golden(tmp_path / "tiny")
    passed = _of_artifact(tmp_path / "tiny", None, allow_inaccurate=False)
    assert passed["bound"]["max_abs_difference"] == 1e-5
    fail_verdict(tmp_path / "tiny")
    with pytest.raises(VerdictError, match=r"onnx_fp32 is FAILED \(see .*deploy it all the same with `--allow"):
        _of_artifact(tmp_path / "tiny", None, allow_inaccurate=False)
    # Its engine misses the gate, but has to be that model still.
    allowed = _of_artifact(tmp_path / "tiny", None, allow_inaccurate=True)
    assert allowed["bound"] == {"max_abs_difference": None, "min_centred_cosine": LEAST_CENTRED_COSINE}
    assert allowed["golden"] == passed["golden"]


def test_no_bound_is_too_loose_to_tell_models_apart() -> None:
    gate = GoldenBound(max_abs_difference=1e-5, min_centred_cosine=0.98)
    assert loosened(gate, 2e-5, 0.97) == GoldenBound(max_abs_difference=4e-5, min_centred_cosine=0.94)
    assert loosened(gate, 1e-6, 0.999) == gate
    farthest = GoldenBound(max_abs_difference=FARTHEST_DIFFERENCE, min_centred_cosine=LEAST_CENTRED_COSINE)
    assert loosened(gate, 0.3, 0.2) == farthest
    assert loosened(gate, math.nan, math.nan) == gate


@pytest.fixture
def socket_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers are looked for, with room for one."""
    monkeypatch.setattr(control.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"{control.PREFIX}one"
    folder.mkdir(mode=0o700)
    return folder


def _running(folder: Path, port: int = 8000) -> Running:
    return Running(str(folder), "repository", f"http://127.0.0.1:{port}", f"grpc://127.0.0.1:{port + 1}", 1)


@pytest.fixture
def answering(socket_folder: Path) -> Iterator[list[str]]:
    """A server that deploys nothing, and notes what became of a request."""
    notes: list[str] = []

    def handle(request: dict[str, object], progress: control.Progress) -> dict[str, object]:
        if request["action"] == "fail":
            raise ModelError("no such thing")
        try:
            for number in range(10_000):
                progress(f"step {number}")
                if request["action"] != "wait":
                    return {"was": request["action"]}
        except BaseException:
            notes.append("given up")
            raise
        return {}

    with ControlSocket(_running(socket_folder), handle, notes.append):
        yield notes


def test_requests_and_answers(answering: list[str], socket_folder: Path) -> None:
    found, lines = find_running(), []
    assert ask(found, {"action": "list"}, lines.append) == {"was": "list"}
    assert lines == ["step 0"]
    with pytest.raises(ModelError, match="no such thing"):
        ask(found, {"action": "fail"}, lines.append)
    assert stat.S_IMODE((socket_folder / control.SOCKET).stat().st_mode) == 0o600
    assert find_running("grpc://localhost:8001") == found
    with pytest.raises(ConfigError, match=r"--url http://localhost:9000: no server of this machine"):
        find_running("http://localhost:9000")
    for other in ("http://192.0.2.1:8000", "192.0.2.1:8000", "http://a..b:8000", "http://[bad:8000"):
        with pytest.raises(ConfigError, match=r"no address of this machine: run this command where that server"):
            find_running(other)


def test_what_others_could_have_put_there_is_not_looked_at(answering: list[str], socket_folder: Path) -> None:
    assert find_running().folder == str(socket_folder)
    facts, elsewhere = socket_folder / control.FACTS, socket_folder.with_name("elsewhere")
    nobody = "no `protoclip serve` of this user runs on this machine"
    facts.rename(elsewhere)
    facts.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=nobody):
        find_running()
    elsewhere.rename(facts)
    assert find_running().folder == str(socket_folder)
    socket_folder.rename(elsewhere)
    socket_folder.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=nobody):
        find_running()
    # A folder that says it is another one.
    elsewhere.rename(socket_folder.with_name(f"{control.PREFIX}other"))
    with pytest.raises(ConfigError, match=nobody):
        find_running()


def test_who_goes_away_ends_what_was_asked(answering: list[str]) -> None:
    class GoneError(Exception):
        pass

    def leave(line: str) -> None:
        raise GoneError

    with pytest.raises(GoneError):
        ask(find_running(), {"action": "wait"}, leave)
    ended = threading.Event()
    for _ in range(100):
        if answering or ended.wait(0.05):
            break
    assert answering == ["given up"]


def test_no_server_and_several(socket_folder: Path) -> None:
    with pytest.raises(ConfigError, match="no `protoclip serve` of this user runs on this machine"):
        find_running()
    second = socket_folder.with_name(f"{control.PREFIX}two")
    second.mkdir()
    with (
        ControlSocket(_running(socket_folder), lambda request, progress: {}, print),
        ControlSocket(_running(second, 9000), lambda request, progress: {}, print),
        pytest.raises(
            ConfigError, match=r"several servers run here: say which with --url: http://127\.0\.0\.1:8000, "
        ),
    ):
        find_running()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give one of an ARTIFACT, --promote, --rollback, --remove MODEL and --list"),
        (("--promote", "--rollback"), "give one of"),
        (("--list", "--canary", "10%"), "--canary needs an ARTIFACT"),
        (("--list", "--allow-inaccurate"), "--allow-inaccurate needs an ARTIFACT"),
        (("artifact", "--canary", "ten"), "--canary ten is no share: use 1% to 99%"),
        (("artifact", "--canary", "100%"), "is no share"),
        (("--list", "--name", "shop"), "--name is for --promote and --rollback"),
    ],
)
def test_what_the_command_refuses(
    arguments: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run: Run = runner(monkeypatch, capsys)
    outcome = run("deploy", *arguments)
    assert (outcome.code, reason in outcome.err) == (2, True), outcome.err
