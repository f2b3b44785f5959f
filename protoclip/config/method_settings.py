"""Settings of the method: losses, episodes, prototypes, teacher."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section, because

_PAPER = because("the paper's")


class LossConfig(Section):
    """L = clip_weight·L_clip + proto_weight·L_proto + external_weight·L_ext; the last two 0: plain CLIP."""

    objective: Literal["protoclip", "palm"] = Field(
        "protoclip",
        description="protoclip: pictures with texts; palm: pictures with classes, as the section palm says, and "
        "of this section nothing else counts",
        json_schema_extra=because("what the rest of the settings is about"),
    )
    alignment: Literal["infonce", "sigmoid"] = Field(
        "infonce",
        description="L_clip: infonce as in CLIP, or sigmoid as in SigLIP, whose models have a logit bias",
        json_schema_extra=_PAPER,
    )
    clip_weight: float = Field(1.0, ge=0, description="weight of the alignment loss", json_schema_extra=_PAPER)
    proto_weight: float = Field(
        1.0, ge=0, description="weight of the loss towards an episode's prototypes", json_schema_extra=_PAPER
    )
    external_weight: float = Field(
        1.0, ge=0, description="weight of the loss towards a teacher's prototypes", json_schema_extra=_PAPER
    )
    max_scale: float = Field(
        100.0,
        gt=1,
        description="upper bound of the inverse temperatures s and s_proto",
        json_schema_extra=because("CLIP's"),
    )
    target_temperature: float = Field(
        0.01, description="τ of the soft targets; ≤ 0 means hard labels", json_schema_extra=_PAPER
    )
    back_translation: bool = Field(
        True,
        description="student prototypes are means of the student's features",
        json_schema_extra=because("the paper's: it takes the modality gap out of the loss"),
    )


class EpisodeConfig(Section):
    """An episode: m pairs are drawn, clustered, and trained on."""

    size: int = Field(
        200_000,
        gt=0,
        description="m is the smaller of this and N, rounded down to whole batches",
        json_schema_extra=_PAPER,
    )
    repeats: int = Field(
        1,
        gt=0,
        description="times an episode's pairs are gone through before the next",
        json_schema_extra=because("the paper's; small data needs more, so that clustering stays cheap beside it"),
    )
    warmup_episodes: int = Field(
        1,
        ge=1,
        description="first episodes: alignment only",
        json_schema_extra=because("features of an untrained model have no clusters worth training towards"),
    )
    lit_episodes: int = Field(
        0,
        ge=0,
        description="last episodes: image tower frozen, alignment only",
        json_schema_extra=because("off: it shortens the schedule of the image tower"),
    )


class PrototypesConfig(Section):
    """Where the features come from that an episode's prototypes are made of."""

    source: Literal["extract", "stream"] = Field(
        "extract",
        description="extract: a second forward pass over the episode's pairs, before it is trained on; "
        "stream: what training projected in the episode before, at no extra pass",
        json_schema_extra=because("the paper's; decisions/0005 compares both"),
    )
    refresh_steps: int | None = Field(
        None,
        gt=0,
        description="stream only: prototypes are made anew every so many steps of the main stage, from the latest "
        "projection at each of m positions; none: once an episode",
    )
    refresh_rows: Literal["all", "trained"] = Field(
        "all",
        description="with refresh_steps: rows whose cluster is sought anew; trained: those that were trained on "
        "since the last prototypes, at a cost in proportion",
        json_schema_extra=because("K-means as in the study so far; decisions/0059 has the other"),
    )
    momentum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="part of the last centroids in the new ones, with a warm start only; 0: K-means alone",
        json_schema_extra=because("as in the paper"),
    )


class ClusteringConfig(Section):
    """K-means on the projected features of an episode."""

    num_prototypes: int | None = Field(
        None, gt=1, description="K, of each side; none: m/10", json_schema_extra=_PAPER
    )
    num_iterations: int = Field(
        20,
        gt=0,
        description="K-means iterations of a start",
        json_schema_extra=because("the time of a clustering grows with it"),
    )
    warm_iterations: int | None = Field(
        None, gt=0, description="K-means iterations that begin with the last centroids; none: num_iterations"
    )
    num_restarts: int = Field(
        3,
        gt=0,
        description="runs from drawn centroids, of which the best is kept",
        json_schema_extra=because("one start alone can be a poor one"),
    )
    warm_start: bool | None = Field(
        None, description="begin with the last episode's centroids; none: with streamed prototypes only"
    )
    spherical: bool = Field(
        False,
        description="re-normalise centroids in each iteration",
        json_schema_extra=because("as in the paper's code: centroids keep their lengths"),
    )
    backend: Literal["auto", "faiss", "lloyd"] = Field(
        "auto",
        description="auto: faiss on one rank, Lloyd's iterations shared between several",
        json_schema_extra=because("the faster one; lloyd gives the same clusters on any number of ranks"),
    )


class TeacherConfig(Section):
    """Fixed features from outside, clustered once over the data."""

    path: str | None = Field(
        None, description="Parquet with a key and a `feature` column, or .npy [N, F] with the N rows of the data"
    )
    key_column: str | None = Field(None, description="column of the data that the teacher's key column joins on")
    num_prototypes: int | None = Field(
        None,
        gt=1,
        description="clusters of the teacher's features; none: 3.36 · √N, N pairs to train on, at most N",
        json_schema_extra=because("grows with the data: the root through both numbers that were tried and worked"),
    )
