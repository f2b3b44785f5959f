"""The model configurations of an artifact, as Triton's own protobuf messages: six, and one more for a detector.

`B` batch, `H × W` pixels, `T` tokens, `D` embedding. Dimensions in a configuration leave the batch out.
No model has an output of type BYTES, public or not: clients may call the parts too (`protoclip.contract.reasons`).

    image = image_preprocess → image_encoder        text = text_preprocess → text_encoder
      (→ image_detector)                            └ ensemble, public
    └ ensemble, public

Only fields that Triton 2.51 knows are used, so that the embedded server and current containers read the
same file. Instance groups name no device, except a plan's: Triton puts them on the GPUs it finds,
otherwise on the CPU.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    TYPE_FP32,
    TYPE_INT32,
    TYPE_STRING,
    TYPE_UINT8,
    ModelConfig,
    ModelInput,
    ModelOutput,
)

from protoclip.contract.decoders import DECODERS_BYTES
from protoclip.contract.errors import ModelError
from protoclip.contract.graph_level import (
    CUDA_OPTIONS,
    TRITON_CONVOLUTION_SEARCH,
    GraphLevel,
    graph_level,
)
from protoclip.contract.manifest import EncoderFile, Engine, Format, Manifest, Role
from protoclip.contract.reasons import REASON_BYTES
from protoclip.contract.scaled_pixels import Decoding
from protoclip.contract.served_parameters import served_parameters

from .detector_step import add_detector, detector_config
from .instances import INSTANCES, add_cuda_graphs, add_instances, add_warmup, usual_batches
from .scheduling import Scheduling, add_queue

ALL_ROLES: tuple[Role, ...] = get_args(Role)
ROLES: tuple[Role, ...] = tuple(role for role in ALL_ROLES if role != "image_detector")
"""Those of every artifact."""


PLATFORMS: Mapping[Format, tuple[str, str]] = {
    "onnx": ("onnxruntime_onnx", "model.onnx"),
    "openvino": ("", "model.onnx"),
    "tensorrt": ("tensorrt_plan", "model.plan"),
}
"""Triton's platform for an engine's format, and the file name that it expects.

OpenVINO runs in a Python model of ours instead: Triton's own backend can't be told to compute in float32 on a
processor with bf16, and takes batches of one size only.
"""

OPENVINO_PRECISION = "inference_precision"
"""The parameter of an OpenVINO encoder, by which it is known."""

_GRAPH_LEVELS: Mapping[GraphLevel, int] = {"ORT_ENABLE_EXTENDED": 1, "ORT_DISABLE_ALL": 2}
"""Triton's numbers for ONNX Runtime's graph optimisation levels; the default is the full level."""


def model_file(engine: Engine) -> str:
    """Name of the encoder's file in Triton's version folder.

    Raises:
        ModelError: Triton has no backend for the engine's format.
    """
    return _platform(engine)[1]


def model_configs(
    manifest: Manifest,
    *,
    max_batch_size: int,
    encoder_threads: int,
    scheduling: Scheduling | None = None,
    engine: str | None = None,
    encoder_instances: int = INSTANCES,
    cuda_graphs: bool = False,
    scaled_decoding: str | None = None,
) -> dict[Role, ModelConfig]:
    """All configurations of an engine, by role; with `image_detector` where the artifact has a detector.

    Args:
        engine: its name; None: the manifest's default.
        max_batch_size: most items in a request and in a dynamic batch.
        encoder_threads: of each instance of an encoder on a CPU; 0 takes all cores that the server may use, and
            in the embedded server one where a run is short.
        scheduling: how requests wait; None: the defaults.
        encoder_instances: of each encoder, on each GPU or on the CPU; with one, requests can wait half a second.
        cuda_graphs: of a TensorRT plan, for the batches that are served most.
        scaled_decoding: pictures are decoded at the part of their size that the encoder needs; what was measured
            of the embeddings then, as it stands in the public model's parameters. None: they are decoded whole.

    Raises:
        ModelError: Triton has no backend for the engine's format, a plan takes smaller batches only, or
            `cuda_graphs` is asked of another engine than a plan.
    """
    names = {role: manifest.model_name(role, engine) for role in ALL_ROLES}
    if engine is not None:
        manifest = manifest.model_copy(update={"default_engine": manifest.engine_named(engine).name})
    scheduling = scheduling or Scheduling()
    batches = usual_batches(manifest.engine, scheduling.bulk_batch_size, max_batch_size)
    bulk = batches[-1]
    image, text = manifest.engine.image_encoder, manifest.engine.text_encoder
    configs: dict[Role, ModelConfig] = {
        "image": _ensemble(manifest, "image", image, names),
        "text": _ensemble(manifest, "text", text, names),
        "image_encoder": _encoder(manifest, "image_encoder", image, encoder_threads, batches),
        "text_encoder": _encoder(manifest, "text_encoder", text, encoder_threads, batches),
        "image_preprocess": _preprocess(manifest, "image_preprocess", image, scheduling),
        "text_preprocess": _preprocess(manifest, "text_preprocess", text, scheduling),
    }
    if manifest.detector is not None:
        configs["image_detector"] = detector_config(PLATFORMS["onnx"][0], manifest.embedding_dim)
        add_detector(configs["image"], names["image_detector"])
    _check_batch(manifest.engine, max_batch_size)
    if cuda_graphs and manifest.engine.format != "tensorrt":
        raise ModelError(
            f"engine {manifest.engine.name}: only TensorRT plans have CUDA graphs: leave --cuda-graphs out"
        )
    _set_decoding(manifest, configs, names, scaled_decoding)
    for role, config in configs.items():
        config.name = names[role]
        config.max_batch_size = max_batch_size
        if config.platform == "ensemble":
            _set_parameters(config, {"bulk_batch_size": str(bulk)})
        else:
            is_encoder = role in ("image_encoder", "text_encoder")
            if is_encoder:
                add_instances(config, manifest.engine, encoder_instances)
            if is_encoder and cuda_graphs:
                source = config.input[0]
                add_cuda_graphs(config, source.name, source.dims, batches)
            add_queue(config, scheduling, _preferred(batches if is_encoder else (bulk,), max_batch_size))
    return configs


def to_pbtxt(config: ModelConfig) -> bytes:
    """The text format of `config.pbtxt`; map entries are sorted by key."""
    text: str = text_format.MessageToString(config)
    return text.encode("utf-8")


def from_pbtxt(data: bytes, source: str) -> ModelConfig:
    """Reads what `to_pbtxt` or a person wrote.

    Raises:
        ModelError: it is not a model configuration; the message names `source`.
    """
    try:
        return text_format.Parse(data.decode("utf-8"), ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ModelError(f"{source}: not a model configuration: {error}") from error


def _ensemble(manifest: Manifest, role: Role, encoder: EncoderFile, names: Mapping[Role, str]) -> ModelConfig:
    preprocess: Role = "image_preprocess" if role == "image" else "text_preprocess"
    encode: Role = "image_encoder" if role == "image" else "text_encoder"
    config = ModelConfig(platform="ensemble")
    config.input.append(ModelInput(name=role, data_type=TYPE_STRING, dims=[1]))
    config.output.append(ModelOutput(name="embedding", data_type=TYPE_FP32, dims=[manifest.embedding_dim]))
    config.output.append(ModelOutput(name="error", data_type=TYPE_UINT8, dims=[REASON_BYTES]))
    tensor = encoder.input_name
    _add_step(config, names[preprocess], {role: role}, {tensor: tensor, "error": "error"})
    _add_step(config, names[encode], {tensor: tensor}, {encoder.output_name: "embedding"})
    _set_parameters(config, served_parameters(manifest, manifest.engine))
    return config


def _set_decoding(
    manifest: Manifest, configs: Mapping[Role, ModelConfig], names: Mapping[Role, str], scaled: str | None
) -> None:
    """How pixels are made, for the preprocessing, and with the parts to ask for clients that decode pictures."""
    decoding: Decoding = "whole" if scaled is None else "scaled"
    encoder = manifest.engine.image_encoder
    pixels = {
        "preprocess": names["image_preprocess"],
        "encoder": names["image_encoder"],
        "input": encoder.input_name,
        "output": encoder.output_name,
        "spec": dataclasses.asdict(manifest.pixels),
        "decoding": decoding,
    }
    _set_parameters(configs["image_preprocess"], {"decoding": decoding})
    _set_parameters(configs["image"], {"pixels": json.dumps(pixels)})
    if scaled is not None:
        _set_parameters(configs["image"], {"scaled_decoding": scaled})


def _add_step(config: ModelConfig, model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    step.input_map.update(inputs)
    step.output_map.update(outputs)


def _encoder(
    manifest: Manifest, role: Role, encoder: EncoderFile, threads: int, batches: Sequence[int]
) -> ModelConfig:
    engine = manifest.engine
    data_type, dims = _encoder_input(manifest, role)
    config = ModelConfig(platform=_platform(engine)[0])
    if engine.format == "openvino":
        config.backend = "python"
    config.input.append(ModelInput(name=encoder.input_name, data_type=data_type, dims=dims))
    config.output.append(ModelOutput(name=encoder.output_name, data_type=TYPE_FP32, dims=[manifest.embedding_dim]))
    if engine.format == "openvino":
        # The Python model warms itself up.
        assert engine.inference_precision is not None, "the manifest gives it for every OpenVINO engine"
        own = {OPENVINO_PRECISION: engine.inference_precision, "inference_num_threads": str(threads)}
        _set_parameters(config, own)
        return config
    add_warmup(config, encoder.input_name, data_type, dims, batches)
    if engine.format == "onnx":
        _set_parameters(config, {"intra_op_thread_count": str(threads), **TRITON_CONVOLUTION_SEARCH})
        if (level := graph_level(engine.precision)) in _GRAPH_LEVELS:
            config.optimization.graph.level = _GRAPH_LEVELS[level]
        # Read where Triton places the encoder on a GPU, and ignored on a CPU.
        cuda = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
        cuda.parameters.update(CUDA_OPTIONS)
    return config


def _preferred(batches: Sequence[int], max_batch_size: int) -> tuple[int, ...]:
    """None where the usual batch is the largest: then batches are as large as they come anyway."""
    return tuple(size for size in batches if size > 1) if batches[-1] < max_batch_size else ()


def _check_batch(engine: Engine, max_batch_size: int) -> None:
    if engine.build is not None and engine.build.profile.max < max_batch_size:
        raise ModelError(
            f"engine {engine.name} takes batches of {engine.build.profile.max} at most, not {max_batch_size}: "
            f"use --max-batch-size {engine.build.profile.max}"
        )


def _platform(engine: Engine) -> tuple[str, str]:
    if engine.format not in PLATFORMS:
        raise ModelError(
            f"engine {engine.name}: Triton has no backend for {engine.format} plans: "
            "choose another one with --engine, such as onnx_fp32"
        )
    return PLATFORMS[engine.format]


def _encoder_input(manifest: Manifest, role: Role) -> tuple[int, Sequence[int]]:
    if role == "image_encoder":
        return TYPE_UINT8, [manifest.pixels.height, manifest.pixels.width, 3]
    return TYPE_INT32, [manifest.text.context_length]


def _preprocess(manifest: Manifest, role: Role, encoder: EncoderFile, scheduling: Scheduling) -> ModelConfig:
    is_image = role == "image_preprocess"
    encode: Role = "image_encoder" if is_image else "text_encoder"
    spec: Any = manifest.pixels if is_image else manifest.text
    data_type, dims = _encoder_input(manifest, encode)
    config = ModelConfig(backend="python")
    config.input.append(ModelInput(name="image" if is_image else "text", data_type=TYPE_STRING, dims=[1]))
    config.output.append(ModelOutput(name=encoder.input_name, data_type=data_type, dims=dims))
    config.output.append(ModelOutput(name="error", data_type=TYPE_UINT8, dims=[REASON_BYTES]))
    if is_image:
        # For those who ask the part itself: the ensemble leaves it out.
        config.output.append(ModelOutput(name="decoders", data_type=TYPE_UINT8, dims=[DECODERS_BYTES]))
    config.instance_group.add(count=scheduling.preprocess_instances if is_image else INSTANCES, kind="KIND_CPU")
    _set_parameters(config, {"spec": json.dumps(dataclasses.asdict(spec))})
    if is_image:
        _set_parameters(config, {"decode_threads": str(scheduling.preprocess_threads)})
    return config


def _set_parameters(config: ModelConfig, parameters: Mapping[str, str]) -> None:
    for key, value in parameters.items():
        config.parameters[key].string_value = value
