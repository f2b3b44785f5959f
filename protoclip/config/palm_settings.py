"""Settings of PALM: classes as mixtures of prototypes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section, because

_PAPER = because("the paper's")


class PalmConfig(Section):
    """With loss.objective = "palm": each class a mixture of prototypes, to know what is of no class."""

    per_class: int = Field(6, ge=1, le=1000, description="prototypes of a class, M", json_schema_extra=_PAPER)
    kept: int = Field(
        5, ge=1, description="prototypes of its class that a picture counts for at most", json_schema_extra=_PAPER
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="part of a prototype that a step leaves; none: 1 - 20 / steps, at most the paper's 0.999",
        json_schema_extra=because(
            "prototypes begin at random, and have to come to their pictures in a short run too"
        ),
    )
    temperature: float = Field(0.1, gt=0, description="τ of the likelihood", json_schema_extra=_PAPER)
    contrast: Literal["off", "features", "prototypes"] = Field(
        "features",
        description="what the contrast among prototypes moves: the pictures' features, of which prototypes are "
        "moving averages, the prototypes themselves, or nothing",
        json_schema_extra=because("the best mean of the three, though not clearly: docs/palm.md"),
    )
    contrast_weight: float = Field(1.0, ge=0, description="weight of that contrast", json_schema_extra=_PAPER)
    contrast_temperature: float = Field(0.5, gt=0, description="τ of that contrast", json_schema_extra=_PAPER)
    clusters_of: str | None = Field(
        None,
        description="a ProtoCLIP run on the same data, whose picture prototypes are the classes; none: those of "
        "data.class_column",
    )
