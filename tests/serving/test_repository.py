"""What `write_repository` puts on disk, byte for byte, and how it treats what is there."""

from __future__ import annotations

from collections.abc import Callable
from difflib import ndiff
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_STRING, ModelConfig

from protoclip.contract.errors import ConfigError, ModelError, ProtoclipError, ServerError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import (
    BatchProfile,
    CarriedDetector,
    EncoderFile,
    Engine,
    EngineBuild,
    Format,
    Manifest,
    load_manifest,
)
from protoclip.contract.served_detector import ServedDetector
from serving.triton.catalog import find_models
from serving.triton.launcher import TritonServer
from serving.triton.pbtxt import ROLES, from_pbtxt, model_configs, to_pbtxt
from serving.triton.repository import CONTRACT_FILES, SHARED_FILES, SOURCES, write_repository

GOLDEN = Path(__file__).parent / "golden"
CUDA_LINES = (
    *(
        "- optimization {",
        "-   execution_accelerators {",
        "-     gpu_execution_accelerator {",
        '-       name: "cuda"',
    ),
    *(
        "-       parameters {",
        '-         key: "cudnn_conv_algo_search"',
        '-         value: "HEURISTIC"',
        "-       }",
        "-       parameters {",
        '-         key: "use_tf32"',
        '-         value: "0"',
        "-       }",
        "-     }",
        "-   }",
        "- }",
    ),
)
PARAMETER_LINES = tuple(
    line
    for key in ("cudnn_conv_algo_search", "intra_op_thread_count")
    for line in ("- parameters {", f'-   key: "{key}"', "-   value {", '-     string_value: "1"', "-   }", "- }")
)


@pytest.fixture(scope="module")
def manifest(tiny_artifact: Path) -> Manifest:
    return load_manifest(tiny_artifact)


@pytest.mark.parametrize("role", ROLES)
def test_configuration_is_the_golden_one(role: str, tiny_repository: Path) -> None:
    written = (tiny_repository / f"tiny_012345_{role}" / "config.pbtxt").read_bytes()
    assert written.decode() == (GOLDEN / f"{role}.pbtxt").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_configuration_survives_a_round_trip(role: str, manifest: Manifest) -> None:
    config = model_configs(manifest, max_batch_size=7, encoder_threads=3)[role]  # type: ignore[index]
    assert from_pbtxt(to_pbtxt(config), "here") == config
    assert text_format.Parse(to_pbtxt(config).decode(), ModelConfig()).max_batch_size == 7


def test_threads_and_bias_reach_the_configuration(manifest: Manifest) -> None:
    configs = model_configs(manifest.model_copy(update={"logit_bias": -12.5}), max_batch_size=1, encoder_threads=5)
    for role in ("image_encoder", "text_encoder"):
        assert configs[role].parameters["intra_op_thread_count"].string_value == "5"
    assert configs["text"].parameters["logit_bias"].string_value == "-12.5"
    assert float(configs["image"].parameters["temperature"].string_value) == manifest.temperature


def test_a_gpu_computes_float32_and_no_tf32(manifest: Manifest) -> None:
    configs = model_configs(manifest, max_batch_size=1, encoder_threads=1)
    for role in ("image_encoder", "text_encoder"):
        (cuda,) = configs[role].optimization.execution_accelerators.gpu_execution_accelerator
        options = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        assert (cuda.name, dict(cuda.parameters)) == ("cuda", options)
        # Triton's backend overwrites the option where the parameters don't say it too.
        assert configs[role].parameters["cudnn_conv_algo_search"].string_value == "1"
    assert not configs["image_preprocess"].HasField("optimization")


@pytest.mark.parametrize("form", ["onnx", "openvino", "tensorrt"])
def test_no_model_answers_with_bytes(manifest: Manifest, form: Format) -> None:
    """A request for the classification of such an output ends Triton 2.51; parts may be called by anybody."""
    changes: dict[str, object] = {"format": form, "inference_precision": "f32" if form == "openvino" else None}
    configs = model_configs(_with_engine(manifest, **changes), max_batch_size=1, encoder_threads=1)
    for role, config in configs.items():
        assert TYPE_STRING not in [output.data_type for output in config.output], role


def test_a_detector_is_one_more_step_and_changes_nothing_else(manifest: Manifest) -> None:
    carried = CarriedDetector(
        file="detector/known.detector",
        sha256="0" * 64,
        graph_file="detector/detector.onnx",
        graph_sha256="1" * 64,
        kind="mixture",
        threshold=0.5,
        accept=0.95,
        agreement={},
    )
    changed = manifest.model_copy(update={"detector": carried})
    plain, judged = (model_configs(one, max_batch_size=7, encoder_threads=1) for one in (manifest, changed))
    assert set(judged) == {*plain, "image_detector"} == {*ROLES, "image_detector"}
    assert [role for role in ROLES if plain[role] != judged[role]] == ["image", "text"]
    image, step = judged["image"], judged["image"].ensemble_scheduling.step[-1]
    assert [output.name for output in image.output] == ["embedding", "error", "known", "known_score"]
    assert step.model_name == "tiny_012345_image_detector"
    # Were an output of the ensemble an input of the step too, Triton would leave out what makes it.
    assert set(step.output_map.values()) == {output.name for output in image.output}
    assert [set(one.output_map.values()) for one in image.ensemble_scheduling.step[:2]] == [
        {"pixels", "reason"},
        {"vector"},
    ]
    assert dict(step.input_map) == {"vector": "vector", "reason": "reason"}
    found = ServedDetector.from_parameter(image.parameters["detector"].string_value)
    assert found == ServedDetector("mixture", 0.5, 0.95)
    own = judged["image_detector"]
    assert (own.name, own.max_batch_size, own.instance_group[0].count) == (step.model_name, 7, 2)
    assert TYPE_STRING not in [output.data_type for config in judged.values() for output in config.output]


def _with_engine(manifest: Manifest, **changes: object) -> Manifest:
    engine = manifest.engine.model_copy(update=changes)
    return manifest.model_copy(update={"engines": (engine,), "default_engine": engine.name})


@pytest.mark.parametrize(("precision", "level"), [("fp16", 1), ("fp8", 2), ("int8", 0)])
def test_the_optimizer_is_held_back_where_it_breaks_graphs(manifest: Manifest, precision: str, level: int) -> None:
    configs = model_configs(_with_engine(manifest, precision=precision), max_batch_size=1, encoder_threads=1)
    assert configs["image_encoder"].optimization.graph.level == level
    assert configs["image"].parameters["precision"].string_value == precision


def _plan_engine(manifest: Manifest, *ranges: tuple[int, int, int], form: Format = "tensorrt") -> Engine:
    profiles = tuple(BatchProfile(min=low, opt=usual, max=high) for low, usual, high in ranges)
    build = EngineBuild(builder=form, builder_version="11.4", profiles=profiles, onnx_sha256=("0" * 64, "1" * 64))
    return manifest.engine.model_copy(update={"name": f"{form}_fp32", "format": form, "build": build})


def _repository_with(engine: Engine, artifact: Path, repository: Path, **settings: Any) -> dict[str, list[str]]:
    """The lines of all files, of the models of an artifact with the ONNX engine and `engine`."""
    manifest = load_manifest(artifact)
    engines = (manifest.engine, engine)
    manifest.model_copy(update={"engines": engines, "default_engine": engine.name}).save(artifact)
    write_repository(artifact, repository, engine=engine.name, encoder_threads=1, **settings)
    return {
        str(path.relative_to(repository)): path.read_text(errors="replace").splitlines()
        for path in sorted(repository.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("ranges", "listed"),
    [(((1, 8, 64),), []), (((1, 1, 1), (2, 8, 64)), ['  profile: "0"', '  profile: "1"'])],
)
def test_a_plan_changes_these_lines_and_no_others(
    ranges: tuple[tuple[int, int, int], ...],
    listed: list[str],
    write_artifact: Callable[..., Path],
    tmp_path: Path,
) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    onnx = load_manifest(artifact).engine
    before = _repository_with(onnx.model_copy(update={"name": "onnx_again"}), artifact, tmp_path / "onnx")
    onnx_only = load_manifest(artifact).model_copy(update={"engines": (onnx,), "default_engine": onnx.name})
    onnx_only.save(artifact)
    after = _repository_with(_plan_engine(onnx_only, *ranges), artifact, tmp_path / "plan")
    assert {file.replace("model.onnx", "model.plan") for file in before} == set(after)
    encoders = [f"tiny_012345_{role}_encoder/config.pbtxt" for role in ("image", "text")]
    ensembles = [f"tiny_012345_{role}/config.pbtxt" for role in ("image", "text")]
    for file, lines in before.items():
        changed = [
            line for line in ndiff(lines, after[file.replace("model.onnx", "model.plan")]) if line[0] in "+-"
        ]
        assert sorted(changed) == sorted(
            [
                '- platform: "onnxruntime_onnx"',
                '+ platform: "tensorrt_plan"',
                "+   kind: KIND_GPU",
                *(f"+ {line}" for line in listed),
                *CUDA_LINES,
                *PARAMETER_LINES,
            ]
            if file in encoders
            else ['-     string_value: "onnx_again"', '+     string_value: "tensorrt_fp32"']
            if file in ensembles
            else []
        ), file


def test_a_plan_has_cuda_graphs_where_they_are_asked_for(
    write_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    engine = _plan_engine(load_manifest(artifact), (1, 1, 1), (2, 8, 16))
    files = _repository_with(engine, artifact, tmp_path / "plain")
    assert not any("graph_spec" in line for lines in files.values() for line in lines)
    write_repository(artifact, tmp_path / "graphs", cuda_graphs=True, encoder_instances=3)
    for role, source, dims in (("image", "pixels", [32, 32, 3]), ("text", "tokens", [77])):
        file = tmp_path / "graphs" / f"tiny_012345_{role}_encoder" / "config.pbtxt"
        config = from_pbtxt(file.read_bytes(), "here")
        found = [(spec.batch_size, list(spec.input[source].dim)) for spec in config.optimization.cuda.graph_spec]
        assert found == [(1, dims), (8, dims)]
        assert (config.instance_group[0].count, list(config.instance_group[0].profile)) == (3, ["0", "1"])


def test_a_plan_is_served_within_its_profiles(write_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    engine = _plan_engine(load_manifest(artifact), (1, 1, 1), (2, 8, 16))
    files = _repository_with(engine, artifact, tmp_path / "repository")
    assert all("max_batch_size: 16" in lines for file, lines in files.items() if file.endswith("config.pbtxt"))
    with pytest.raises(ModelError, match="takes batches of 16 at most, not 17: use --max-batch-size 16"):
        write_repository(artifact, tmp_path / "repository", engine="tensorrt_fp32", max_batch_size=17)


def test_plans_that_triton_does_not_load_are_refused(write_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    engine = _plan_engine(load_manifest(artifact), (1, 8, 16), form="tensorrt_rtx")
    with pytest.raises(ModelError, match="no backend for tensorrt_rtx plans: choose another one with --engine"):
        _repository_with(engine, artifact, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_the_embedded_server_says_that_it_has_no_tensorrt(
    write_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    engine = _plan_engine(load_manifest(artifact), (1, 8, 16))
    _repository_with(engine, artifact, tmp_path / "repository")
    with (
        pytest.raises(ServerError, match=r"tiny_012345_image_encoder is a TensorRT plan.* the vendor's container"),
        TritonServer(tmp_path / "repository"),
    ):
        pass


def test_an_engine_is_chosen_by_name(write_artifact: Callable[..., Path], tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    manifest = load_manifest(artifact)
    (artifact / "onnx_int8").mkdir()
    (artifact / "onnx_int8" / "text.onnx").write_bytes(b"graph")
    (artifact / "onnx_int8" / "text.onnx.data").write_bytes(b"weights")
    text = EncoderFile(
        file="onnx_int8/text.onnx",
        sha256=sha256_file(artifact / "onnx_int8" / "text.onnx"),
        input_name="tokens",
        output_name="text_embedding",
        data_file="onnx_int8/text.onnx.data",
        data_sha256=sha256_file(artifact / "onnx_int8" / "text.onnx.data"),
    )
    changes = {"name": "onnx_int8", "precision": "int8", "text_encoder": text}
    engines = (manifest.engine, manifest.engine.model_copy(update=changes))
    manifest.model_copy(update={"engines": engines}).save(artifact)
    write_repository(artifact, tmp_path / "repository", engine="onnx_int8")
    folder = tmp_path / "repository" / "tiny_012345_onnx_int8_text_encoder" / "1"
    assert (folder / "model.onnx").read_bytes() == b"graph"
    assert (folder / "text.onnx.data").read_bytes() == b"weights"
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "text.onnx.data"]
    write_repository(artifact, tmp_path / "repository")
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "text.onnx.data"]
    plain = folder.parents[1] / "tiny_012345_text_encoder" / "1"
    assert sorted(path.name for path in plain.iterdir()) == ["model.onnx"]
    with pytest.raises(ModelError, match="no engine 'trt' in this artifact: it has onnx_fp32, onnx_int8"):
        write_repository(artifact, tmp_path / "repository", engine="trt")
    (artifact / "onnx_int8" / "text.onnx.data").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"text\.onnx\.data: not the file"):
        write_repository(artifact, tmp_path / "repository", engine="onnx_int8")


def test_python_models_carry_the_contract_verbatim(tiny_repository: Path) -> None:
    for role in ("image_preprocess", "text_preprocess"):
        names = CONTRACT_FILES[role]
        folder = tiny_repository / f"tiny_012345_{role}" / "1"
        for name in names:
            assert (folder / name).read_bytes() == (files("protoclip.contract") / name).read_bytes()
        source = SOURCES / role / "model.py"
        assert (folder / "model.py").read_bytes() == source.read_bytes()
        for name in SHARED_FILES[role]:
            assert (folder / name).read_bytes() == (SOURCES / "shared" / name).read_bytes()


def test_encoders_hold_the_graph_and_nothing_else(tiny_repository: Path, tiny_artifact: Path) -> None:
    for role in ("image", "text"):
        folder = tiny_repository / f"tiny_012345_{role}_encoder"
        assert sorted(path.name for path in folder.rglob("*")) == ["1", "config.pbtxt", "model.onnx"]
        assert (folder / "1" / "model.onnx").read_bytes() == (tiny_artifact / f"{role}.onnx").read_bytes()


def test_names_come_back_public_ones_first(tiny_artifact: Path, tmp_path: Path) -> None:
    names = write_repository(tiny_artifact, tmp_path / "deep" / "repository")
    assert names == [f"tiny_012345_{role}" for role in ROLES]
    assert sorted(path.name for path in (tmp_path / "deep" / "repository").iterdir()) == sorted(names)
    assert [model.name for model in find_models(tmp_path / "deep" / "repository")] == names[:2]


def test_other_models_stay_and_the_same_model_is_replaced(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    write_repository(write_artifact(tmp_path / "other", name="other"), repository)
    write_repository(tiny_artifact, repository)
    other = repository / "other_012345_text" / "config.pbtxt"
    before = (other.stat().st_ino, other.read_bytes())
    stale = repository / "tiny_012345_image_encoder" / "1" / "stale.bin"
    stale.write_bytes(b"from an earlier version")
    write_repository(tiny_artifact, repository, max_batch_size=8)
    assert (other.stat().st_ino, other.read_bytes()) == before
    assert not stale.exists()
    rewritten = from_pbtxt((repository / "tiny_012345_image" / "config.pbtxt").read_bytes(), "here")
    assert rewritten.max_batch_size == 8
    assert len(list(repository.iterdir())) == 12


@pytest.mark.parametrize("file", ["image.onnx", "text.onnx", "tokenizer.json"])
def test_a_file_that_the_manifest_does_not_mean_changes_nothing(
    file: str, write_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    artifact, repository = write_artifact(tmp_path / "artifact"), tmp_path / "repository"
    write_repository(artifact, repository)
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    (artifact / file).write_bytes(b"something else")
    with pytest.raises(ModelError, match=rf"{file}: not the file"):
        write_repository(artifact, repository, max_batch_size=3)
    (artifact / file).unlink()
    with pytest.raises(ModelError, match=rf"{file}: .*missing"):
        write_repository(artifact, repository, max_batch_size=3)
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert len(list(repository.iterdir())) == 6


def test_settings_out_of_range_are_named(tiny_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_batch_size=0"):
        write_repository(tiny_artifact, tmp_path / "repository", max_batch_size=0)
    with pytest.raises(ConfigError, match="encoder_threads=-1"):
        write_repository(tiny_artifact, tmp_path / "repository", encoder_threads=-1)
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written_is_named(tiny_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("a file")
    with pytest.raises(ProtoclipError, match="repository"):
        write_repository(tiny_artifact, tmp_path / "repository")


def test_catalog_describes_and_selects(
    write_artifact: Callable[..., Path], tiny_artifact: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    verdict = load_manifest(tiny_artifact).engine.verdict.model_copy(update={"passed": False})
    bad = write_artifact(tmp_path / "bad", name="bad", fingerprint="feed00feed00", verdict=verdict)
    write_repository(bad, repository)
    write_repository(tiny_artifact, repository)
    (repository / "stranger").mkdir()
    (repository / "stranger" / "config.pbtxt").write_text('name: "stranger"\nbackend: "python"\n')
    (repository / "sources").mkdir()
    models = find_models(repository)
    assert [(model.name, model.role, model.passed) for model in models] == [
        ("bad_feed00_image", "image", False),
        ("bad_feed00_text", "text", False),
        ("tiny_012345_image", "image", True),
        ("tiny_012345_text", "text", True),
    ]
    assert models[0].fingerprint == "feed00feed00"
    assert models[2].embedding_dim == 16
    for name in ("tiny", "tiny_012345"):
        assert [model.artifact for model in find_models(repository, [name])] == ["tiny", "tiny"]
    assert [model.role for model in find_models(repository, ["tiny_012345_text"])] == ["text"]
    with pytest.raises(ConfigError, match=r"no model 'nobody': there are bad_feed00, tiny_012345"):
        find_models(repository, ["nobody"])


def test_catalog_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        find_models(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="no ProtoCLIP model"):
        find_models(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.pbtxt").write_text("name = nonsense")
    with pytest.raises(ModelError, match=r"x/config\.pbtxt: not a model configuration"):
        find_models(tmp_path)
    (tmp_path / "x" / "config.pbtxt").write_text(
        'name: "x" parameters { key: "protoclip_name" value { string_value: "x" } }'
    )
    with pytest.raises(ModelError, match=r"x/config\.pbtxt: incomplete"):
        find_models(tmp_path)
