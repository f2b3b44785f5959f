"""The run's configuration: what a TOML file, `--set a.b=c` and the run folder's `config.json` hold.

`B` is the global batch, `m` the pairs in an episode, `N` the pairs in the data, `K` the prototypes.
`docs/settings.md` is made from the descriptions and reasons here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .data_settings import AugmentationConfig, DataConfig, EvaluationConfig, ValidationConfig
from .method_settings import ClusteringConfig, EpisodeConfig, LossConfig, PrototypesConfig, TeacherConfig
from .model_settings import HeadConfig, ModelConfig, OptimConfig, PreprocessingConfig, TrainConfig
from .palm_settings import PalmConfig
from .section import Section

__all__ = [
    "AugmentationConfig",
    "ClusteringConfig",
    "DataConfig",
    "EpisodeConfig",
    "EvaluationConfig",
    "HeadConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PalmConfig",
    "PreprocessingConfig",
    "PrototypesConfig",
    "RunConfig",
    "TeacherConfig",
    "TrainConfig",
    "ValidationConfig",
]


class RunConfig(Section):
    """All of it. Frozen; an unknown field is an error."""

    schema_version: Literal[1] = Field(1, description="of this format")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
    palm: PalmConfig = PalmConfig()
    episode: EpisodeConfig = EpisodeConfig()
    prototypes: PrototypesConfig = PrototypesConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    teacher: TeacherConfig = TeacherConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def has_prototype_loss(self) -> bool:
        """Without one, all weights being 0, the run is plain CLIP and clusters nothing."""
        if self.is_palm:
            return False
        return self.loss.proto_weight > 0 or (self.loss.external_weight > 0 and self.teacher.path is not None)

    @property
    def is_palm(self) -> bool:
        """Whether pictures are trained towards mixtures of prototypes of their classes, without their texts."""
        return self.loss.objective == "palm"
