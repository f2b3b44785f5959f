"""Types of settings' values, with their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _from_small_to_large(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"{list(value)}: the smaller number comes first")
    return value


DeviceName = Literal["auto", "cpu", "cuda"]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_from_small_to_large)]
Strength = Annotated[float, Field(ge=0)]
Hue = Annotated[float, Field(ge=0, le=0.5)]
Beta = Annotated[float, Field(ge=0, lt=1)]
