"""Two engines of one artifact on one server: the first with a detector beside the embedding, the other without."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from command_line import runner
from PIL import Image
from running_gateway import running_gateway
from with_detector import add_detector, fit_on

from protoclip import AsyncClient, Client, Detector, Index
from protoclip.client import Detection
from protoclip.contract.errors import ConfigError, ItemError
from protoclip.contract.manifest import load_manifest
from protoclip.contract.reasons import unpack_reasons
from serving.triton.aliases import Alias, Deployments, write_deployments
from serving.triton.catalog import asked_directly, find_models
from serving.triton.deployed_files import check_same_files
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository
from serving.triton.scheduling import Scheduling

JUDGED, PLAIN = "tiny_012345", "tiny_012345_onnx_other"
LABELS = ["red", "blue"]


def picture(number: int) -> bytes:
    """A few large fields of colour, others for each number."""
    fields = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fields).resize((32, 32), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(number) for number in range(100, 124)]


@dataclass(frozen=True)
class Served:
    """The server, its repository, the artifact with the detector, and that."""

    server: LaunchedServer
    repository: Path
    artifact: Path
    detector: Detector


@pytest.fixture(scope="module")
def served(write_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("two_engines")
    artifact, repository = write_artifact(folder / "artifact"), folder / "repository"
    manifest = load_manifest(artifact)
    other = manifest.engine.model_copy(update={"name": "onnx_other"})
    manifest.model_copy(update={"engines": (manifest.engine, other)}).save(artifact)
    without = shutil.copytree(artifact, folder / "without")
    detector = fit_on(artifact, [picture(number) for number in range(60)], kind="mahalanobis", accept=0.6)
    add_detector(artifact, detector)
    # Fewer processes to start than by default.
    few: dict[str, Any] = {
        "encoder_threads": 1,
        "encoder_instances": 1,
        "scheduling": Scheduling(preprocess_instances=1),
    }
    names = write_repository(artifact, repository, **few)
    assert names[:2] == [f"{JUDGED}_image", f"{JUDGED}_text"]
    assert names[6:] == [f"{JUDGED}_image_detector"]
    plain = write_repository(without, repository, engine="onnx_other", **few)
    assert plain[0] == f"{PLAIN}_image"
    write_deployments(repository, Deployments(aliases={"shop": Alias(current=JUDGED)}))
    with TritonServer(repository) as server:
        yield Served(server, repository, artifact, detector)


@pytest.fixture(params=["grpc", "http", "artifact"])
def client(request: pytest.FixtureRequest, served: Served) -> Iterator[Client]:
    """Of the model with a detector, by either protocol and without a server."""
    urls = {"grpc": served.server.grpc_url, "http": served.server.http_url, "artifact": str(served.artifact)}
    with Client(urls[request.param], model=JUDGED, batch_size=8) as made:
        yield made


def test_engines_of_one_artifact_are_served_side_by_side(served: Served) -> None:
    assert len([path for path in served.repository.iterdir() if path.is_dir()]) == 13
    assert len(find_models(served.repository, ["tiny_012345"])) == 4
    assert len(find_models(served.repository, [PLAIN])) == 2
    asked = {name for model in find_models(served.repository, [JUDGED]) for name in asked_directly(model)}
    assert {f"{JUDGED}_image", f"{JUDGED}_image_encoder"} <= asked
    assert f"{JUDGED}_image_detector" not in asked
    with Client(served.server.grpc_url, model=JUDGED) as client:
        assert client.model.engine == "onnx_fp32"
        vector = client.embed_texts("red")
    with Client(served.server.http_url, model=PLAIN) as client:
        assert (client.model.name, client.model.engine) == ("tiny", "onnx_other")
        np.testing.assert_allclose(client.embed_texts("red"), vector, atol=1e-6)
    with Client(served.server.grpc_url) as client, pytest.raises(ConfigError, match=f"{JUDGED}, {PLAIN}"):
        _ = client.model


def test_the_server_decides_as_the_detector_does_on_its_embeddings(served: Served, client: Client) -> None:
    vectors = client.embed_images(PICTURES)
    expected = served.detector.judge(vectors)
    found = client.detect(PICTURES)
    assert 3 < sum(one.known for one in expected) < 21
    assert [one.known for one in found] == [one.known for one in expected]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], rtol=1e-5)
    assert [one.reason for one in found] == [one.reason for one in expected]
    single = client.detect(PICTURES[3])
    assert isinstance(single, Detection)
    assert (single.known, single.score) == (found[3].known, pytest.approx(found[3].score, rel=1e-5))
    assert client.detect([]) == []


def test_classes_carry_what_the_server_says(served: Served, client: Client) -> None:
    here = client.classify(PICTURES, LABELS, detector=served.detector)
    there = client.classify(PICTURES, LABELS, detector="served")
    assert [one.known for one in there] == [one.known for one in here]
    assert [(one.label, one.reason) for one in there] == [(one.label, one.reason) for one in here]
    np.testing.assert_allclose([one.known_score for one in there], [one.known_score for one in here], rtol=1e-5)


def test_a_bad_picture_is_its_own_error_and_touches_no_other(served: Served, client: Client) -> None:
    good = client.detect(PICTURES[:4])
    # The empty one is refused by the client, and the server does not see it.
    mixed = client.detect([b"", PICTURES[0], b"no picture", *PICTURES[1:4]], errors="return")
    assert [position for position, one in enumerate(mixed) if isinstance(one, ItemError)] == [0, 2]
    judged = [one for one in mixed if not isinstance(one, ItemError)]
    assert [one.known for one in judged] == [one.known for one in good]
    np.testing.assert_allclose([one.score for one in judged], [one.score for one in good], rtol=1e-5)
    alone = client.detect([b"no picture"], errors="return")
    assert isinstance(alone[0], ItemError)
    with pytest.raises(ItemError, match="item 1"):
        client.detect([PICTURES[0], b"no picture"])


def test_what_comes_over_the_wire(served: Served) -> None:
    """All outputs by the model's name and by its alias, and of the refused picture false and NaN."""
    items = [PICTURES[0], b"no picture", PICTURES[1]]
    connection = grpc_client.InferenceServerClient(served.server.grpc_url.partition("://")[2])
    source = grpc_client.InferInput("image", [3, 1], "BYTES")
    source.set_data_from_numpy(np.array([[item] for item in items], dtype=np.object_))
    answers = [connection.infer(name, [source]) for name in (f"{JUDGED}_image", "shop_image")]
    for answer in answers:
        names = {output.name for output in answer.get_response().outputs}
        assert names == {"embedding", "error", "known", "known_score"}
        known, score = answer.as_numpy("known"), answer.as_numpy("known_score")
        assert (known.shape, known.dtype, score.shape, score.dtype) == ((3, 1), np.bool_, (3, 1), np.float32)
        assert not known[1, 0]
        assert np.isnan(score[:, 0]).tolist() == [False, True, False]
        assert unpack_reasons(answer.as_numpy("error"))[1]
    # A client of an earlier version asks for two of the outputs; others for one alone.
    for wanted in (["embedding", "error"], ["error"], ["embedding"], ["known"]):
        outputs = [grpc_client.InferRequestedOutput(name) for name in wanted]
        answer = connection.infer(f"{JUDGED}_image", [source], outputs=outputs)
        assert {output.name for output in answer.get_response().outputs} == set(wanted)
        np.testing.assert_array_equal(answer.as_numpy(wanted[0]), answers[0].as_numpy(wanted[0]))
    connection.close()


def test_the_model_without_a_detector_says_so(served: Served) -> None:
    with Client(served.server.http_url, model=PLAIN) as client:
        assert client.model.detector is None
        assert client.classify(PICTURES[0], LABELS).known is None
        for ask in (
            lambda: client.detect(PICTURES),
            lambda: client.classify(PICTURES, LABELS, detector="served"),
        ):
            with pytest.raises(ConfigError, match=f"{PLAIN} is served without a detector: .* --detector FILE"):
                ask()
        with pytest.raises(ConfigError, match=r"detector='shop\.detector' is unknown: give a Detector"):
            client.classify(PICTURES, LABELS, detector="shop.detector")  # type: ignore[call-overload]


def test_who_decodes_pictures_itself_lets_the_server_judge_or_is_told(served: Served) -> None:
    expected = served.detector.judge(Client(str(served.artifact)).embed_images(PICTURES))
    with Client(served.server.grpc_url, model=JUDGED, preprocess="auto") as client:
        assert [one.known for one in client.detect(PICTURES)] == [one.known for one in expected]
    with (
        Client(served.server.grpc_url, model=JUDGED, preprocess="client") as client,
        pytest.raises(ConfigError, match="preprocess='client' sends pixels: use preprocess='auto' or 'server'"),
    ):
        client.detect(PICTURES)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_awaited_client_asks_too(served: Served, protocol: str) -> None:
    async def ask() -> Any:
        async with AsyncClient(getattr(served.server, f"{protocol}_url"), model=JUDGED) as client:
            found = await client.detect(PICTURES)
            return found, await client.classify(PICTURES, LABELS, detector="served")

    found, classified = asyncio.run(ask())
    assert 3 < sum(one.known for one in found) < 21
    assert [(one.known, one.reason) for one in classified] == [(one.known, one.reason) for one in found]


def test_the_gateway_lets_the_outputs_through(served: Served) -> None:
    with running_gateway(url=served.server.grpc_url, kserve_url=served.server.http_url, model=JUDGED) as running:
        path, raw = f"/v2/models/{JUDGED}_image/infer", {"Inference-Header-Content-Length": "0"}
        answer = running.ask("POST", path, PICTURES[0], raw)
        size = int(answer.headers["inference-header-content-length"])
        outputs = {one["name"]: one for one in json.loads(answer.body[:size])["outputs"]}
        assert (outputs["known"]["datatype"], outputs["known"]["shape"]) == ("BOOL", [1, 1])
        with Client(running.url, model=JUDGED) as through, Client(served.server.grpc_url, model=JUDGED) as own:
            assert through.detect(PICTURES[:4]) == own.detect(PICTURES[:4])


def test_the_shell_agrees_with_scores_of_an_index(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, item in enumerate(PICTURES):
        (photos / f"{number:02}.png").write_bytes(item)
    with Client(served.server.grpc_url, model=JUDGED) as client:
        vectors, model = client.embed_images(PICTURES), client.model
    with Index.create(tmp_path / "x.index", model.fingerprint, model.embedding_dim, model=model.prefix) as index:
        index.add(vectors, [f"{number:02}.png" for number in range(len(PICTURES))])
    served.detector.save(tmp_path / "x.detector")
    scores = run("detect", "score", tmp_path / "x.detector", tmp_path / "x.index", "--json").json["scores"]
    expected = {one["id"]: one for one in scores}
    asked = ("classify", photos, "--labels", "red,blue", "--url", served.server.http_url, "--model", JUDGED)
    outcome = run(*asked, "--detector", "served", "--json")
    assert outcome.code == 0, outcome.err
    for item in outcome.json["items"]:
        of_index = expected[Path(item["id"]).name]
        assert item["known"] == of_index["known"]
        assert item["known_score"] == pytest.approx(of_index["score"], rel=1e-5)
    by_file = run(*asked, "--detector", tmp_path / "x.detector", "--json").json["items"]
    assert [one["known"] for one in by_file] == [one["known"] for one in outcome.json["items"]]
    table = run(*asked, "--detector", "served").out
    assert (table.count(" yes "), table.count(" no ")) == (
        sum(one["known"] for one in scores),
        sum(not one["known"] for one in scores),
    )
    assert "known" not in run(*asked, "--json").json["items"][0]
    refused = run(*asked, "--detector", "served", "--out", tmp_path / "out.parquet")
    assert (refused.code, "--detector says nothing in the files of --out" in refused.err) == (2, True)


def test_a_repository_written_without_the_detector_has_none(served: Served, tmp_path: Path) -> None:
    repository, judged = tmp_path / "repository", load_manifest(served.artifact)
    write_repository(served.artifact, repository)
    check_same_files(repository, served.artifact, judged, judged.engine, JUDGED)
    manifest = judged.model_copy(update={"detector": None})
    with pytest.raises(ConfigError, match=f"{JUDGED} is there already, from other files"):
        check_same_files(repository, served.artifact, manifest, judged.engine, JUDGED)
    copy = shutil.copytree(served.artifact, tmp_path / "copy")
    manifest.save(copy)
    names = write_repository(copy, repository)
    assert sorted(names) == sorted(path.name for path in repository.iterdir())
    assert len(names) == 6
    check_same_files(repository, copy, manifest, judged.engine, JUDGED)
    with pytest.raises(ConfigError, match=f"{JUDGED} is there already, from other files"):
        check_same_files(repository, served.artifact, judged, judged.engine, JUDGED)
