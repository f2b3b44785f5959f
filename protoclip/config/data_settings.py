"""Settings of the pairs: where they are, how pictures are varied, what is held out and what is measured."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .section import Section, because
from .setting_types import Hue, Names, Positive, Range, Strength

_PAPER = because("the paper's")


Shots = Annotated[int, Field(gt=0)]


class DataConfig(Section):
    """Where the pairs are and which columns hold what."""

    path: Names = Field(
        min_length=1,
        description="tables (.csv, .tsv, .jsonl, .parquet), WebDataset shards (.tar), folders, patterns such as "
        "shards/{000..099}.tar, and addresses such as s3://bucket/shop",
    )
    weights: tuple[Positive, ...] | None = Field(
        None,
        description="how often the pairs of each entry of data.path come in a pass, one number each: 2 twice, 0.5 "
        "half of them, others in each pass; none: each pair once",
        json_schema_extra=because("the data as they are"),
    )
    image_column: str = Field(
        "image",
        description="picture: a path (relative to its file), or bytes in Parquet",
        json_schema_extra=because("its name in data sets of the Hugging Face hub"),
    )
    text_columns: Names = Field(
        ("text",),
        min_length=1,
        description="captions: text, or lists of texts; the first is the row's label text",
        json_schema_extra=because("its name in data sets of the Hugging Face hub"),
    )
    group_column: str | None = Field(
        None, description="rows with the same value show the same thing and never meet in a batch"
    )
    class_column: str | None = Field(
        None,
        description="class of each picture, for loss.objective = palm; none: class, as folders of classes have it",
    )
    split_column: str | None = Field(
        None,
        description="column that says which part a row belongs to",
        json_schema_extra=because("all rows are trained on"),
    )
    train_split: str = Field(
        "train",
        description="value of split_column that is trained on; all: every row, whatever its split",
        json_schema_extra=because("the usual name"),
    )
    encoding: str = Field(
        "utf-8",
        description="of CSV, TSV and JSON Lines files",
        json_schema_extra=because("strict: the first byte that is not UTF-8 is named instead of guessed at"),
    )
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="between the fields of CSV; none: as the first line shows"
    )
    layout: Literal["table", "class_folders", "sidecars", "webdataset"] | None = Field(
        None,
        description="what a folder is, where it could be read in two ways; none: as its files show",
        json_schema_extra=because("two readings are refused rather than guessed at"),
    )
    max_left_out: float = Field(
        0.5,
        ge=0,
        description="rows, files and pictures that may be left out; below 1 a share, else a number",
        json_schema_extra=because("a run on less than half of the data is seldom what was meant"),
    )
    cache_mb: int = Field(
        1024,
        ge=0,
        description="MiB: decoded pictures are kept in memory if they fit in this; 0: never",
        json_schema_extra=because("a gigabyte is free on most machines"),
    )
    cache_dir: str | None = Field(
        None,
        description="folder for what is made of large data once: its table and tokens; none: ~/.cache/protoclip",
        json_schema_extra=because("where other tools keep theirs; it survives a run and serves the next"),
    )

    @model_validator(mode="after")
    def _one_weight_a_path(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.path):
            raise ValueError(
                f"data.weights has {len(self.weights)} numbers and data.path {len(self.path)} entries: give one "
                "for each"
            )
        return self


class AugmentationConfig(Section):
    """What is drawn anew for each visit of a picture."""

    crop_scale: Range = Field(
        (0.5, 1.0), description="area of the crop, as a part of the picture", json_schema_extra=_PAPER
    )
    crop_ratio: Range = Field(
        (0.75, 4 / 3),
        description="width by height of the crop",
        json_schema_extra=because("that of torchvision's RandomResizedCrop"),
    )
    flip: float = Field(
        0.5, ge=0, le=1, description="probability of mirroring left and right", json_schema_extra=_PAPER
    )
    jitter: float = Field(0.2, ge=0, le=1, description="probability of colour jitter", json_schema_extra=_PAPER)
    jitter_strength: tuple[Strength, Strength, Strength, Hue] = Field(
        (0.8, 0.8, 0.8, 0.2), description="brightness, contrast, saturation, hue", json_schema_extra=_PAPER
    )
    grey: float = Field(0.2, ge=0, le=1, description="probability of greyscale", json_schema_extra=_PAPER)
    blur: float = Field(0.2, ge=0, le=1, description="probability of Gaussian blur", json_schema_extra=_PAPER)
    blur_sigma: Range = Field(
        (0.1, 2.0), description="width of the blur, in pixels of the model's input", json_schema_extra=_PAPER
    )


class ValidationConfig(Section):
    """Retrieval on held-out pairs while training; off unless a fraction or a split is given."""

    fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="part of the groups held out of training; 0: none",
        json_schema_extra=because("a configuration trains on all that it names; --data holds a tenth out"),
    )
    split: str | None = Field(None, description="value of data.split_column to validate on, instead of a fraction")
    every_steps: int = Field(
        100,
        gt=0,
        description="steps between two measurements; the last step is always measured",
        json_schema_extra=because("ten times in a run of 1,000 steps; --data measures ten times as well"),
    )
    metric: Literal["image_to_text_r1", "image_to_text_r5", "mean_recall"] = Field(
        "mean_recall",
        description="what decides which step is best",
        json_schema_extra=because("the mean of six recalls is less noisy than one of them"),
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="which weights the finished run has",
        json_schema_extra=because("on small data the last step is often past the best one"),
    )
    patience: int | None = Field(
        None,
        gt=0,
        description="stop after so many measurements that are no better; none: never",
        json_schema_extra=because("late in a run, while the learning rate falls, it can still get better"),
    )
    max_pairs: int = Field(
        2000,
        gt=0,
        description="of more pairs that many are drawn, the same each time",
        json_schema_extra=because("their pixels stay in memory: 300 MB at 224 px"),
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.fraction > 0 and self.split is not None:
            raise ValueError("give validation.fraction or validation.split, not both")
        return self


class EvaluationConfig(Section):
    """What `protoclip evaluate` measures."""

    class_columns: tuple[str, ...] = Field((), description="columns to classify by")
    cells: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="named subsets of the data, each a union of split values; none: one for each value",
    )
    templates: tuple[str, ...] = Field(
        ("plain",),
        description="sets of zero-shot templates: plain, icon, photo, simple, imagenet",
        json_schema_extra=because("the class's name alone suits any data"),
    )
    captions: Literal["label", "all"] = Field(
        "label",
        description="which texts retrieval is among: label: one of each group; all: every text of every picture, "
        "where any of its own is right (COCO's protocol)",
        json_schema_extra=because("pictures of a group share their texts"),
    )
    few_shot: tuple[Shots, ...] = Field(
        (),
        description="also linear probes on so many training pictures of each class, mean of 3 draws",
        json_schema_extra=because("each number costs 3 more probes"),
    )
    batch_size: int = Field(
        256,
        gt=0,
        description="pictures and texts at a time, in validation too",
        json_schema_extra=because("has no influence on results"),
    )
