"""The detector as a model of its own, and as one more step of the image ensemble. `B` pictures, `D` embedding."""

from __future__ import annotations

from tritonclient.grpc.model_config_pb2 import (
    TYPE_BOOL,
    TYPE_FP32,
    TYPE_UINT8,
    ModelConfig,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
)

from protoclip.contract.reasons import REASON_BYTES
from protoclip.contract.served_detector import DETECTOR_INPUTS, DETECTOR_OUTPUTS, KNOWN, KNOWN_SCORE

from .instances import INSTANCES


def detector_config(platform: str, embedding_dim: int) -> ModelConfig:
    """The model: float32 [B, D] and uint8 [B, 256] → the same again, bool [B, 1] and float32 [B, 1].

    It stays on the CPU, where its agreement with torch was measured. One thread: of a lone picture's product each
    number is read once, and more threads would wait for the same memory.

    Args:
        platform: of ONNX engines.
    """
    config = ModelConfig(platform=platform)
    passed_on = [(TYPE_FP32, embedding_dim), (TYPE_UINT8, REASON_BYTES)]
    for name, (data_type, size) in zip(DETECTOR_INPUTS, passed_on, strict=True):
        config.input.append(ModelInput(name=name, data_type=data_type, dims=[size]))
    found = [*passed_on, (TYPE_BOOL, 1), (TYPE_FP32, 1)]
    for name, (data_type, size) in zip(DETECTOR_OUTPUTS, found, strict=True):
        config.output.append(ModelOutput(name=name, data_type=data_type, dims=[size]))
    config.instance_group.add(count=INSTANCES, kind=ModelInstanceGroup.KIND_CPU)
    config.parameters["intra_op_thread_count"].string_value = "1"
    return config


def add_detector(ensemble: ModelConfig, name: str) -> None:
    """The step that asks the model called `name`, and gives all outputs of the ensemble.

    Triton 2.51 leaves a step out whose outputs nobody asked for, and then also what makes its inputs, although a
    client asked for `embedding`: its `EnsembleContext` counts the steps that take a tensor, and not the client. So
    the detector passes on what it takes, and no output is a step's input too.
    """
    passed_on = dict(zip(DETECTOR_OUTPUTS, DETECTOR_INPUTS, strict=False))
    for before in ensemble.ensemble_scheduling.step:
        renamed = {output: passed_on.get(tensor, tensor) for output, tensor in before.output_map.items()}
        before.output_map.update(renamed)
    for output, data_type in ((KNOWN, TYPE_BOOL), (KNOWN_SCORE, TYPE_FP32)):
        ensemble.output.append(ModelOutput(name=output, data_type=data_type, dims=[1]))
    step = ensemble.ensemble_scheduling.step.add(model_name=name, model_version=-1)
    step.input_map.update({tensor: tensor for tensor in DETECTOR_INPUTS})
    step.output_map.update({tensor: tensor for tensor in DETECTOR_OUTPUTS})
