"""What tests of several packages share: a tiny but real artifact, and a real Triton that serves it."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import resource
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from unsynced import skip_syncs

from protoclip.contract.manifest import EncoderFile, Engine, Manifest, Verdict
from protoclip.contract.pixels import PixelSpec
from protoclip.contract.text import TextSpec

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

    from serving.triton.launcher import LaunchedServer

# The same examples in every run: a rare one must not turn an unrelated change red.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

skip_syncs()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell puts programs into the background so, and all that the tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tiny_training",
    "growing_data",
    "memory_model",
    "object_store",
    "loopback_hub",
    "search_engines",
]

BUSY = (
    "training/test_ranks",
    "deploy/test_torchrun",
    "training/test_same_weights",
    "distributed/test_launch",
    "training/test_sudden_death",
    "export/benchmark/test_run",
    "more_rows_ranks",
    "corpus/test_torchrun",
    "index_crowd",
    "test_index_crashes",
    "distributed/test_batch_norm",
)
"""Files whose tests are several processes that compute at once, the longest first."""
WAITING = (
    "serving/test_supervision",
    "client/test_client_restart",
    "serving/test_deployment",
    "export/test_planted_served",
    "cli/test_serve",
    "export/test_verify_server",
    "serving/test_launcher",
    "deploy/test_proxy",
    "client/test_busy_servers",
    "client/test_build_faults",
    "serving/test_scheduling",
    "cli/test_gateway",
    "client/test_dead_connections",
    "gateway/test_hostile_requests",
)
"""Files whose tests wait for servers most of the time, the longest first."""
LONG = (
    "integration/",
    "docs/test_tutorials",
    "graphs/test_rounding",
    "test_from_transformers",
    "graphs/test_precisions",
    "search/test_full_disk",
    "test_second_device",
    "test_engine_openvino",
    "parity/test_served",
    "graphs/test_to_onnx",
)
"""Others that are long: at the end a worker would be alone with them."""
LAST = len(BUSY) + len(WAITING) + len(LONG)
SIZE, CONTEXT, WIDTH, DIM = 32, 77, 12, 16
HANGS_S = 900
"""Longer than pytest-timeout gives a test: it can't interrupt what waits in C, and all would wait."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Workers take whole files, so that fixtures are made once; of integration, the whole folder."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = Path(nodeid.split("::")[0])
            return str(path.parent if path.parent.name == "integration" else path)

        # Two files of processes that compute would share two cores, and two that wait would leave them idle.
        def _assign_work_unit(self, node: WorkerController) -> None:
            others = [self._running(other) for other in self.nodes if other is not node]
            kinds = [_kind(file) for file in others if file is not None]
            chosen = min(self.workqueue, key=lambda file: sum(_cost(_kind(file), kind) for kind in kinds))
            self.workqueue.move_to_end(chosen, last=False)
            super()._assign_work_unit(node)

        def _running(self, node: WorkerController) -> str | None:
            files = self.assigned_work[node].items()
            return next((file for file, tests in files if not all(tests.values())), None)

        # A worker runs a test once it has another one, or knows that there is none. So a worker that replaces one
        # that died would wait for ever where it is given a file that was finished, or one test alone.
        def remove_node(self, node: WorkerController) -> str | None:
            files = self.assigned_work[node]
            for file in [file for file, tests in files.items() if all(tests.values())]:
                del files[file]
            return super().remove_node(node)

        def schedule(self) -> None:
            super().schedule()
            for node in self.nodes:
                self._reschedule(node)

    return ByFile(config, log)


def _place(file: str) -> int:
    """Where a file's name, or a test's, is in BUSY, WAITING and LONG, one after the other."""
    return next((place for place, part in enumerate((*BUSY, *WAITING, *LONG)) if part in file), LAST)


def _kind(file: str) -> str:
    place = _place(file)
    return "busy" if place < len(BUSY) else "waiting" if place < len(BUSY) + len(WAITING) else ""


def _cost(kind: str, beside: str) -> int:
    """Of a file of this kind beside one of the other: the least where one computes and the other waits."""
    if "" in (kind, beside):
        return 1 if beside else 0
    return 2 if kind == beside else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker ends long after the other."""
    items.sort(key=lambda item: _place(item.nodeid))


STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the stream of errors as it is while nothing is captured."""
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that hangs ends its worker, which prints where every thread stood: a red test instead of none."""
    faulthandler.dump_traceback_later(HANGS_S, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def write_artifact() -> Callable[..., Path]:
    """`write_artifact(folder, **fields)`: a whole artifact with encoders of 16 dimensions.

    The fields are the manifest's; `verdict` and `precision` are its only engine's.
    """
    return _write_artifact


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact folder whose model is called `tiny`, with open_clip's own tokenizer."""
    return _write_artifact(tmp_path_factory.mktemp("tiny_artifact") / "artifact")


@pytest.fixture(scope="session")
def tiny_repository(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Triton repository that holds `tiny_artifact` and nothing else."""
    from serving.triton.repository import write_repository

    repository = tmp_path_factory.mktemp("tiny_repository")
    write_repository(tiny_artifact, repository, encoder_threads=1)
    return repository


@pytest.fixture(scope="session")
def triton(tiny_repository: Path) -> Iterator[LaunchedServer]:
    """A running server with `tiny_repository`; shared by all tests, so nobody may stop it or unload its models."""
    from serving.triton.launcher import TritonServer

    with TritonServer(tiny_repository) as server:
        yield server


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], AbstractContextManager[None]]]:
    """`with full_disk(n):` no file may grow beyond `n` bytes, for writers in Python, Rust and C++ alike."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    @contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield limit
    signal.signal(signal.SIGXFSZ, before)


def _write_artifact(folder: Path, **fields: object) -> Path:
    folder.mkdir(parents=True)
    tokenizer, spec, vocabulary_size = _tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "image.onnx").write_bytes(_image_encoder())
    (folder / "text.onnx").write_bytes(_text_encoder(vocabulary_size))
    of_engine = {key: fields.pop(key) for key in ("verdict", "precision") if key in fields}
    engine = Engine(**(_engine_fields(folder) | of_engine))  # type: ignore[arg-type]
    values = _manifest_fields(folder) | {"text": spec, "engines": (engine,)} | fields
    Manifest(**values).save(folder)  # type: ignore[arg-type]
    return folder


def _manifest_fields(folder: Path) -> dict[str, object]:
    return {
        "name": "tiny",
        "fingerprint": "0123456789abcdef",
        "source": "two random matrices",
        "embedding_dim": DIM,
        "pixels": PixelSpec(height=SIZE, width=SIZE),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "tokenizer_sha256": _sha256(folder / "tokenizer.json"),
        "default_engine": "onnx_fp32",
        "temperature": 100.0,
        "opset": 17,
        "ir_version": 8,
        "versions": {"onnx": "made by hand"},
        "created_at": "2026-01-01T00:00:00+00:00",
    }


def _engine_fields(folder: Path) -> dict[str, object]:
    return {
        "name": "onnx_fp32",
        "format": "onnx",
        "precision": "fp32",
        "image_encoder": _encoder_file(folder, "image", "pixels"),
        "text_encoder": _encoder_file(folder, "text", "tokens"),
        "verdict": Verdict(
            passed=True,
            max_abs_difference=0.0,
            min_cosine=1.0,
            num_images=256,
            num_texts=256,
            report_file="verdict.json",
        ),
    }


def _encoder_file(folder: Path, kind: str, input_name: str) -> EncoderFile:
    file = f"{kind}.onnx"
    return EncoderFile(
        file=file, sha256=_sha256(folder / file), input_name=input_name, output_name=f"{kind}_embedding"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _tokenizer() -> tuple[str, TextSpec, int]:
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip

    from protoclip.encoders.tokenizer_conversion import text_spec, tokenizer_json

    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return tokenizer_json(tokenizer), text_spec(tokenizer), tokenizer.vocab_size


def _image_encoder() -> bytes:
    """Mean colour of an 8 × 8 grid of fields, times a random matrix, normalised."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    side, grid = SIZE // 8, 8
    constants = {
        "fields": np.array([-1, grid, side, grid, side, 3], dtype=np.int64),
        "flat": np.array([-1, grid * grid * 3], dtype=np.int64),
        "grey": np.array(127.5, dtype=np.float32),
        "matrix": rng.standard_normal((grid * grid * 3, DIM)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["real", "grey"], ["centred"]),
        helper.make_node("Reshape", ["centred", "fields"], ["gridded"]),
        helper.make_node("ReduceMean", ["gridded"], ["pooled"], axes=[2, 4], keepdims=0),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["projected"]),
        helper.make_node("LpNormalization", ["projected"], ["image_embedding"], axis=1, p=2),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", SIZE, SIZE, 3])
    output = helper.make_tensor_value_info("image_embedding", TensorProto.FLOAT, ["B", DIM])
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _serialize(helper.make_graph(nodes, "image", [pixels], [output], tensors))


def _text_encoder(vocabulary_size: int) -> bytes:
    """Mean of the tokens' random vectors, times a random matrix, normalised; the padding counts for nothing."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    table = rng.standard_normal((vocabulary_size, WIDTH)).astype(np.float32)
    table[0] = 0.0
    constants = {"table": table, "matrix": rng.standard_normal((WIDTH, DIM)).astype(np.float32)}
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["vectors"], axis=0),
        helper.make_node("ReduceMean", ["vectors"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "matrix"], ["projected"]),
        helper.make_node("LpNormalization", ["projected"], ["text_embedding"], axis=1, p=2),
    ]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT32, ["B", CONTEXT])
    output = helper.make_tensor_value_info("text_embedding", TensorProto.FLOAT, ["B", DIM])
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return _serialize(helper.make_graph(nodes, "text", [tokens], [output], tensors))


def _serialize(graph: object) -> bytes:
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
