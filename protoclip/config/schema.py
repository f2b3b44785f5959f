"""The run's configuration: what a TOML file, `--set a.b=c` and the run folder's `config.json` hold.

`B` is the global batch, `m` the pairs in an episode, `N` the pairs in the data, `K` the prototypes.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .setting_types import Beta, DeviceName, Hue, Names, Range, Strength


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Section):
    """Where the pairs are and which columns hold what."""

    path: Names = Field(min_length=1, description="CSV, TSV, JSON Lines or Parquet files, or a folder of them")
    image_column: str = Field("image", description="picture: a path (relative to its file), or bytes in Parquet")
    text_columns: Names = Field(
        ("text",), min_length=1, description="captions: text, or lists of texts; the first is the row's label text"
    )
    group_column: str | None = Field(
        None, description="rows with the same value show the same thing and never meet in a batch"
    )
    split_column: str | None = Field(None, description="column that says which part a row belongs to")
    train_split: str = Field("train", description="value of split_column that is trained on")
    encoding: str = Field("utf-8", description="of CSV, TSV and JSON Lines files")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="between the fields of CSV; none: as the first line shows"
    )
    cache_mb: int = Field(1024, ge=0, description="decoded pictures are kept in memory if they fit in this")


class HeadConfig(_Section):
    """The projection heads Linear–BatchNorm–ReLU–Linear on the towers' outputs."""

    num_layers: int = Field(2, ge=1, le=4)
    hidden_dim: int = Field(2048, gt=0)
    projection_dim: int = Field(128, gt=0, description="P")


class ModelConfig(_Section):
    """The open_clip model and the projection heads."""

    name: str = Field("ViT-B-32", description="an open_clip model's name")
    weights: str | None = Field(None, description="local checkpoint to start from; none: random weights")
    word_vectors: str | None = Field(
        None, description="Parquet with columns `word` and `feature`: where the text tower's words begin"
    )
    word_norm: float = Field(0.8, gt=0, description="length that each of the word vectors is given")
    head: HeadConfig = HeadConfig()
    lock: Literal["image", "text"] | None = Field(None, description="tower that is left as it is")
    interpolate: float = Field(
        1.0, ge=0, le=1, description="α: the finished run is (1−α)·weights + α·trained; 1: trained alone"
    )

    @model_validator(mode="after")
    def _start_of_interpolation(self) -> Self:
        if self.word_vectors is not None and self.weights is not None:
            raise ValueError("model.word_vectors would replace those of model.weights: leave one of them out")
        if self.interpolate < 1 and self.weights is None:
            raise ValueError("model.interpolate < 1 mixes with model.weights: name them, or set it to 1")
        return self


class AugmentationConfig(_Section):
    """What is drawn anew for each visit of a picture; the defaults are the paper's."""

    crop_scale: Range = Field((0.5, 1.0), description="area of the crop, as a part of the picture")
    crop_ratio: Range = Field((0.75, 4 / 3), description="width by height of the crop")
    flip: float = Field(0.5, ge=0, le=1, description="probability")
    jitter: float = Field(0.2, ge=0, le=1, description="probability of colour jitter")
    jitter_strength: tuple[Strength, Strength, Strength, Hue] = Field(
        (0.8, 0.8, 0.8, 0.2), description="brightness, contrast, saturation, hue"
    )
    grey: float = Field(0.2, ge=0, le=1, description="probability")
    blur: float = Field(0.2, ge=0, le=1, description="probability")
    blur_sigma: Range = Field((0.1, 2.0), description="in pixels of the model's input")


class LossConfig(_Section):
    """L = clip_weight·L_clip + proto_weight·L_proto + external_weight·L_ext; the last two 0: plain CLIP."""

    alignment: Literal["infonce", "sigmoid"] = "infonce"
    clip_weight: float = Field(1.0, ge=0)
    proto_weight: float = Field(1.0, ge=0)
    external_weight: float = Field(1.0, ge=0)
    max_scale: float = Field(100.0, gt=1, description="upper bound of the inverse temperatures s and s_proto")
    target_temperature: float = Field(0.01, description="τ of the soft targets; ≤ 0 means hard labels")
    back_translation: bool = Field(True, description="student prototypes are means of the student's features")


class EpisodeConfig(_Section):
    """An episode: m pairs are drawn, clustered, and trained on."""

    size: int = Field(200_000, gt=0, description="m is the smaller of this and N, rounded down to whole batches")
    repeats: int = Field(1, gt=0, description="times an episode's pairs are gone through before the next")
    warmup_episodes: int = Field(1, ge=1, description="first episodes: alignment only")
    lit_episodes: int = Field(0, ge=0, description="last episodes: image tower frozen, alignment only")


class PrototypesConfig(_Section):
    """Where the features come from that an episode's prototypes are made of."""

    source: Literal["extract", "stream"] = Field(
        "extract",
        description="extract: a second forward pass over the episode's pairs, before it is trained on; "
        "stream: what training projected in the episode before, at no extra pass",
    )


class ClusteringConfig(_Section):
    """K-means on the projected features of an episode."""

    num_prototypes: int | None = Field(None, gt=1, description="K; none: m/10")
    num_iterations: int = Field(20, gt=0)
    num_restarts: int = Field(3, gt=0, description="runs from drawn centroids, of which the best is kept")
    warm_start: bool | None = Field(
        None, description="begin with the last episode's centroids; none: with streamed prototypes only"
    )
    spherical: bool = Field(False, description="re-normalise centroids in each iteration")
    backend: Literal["auto", "faiss", "lloyd"] = Field(
        "auto", description="auto: faiss on one rank, Lloyd's iterations shared between several"
    )


class TeacherConfig(_Section):
    """Fixed features from outside, clustered once over the data."""

    path: str | None = Field(
        None, description="Parquet with a key and a `feature` column, or .npy [N, F] with the N rows of the data"
    )
    key_column: str | None = Field(None, description="column of the data that the teacher's key column joins on")
    num_prototypes: int = Field(300, gt=1)


class OptimConfig(_Section):
    """AdamW, one linear warm-up and cosine per tower."""

    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.5, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    epsilon: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(500, ge=0)
    final_learning_rate: float = Field(0.0, ge=0, description="where the cosine ends, as a part of the peak")
    lit_learning_rate: float = Field(1e-4, gt=0, description="text tower's peak in the LiT stage")
    lit_warmup_steps: int = Field(50, ge=0)
    clip_norm: float = Field(10.0, gt=0)


class TrainConfig(_Section):
    """How long, how large, where."""

    batch_size: int = Field(512, gt=1, description="B, over all ranks")
    accumulation: int = Field(
        1, gt=0, description="parts in which a rank's share of B passes the towers; gradients stay those of B"
    )
    sync_batch_norm: bool = Field(
        False, description="BatchNorm of the towers over the rows of all ranks; false: each rank over its own"
    )
    steps: int | None = Field(None, gt=0, description="optimiser steps; give this or passes")
    passes: float | None = Field(None, gt=0, description="runs through the data; give this or steps")
    seed: int = Field(0, ge=0)
    device: DeviceName = Field("auto", description="auto: a GPU where there is one")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the towers; bf16: mixed, with weights, heads and losses in float32"
    )
    num_workers: int = Field(2, ge=0, description="processes that read and crop pictures")
    log_every_steps: int = Field(10, gt=0)
    checkpoint_every_steps: int = Field(1000, gt=0)
    checkpoint_every_minutes: float = Field(
        15.0, ge=0, description="since the last one, besides those by steps; 0: by steps alone"
    )
    keep_checkpoints: int = Field(2, gt=0, description="the last so many; the best by validation is kept besides")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.passes is None):
            raise ValueError("give exactly one of train.steps and train.passes")
        return self


class ValidationConfig(_Section):
    """Retrieval on held-out pairs while training; off unless a fraction or a split is given."""

    fraction: float = Field(0.0, ge=0, lt=1, description="part of the groups held out of training; 0: none")
    split: str | None = Field(None, description="value of data.split_column to validate on, instead of a fraction")
    every_steps: int = Field(100, gt=0, description="how often; the last step is always measured")
    metric: Literal["image_to_text_r1", "image_to_text_r5", "mean_recall"] = Field(
        "mean_recall", description="what decides which step is best"
    )
    keep: Literal["best", "last"] = Field("best", description="which weights the finished run has")
    patience: int | None = Field(None, gt=0, description="stop after so many measurements that are no better")
    max_pairs: int = Field(2000, gt=0, description="of more pairs that many are drawn")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.fraction > 0 and self.split is not None:
            raise ValueError("give validation.fraction or validation.split, not both")
        return self


class EvaluationConfig(_Section):
    """What `protoclip evaluate` measures."""

    class_columns: tuple[str, ...] = Field((), description="columns to classify by")
    cells: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="named subsets of the data, each a union of split values; none: one for each value",
    )
    templates: tuple[str, ...] = Field(("plain",), description="sets of zero-shot templates")
    batch_size: int = Field(256, gt=0)


class RunConfig(_Section):
    """All of it. Frozen; an unknown field is an error."""

    schema_version: Literal[1] = 1
    data: DataConfig
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
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
        return self.loss.proto_weight > 0 or (self.loss.external_weight > 0 and self.teacher.path is not None)
