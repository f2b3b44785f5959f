"""Settings of the model and of its training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .section import Section, because
from .setting_types import Beta, DeviceName, Positive

_PAPER = because("the paper's")
_CLIP = because("CLIP's")


class HeadConfig(Section):
    """The projection heads Linear–BatchNorm–ReLU–Linear on the towers' outputs."""

    num_layers: int = Field(2, ge=1, le=4, description="linear layers", json_schema_extra=_PAPER)
    hidden_dim: int = Field(2048, gt=0, description="width between them", json_schema_extra=_PAPER)
    projection_dim: int = Field(
        128, gt=0, description="P, numbers of a projected feature", json_schema_extra=_PAPER
    )
    same_start: bool = Field(
        False,
        description="the text's head begins with the weights of the picture's, as in the paper's code",
        json_schema_extra=because("not tried against the other yet"),
    )


Channels = tuple[float, float, float]
Scales = tuple[Positive, Positive, Positive]


class PreprocessingConfig(Section):
    """How the pictures are prepared, where the weights do not say it, or say something else; none: as they say."""

    mean: Channels | None = Field(None, description="of the channels R, G, B, for values in [0, 1]")
    std: Scales | None = Field(None, description="by which they are divided")
    interpolation: Literal["bicubic", "bilinear"] | None = Field(None, description="of resizing")
    resize_mode: Literal["shortest", "longest", "squash"] | None = Field(
        None,
        description="which side is fitted to the encoder's: the rest is cropped or padded; squash: both",
    )


AS_PUBLISHED = PreprocessingConfig()


class ModelConfig(Section):
    """The open_clip model and the projection heads."""

    name: str = Field(
        "ViT-B-32",
        description="an open_clip model's name",
        json_schema_extra=because("the smallest of CLIP's own; --data takes protoclip-mini-48, for a CPU"),
    )
    weights: str | None = Field(
        None,
        description="to start from: a tag of open_clip's (`protoclip models`), hf-hub:org/name, or the path of a "
        "checkpoint or model folder; none: random weights",
    )
    preprocessing: PreprocessingConfig = Field(
        AS_PUBLISHED, description="of the pictures, where it is not to be the weights' own"
    )
    word_vectors: str | None = Field(
        None, description="Parquet with columns `word` and `feature`: where the text tower's words begin"
    )
    word_norm: float = Field(
        0.8,
        gt=0,
        description="length that each of the word vectors is given",
        json_schema_extra=because("decisions/0004"),
    )
    color_management: Literal["srgb", "stored"] = Field(
        "srgb",
        description="colours of pictures with a profile: converted to srgb, or as stored; with weights: stored",
        json_schema_extra=because("what the eye sees; published weights learned from pictures as stored"),
    )
    head: HeadConfig = Field(HeadConfig(), description="the projection heads")
    lock: Literal["image", "text"] | None = Field(None, description="tower that is left as it is")
    interpolate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="α: the finished run is (1−α)·weights + α·trained; 1: trained alone",
        json_schema_extra=because("random weights are nothing to go back to; --preset finetune has 0.5"),
    )

    @model_validator(mode="before")
    @classmethod
    def _colors_as_the_weights_know_them(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("color_management") is None:
            return values | {"color_management": "srgb" if values.get("weights") is None else "stored"}
        return values

    @model_validator(mode="after")
    def _start_of_interpolation(self) -> Self:
        if self.word_vectors is not None and self.weights is not None:
            raise ValueError("model.word_vectors would replace those of model.weights: leave one of them out")
        if self.interpolate < 1 and self.weights is None:
            raise ValueError("model.interpolate < 1 mixes with model.weights: name them, or set it to 1")
        return self


class OptimConfig(Section):
    """The optimiser, one linear warm-up and cosine per tower."""

    kind: Literal["adamw", "sgd"] = Field(
        "adamw",
        description="adamw, or sgd with Nesterov's momentum, as recipes for residual networks have it",
        json_schema_extra=_PAPER,
    )
    learning_rate: float = Field(
        5e-4, gt=0, description="peak, of both towers and heads", json_schema_extra=_PAPER
    )
    weight_decay: float = Field(
        0.5, ge=0, description="of matrices; biases, norms and scales have none", json_schema_extra=_PAPER
    )
    head_weight_decay: float | None = Field(
        None, ge=0, description="of the projection heads' matrices, 0 in the paper's code; none: weight_decay"
    )
    momentum: Beta = Field(
        0.9, description="of sgd", json_schema_extra=because("usual, and that of --preset palm-cifar")
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.98), description="AdamW's averages", json_schema_extra=_CLIP)
    epsilon: float = Field(1e-6, gt=0, description="AdamW's ε", json_schema_extra=_CLIP)
    warmup_steps: int = Field(
        500,
        ge=0,
        description="steps in which the learning rate rises",
        json_schema_extra=because("the paper's 15,625 are a tenth of its steps; --data takes a tenth"),
    )
    final_learning_rate: float = Field(
        0.0, ge=0, description="where the cosine ends, as a part of the peak", json_schema_extra=_CLIP
    )
    lit_learning_rate: float = Field(
        1e-4,
        gt=0,
        description="text tower's peak in the LiT stage",
        json_schema_extra=because("the main cosine leaves that stage next to nothing"),
    )
    lit_warmup_steps: int = Field(
        50, ge=0, description="of the LiT stage", json_schema_extra=because("the stage is short")
    )
    clip_norm: float = Field(10.0, gt=0, description="largest norm of the gradient", json_schema_extra=_PAPER)


class TrainConfig(Section):
    """How long, how large, where."""

    batch_size: int = Field(512, gt=1, description="B, over all ranks", json_schema_extra=_PAPER)
    accumulation: int = Field(
        1,
        gt=0,
        description="parts in which a rank's share of B passes the towers; gradients stay those of B",
        json_schema_extra=because("each further part costs a second forward pass of the towers"),
    )
    sync_batch_norm: bool = Field(
        False,
        description="BatchNorm of the towers over the rows of all ranks; false: each rank over its own",
        json_schema_extra=because("costs a collective per layer; most models have no BatchNorm"),
    )
    steps: int | None = Field(None, gt=0, description="optimiser steps; give this or passes")
    passes: float | None = Field(None, gt=0, description="runs through the data; give this or steps")
    seed: int = Field(
        0, ge=0, description="of every random number of the run", json_schema_extra=because("any will do")
    )
    device: DeviceName = Field(
        "auto",
        description="auto: a GPU where there is one",
        json_schema_extra=because("one file serves both kinds of machine"),
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the towers; bf16: mixed, with weights, heads and losses in float32; fp32 on a GPU: "
        "convolutions in TF32, as is PyTorch's default",
        json_schema_extra=because("right everywhere; --data takes bf16 where the GPU computes in it"),
    )
    num_workers: int | None = Field(
        None,
        ge=0,
        description="processes a rank that read and crop pictures; none: its share of the cores, less one",
        json_schema_extra=because("one core is for the step; results are the same with any number"),
    )
    log_every_steps: int = Field(
        10,
        gt=0,
        description="steps between two lines of metrics.jsonl",
        json_schema_extra=because("a line costs a transfer from the device"),
    )
    checkpoint_every_steps: int = Field(
        1000, gt=0, description="steps between two checkpoints", json_schema_extra=because("besides those by time")
    )
    checkpoint_every_minutes: float = Field(
        15.0,
        ge=0,
        description="since the last one, besides those by steps; 0: by steps alone",
        json_schema_extra=because("a killed run loses a quarter of an hour at most"),
    )
    keep_checkpoints: int = Field(
        2,
        gt=0,
        description="the last so many; the best by validation is kept besides",
        json_schema_extra=because("one to go on from where the other is damaged"),
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.passes is None):
            raise ValueError("give exactly one of train.steps and train.passes")
        return self
