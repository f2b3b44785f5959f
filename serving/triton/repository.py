"""Writes an artifact into a Triton model repository."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Literal

from protoclip.contract.decoders import PIXEL_FILES
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.files import atomic_path, sha256_file
from protoclip.contract.manifest import EncoderFile, Engine, Manifest, Role, load_manifest
from protoclip.contract.served_parameters import MAX_BATCH_SIZE

from .instances import INSTANCES
from .pbtxt import ALL_ROLES, model_configs, model_file, to_pbtxt
from .scheduling import Scheduling

VERSION = "1"
_DELETED = ".deleted"
TOKENIZER_FILE, DETECTOR_FILE = "tokenizer.json", "model.onnx"
# By path, not by import: a `model_repository` in the working directory can hide the package.
SOURCES = Path(__file__).parents[2] / "model_repository" / "sources"
PythonModel = Literal["image_preprocess", "text_preprocess", "openvino_encoder"]
# All files needed: they import each other and nothing else of ours, and the server's Python has no ProtoCLIP.
CONTRACT_FILES: dict[PythonModel, tuple[str, ...]] = {
    "image_preprocess": (*PIXEL_FILES, "decoders.py", "reasons.py"),
    "text_preprocess": ("text.py", "reasons.py"),
    "openvino_encoder": ("openvino_encoder.py",),
}
SHARED_FILES: dict[PythonModel, tuple[str, ...]] = {
    "image_preprocess": ("given_up.py", "item_requests.py", "refused_items.py"),
    "text_preprocess": ("given_up.py", "item_requests.py", "refused_items.py"),
    "openvino_encoder": ("given_up.py",),
}
"""Of `model_repository/sources/shared`: they need Triton's Python, as the models do."""


def being_deleted(repository: Path, prefix: str) -> Path:
    """The folder that holds what is being deleted of the models of that prefix; no server looks into it."""
    return repository / f".{prefix}{_DELETED}"


def prefixes_being_deleted(repository: Path) -> list[str]:
    """Of models whose deletion was killed, or is under way."""
    return sorted(
        path.name.removeprefix(".").removesuffix(_DELETED)
        for path in repository.glob(f".*{_DELETED}")
        if path.is_dir()
    )


def write_repository(
    artifact: Path,
    repository: Path,
    *,
    engine: str | None = None,
    max_batch_size: int | None = None,
    encoder_threads: int = 0,
    scheduling: Scheduling | None = None,
    encoder_instances: int = INSTANCES,
    cuda_graphs: bool = False,
    scaled_decoding: str | None = None,
) -> list[str]:
    """Writes the six models of `artifact` into `repository` and returns their names, public ones first.

    An artifact with a detector has one more. Models of other artifacts and engines in `repository` are left
    unchanged; the same ones are replaced, and a detector that the artifact no longer has is removed. All are
    complete before the first is moved into `repository`, and the public two come last, so that there is never
    a public model without its parts.

    Args:
        artifact: folder that `protoclip export` wrote.
        repository: folder for Triton's `--model-repository`; made where it is missing.
        engine: name of the engine to serve, such as onnx_int8; None: the manifest's default. Of another one than
            the default, the models' names hold its name.
        max_batch_size: most items in a request and in a dynamic batch; None: 64, or the engine's limit if that
            is less.
        encoder_threads: of each instance of an encoder on a CPU; 0 takes all cores that the server may use, and
            in the embedded server one where a run is short.
        scheduling: how requests wait, and what decodes pictures; None: the defaults.
        encoder_instances: of each encoder, on each GPU or on the CPU; with one, requests can wait half a second.
        cuda_graphs: of a TensorRT plan. Read in Triton's sources, and not run; see docs/serving.md before.
        scaled_decoding: pictures are decoded at the part of their size that the encoder needs; what was measured
            of the embeddings then (`export.scaled_decoding`). None: they are decoded whole.

    Raises:
        ModelError: no manifest, no such engine or one that Triton has no backend for, CUDA graphs of another than
            a plan, or a file of the artifact is missing or does not match the manifest's SHA-256.
        ConfigError: a number is out of range.
        ProtoclipError: the repository can't be written.
    """
    if max_batch_size is not None:
        _check_range("max_batch_size", max_batch_size, 1, 4096)
    _check_range("encoder_threads", encoder_threads, 0, 1024)
    _check_range("encoder_instances", encoder_instances, 1, 64)
    manifest = load_manifest(artifact)
    served = manifest.engine if engine is None else manifest.engine_named(engine)
    if max_batch_size is None:
        build = served.build
        max_batch_size = MAX_BATCH_SIZE if build is None else min(MAX_BATCH_SIZE, build.profile.max)
    configs = model_configs(
        manifest,
        max_batch_size=max_batch_size,
        encoder_threads=encoder_threads,
        scheduling=scheduling,
        engine=served.name,
        encoder_instances=encoder_instances,
        cuda_graphs=cuda_graphs,
        scaled_decoding=scaled_decoding,
    )
    # Who writes a model again wants it: nobody goes on with a deletion that was killed.
    shutil.rmtree(
        being_deleted(repository, manifest.model_name("image", served.name).removesuffix("_image")),
        ignore_errors=True,
    )
    roles = [role for role in ALL_ROLES if role in configs]
    with ExitStack() as stack:
        for role in roles:
            folder = stack.enter_context(atomic_path(repository / configs[role].name))
            (folder / VERSION).mkdir(parents=True)
            (folder / "config.pbtxt").write_bytes(to_pbtxt(configs[role]))
            _fill_version(folder / VERSION, role, manifest, served, artifact)
    for role in set(ALL_ROLES) - set(roles):
        shutil.rmtree(repository / manifest.model_name(role, served.name), ignore_errors=True)
    return [configs[role].name for role in roles]


def _fill_version(folder: Path, role: Role, manifest: Manifest, engine: Engine, artifact: Path) -> None:
    if role == "image_encoder" or role == "text_encoder":
        encoder = engine.image_encoder if role == "image_encoder" else engine.text_encoder
        _copy_encoder(encoder, artifact, folder / model_file(engine))
        if engine.format == "openvino":
            _copy_source("openvino_encoder", folder)
    elif role == "image_preprocess":
        _copy_source(role, folder)
    elif role == "text_preprocess":
        _copy_source(role, folder)
        _copy_checked(artifact / manifest.tokenizer_file, folder / TOKENIZER_FILE, manifest.tokenizer_sha256)
    elif role == "image_detector" and manifest.detector is not None:
        detector = manifest.detector
        _copy_checked(artifact / detector.graph_file, folder / DETECTOR_FILE, detector.graph_sha256)


def _copy_encoder(encoder: EncoderFile, artifact: Path, target: Path) -> None:
    _copy_checked(artifact / encoder.file, target, encoder.sha256)
    if encoder.data_file is not None and encoder.data_sha256 is not None:
        # Under its own name, by which the graph refers to it.
        data = artifact / encoder.data_file
        _copy_checked(data, target.with_name(data.name), encoder.data_sha256)


def _copy_source(model: PythonModel, folder: Path) -> None:
    for path in sorted((SOURCES / model).glob("*.py")):
        (folder / path.name).write_bytes(path.read_bytes())
    for name in CONTRACT_FILES[model]:
        (folder / name).write_bytes((files("protoclip.contract") / name).read_bytes())
    for name in SHARED_FILES[model]:
        (folder / name).write_bytes((SOURCES / "shared" / name).read_bytes())


def _copy_checked(source: Path, target: Path, sha256: str) -> None:
    if not source.is_file():
        raise ModelError(f"{source}: the manifest names this file and it is missing: export the model again")
    shutil.copyfile(source, target)
    if sha256_file(target) != sha256:
        raise ModelError(f"{source}: not the file that the manifest speaks of: export the model again")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is out of range: use {low} to {high}")
