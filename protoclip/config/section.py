"""What the sections of a run's configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

REASON = "reason"


class Section(BaseModel):
    """Frozen; an unknown field is an error. `RunConfig` holds one section of each kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def because(reason: str) -> JsonDict:
    """`json_schema_extra` of a field: why its default is what it is, for `docs/settings.md`."""
    return {REASON: reason}
