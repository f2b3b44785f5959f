"""Finds the ProtoCLIP models in a Triton model repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from protoclip.contract.errors import ConfigError, ModelError

from .pbtxt import OPENVINO_PRECISION, PLATFORMS, from_pbtxt


@dataclass(frozen=True)
class PublicModel:
    """One of the two ensembles of an artifact, as its `config.pbtxt` describes it; `parts` are its steps."""

    name: str
    role: Literal["image", "text"]
    artifact: str
    fingerprint: str
    embedding_dim: int
    max_batch_size: int
    precision: str
    passed: bool
    parts: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """What its name and that of the other role have in common, such as `emoji_ab12cd`."""
        return self.name.removesuffix(f"_{self.role}")


def find_models(repository: Path, names: Sequence[str] = ()) -> tuple[PublicModel, ...]:
    """The public ProtoCLIP models in `repository`, sorted by name; other models are ignored.

    Args:
        names: only these artifacts, each given as `emoji`, as `emoji_ab12cd`, with an
            engine as `emoji_ab12cd_onnx_int8`, or as a model's full name.

    Raises:
        ModelError: no such folder, no model of ours in it, or a `config.pbtxt` that can't be read.
        ConfigError: one of `names` is not there.
    """
    if not repository.is_dir():
        raise ModelError(f"{repository}: no such folder: write one with `protoclip repository ARTIFACT`")
    models = [_read(file) for file in sorted(repository.glob("*/config.pbtxt"))]
    found = [model for model in models if model is not None]
    if not found:
        raise ModelError(f"{repository}: no ProtoCLIP model in it: write one with `protoclip repository ARTIFACT`")
    for name in names:
        if not any(_answers_to(model, name) for model in found):
            there = ", ".join(sorted({model.prefix for model in found}))
            raise ConfigError(f"{repository}: no model {name!r}: there are {there}")
    return tuple(m for m in found if not names or any(_answers_to(m, name) for name in names))


def asked_directly(model: PublicModel) -> tuple[str, ...]:
    """The models that clients may ask for inference: of pictures also the parts, by those who decode them.

    A detector is asked by its ensemble alone.
    """
    if model.role == "text":
        return (model.name,)
    return (model.name, *(part for part in model.parts if not part.endswith("_image_detector")))


def find_plans(repository: Path, models: Sequence[PublicModel]) -> list[str]:
    """Names of the parts of `models` that are TensorRT plans; raises ModelError where one can't be read."""
    parts = _parts(repository, models).items()
    return [name for name, config in parts if config.platform == PLATFORMS["tensorrt"][0]]


def find_openvino(repository: Path, models: Sequence[PublicModel]) -> list[str]:
    """Names of the parts of `models` that run in OpenVINO; raises ModelError where one can't be read."""
    return [name for name, config in _parts(repository, models).items() if OPENVINO_PRECISION in config.parameters]


def _parts(repository: Path, models: Sequence[PublicModel]) -> dict[str, Any]:
    names = dict.fromkeys(name for model in models for name in model.parts)
    files = {name: repository / name / "config.pbtxt" for name in names}
    return {name: from_pbtxt(file.read_bytes(), str(file)) for name, file in files.items() if file.is_file()}


def _answers_to(model: PublicModel, name: str) -> bool:
    return name in (model.artifact, f"{model.artifact}_{model.fingerprint[:6]}", model.prefix, model.name)


def _read(file: Path) -> PublicModel | None:
    config = from_pbtxt(file.read_bytes(), str(file))
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    if "protoclip_name" not in parameters:
        return None
    return _describe(config, parameters, file)


def _describe(config: Any, parameters: dict[str, str], file: Path) -> PublicModel:
    try:
        return PublicModel(
            name=config.name,
            role="image" if config.input[0].name == "image" else "text",
            artifact=parameters["protoclip_name"],
            fingerprint=parameters["fingerprint"],
            embedding_dim=int(parameters["embedding_dim"]),
            max_batch_size=config.max_batch_size,
            precision=parameters["precision"],
            passed=parameters["verdict"] == "passed",
            parts=tuple(step.model_name for step in config.ensemble_scheduling.step),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{file}: incomplete ({error}): write the repository again") from error
