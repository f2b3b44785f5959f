"""What a run over many items is to write: which items, in which parts, by which model. `N` items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import ConfigError, DataError
from protoclip.contract.first_fault import first_fault


class Items(Protocol):
    """`N` pictures or texts in an order that is the same each time they are listed."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What people call it."""

    def item(self, row: int) -> Any:
        """What the client takes."""

    def reason(self, row: int) -> str | None:
        """Why it can't be read, where that is known before it is tried."""


class Plan(BaseModel):
    """The contents of `_plan.json`: a run that goes on has to have the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    contents: Literal["embeddings", "classifications"] = Field(description="which table the parts hold")
    model: str = Field(description="prefix of the model, such as emoji_ab12cd")
    fingerprint: str = Field(description="of that model")
    num_items: int = Field(gt=0)
    items_sha256: str = Field(description="over their names, in order")
    files_sha256: str = Field(default="", description="over what is known of the files that they are in")
    part_size: int = Field(gt=0, description="items of a part; the last one may have fewer")
    settings: dict[str, str | int | float | bool | None] = Field(default={}, description="what else decides")

    @property
    def num_parts(self) -> int:
        """Parts of the whole."""
        return -(-self.num_items // self.part_size)

    def rows(self, part: int) -> range:
        """Which items are in a part."""
        return range(part * self.part_size, min((part + 1) * self.part_size, self.num_items))

    def check_same(self, other: Plan, where: str) -> None:
        """Raises ConfigError where the run at `where`, which has the plan `other`, is not this one."""
        # Settings before what follows from them.
        for name in ("contents", "model", "fingerprint", "part_size", "settings", *_OF_ITEMS):
            before, now = getattr(other, name), getattr(self, name)
            if before != now:
                changed = _SAID.get(name, f"{name}={before}, and now it is {now}")
                if name == "settings":
                    changed = f"other {_first_difference(before, now)}"
                raise ConfigError(
                    f"{where}: was begun with {changed}: to go on, ask for the same; to begin anew, remove it or "
                    "give another --out"
                )


_OF_ITEMS = ("num_items", "items_sha256", "files_sha256")
_SAID = {
    "items_sha256": "items of other names",
    "files_sha256": "other contents: a picture, a table or an archive has changed since",
}


def items_digest(items: Items) -> str:
    """Hexadecimal SHA-256 over the names of all items."""
    return digest_of(items.name(row) for row in range(len(items)))


def digest_of(texts: Iterable[str]) -> str:
    """Hexadecimal SHA-256 over texts in their order, which names of any bytes may be."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogateescape")
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()


def read_plan(data: bytes, where: str) -> Plan:
    """The plan in the bytes of a `_plan.json`; DataError where they hold none."""
    try:
        return Plan.model_validate_json(data)
    except ValidationError as error:
        raise DataError(f"{where}: {first_fault(error)}: remove the folder to begin anew") from None


def check_some(items: Items, what: str) -> None:
    """Raises DataError where there is none."""
    if not len(items):
        raise DataError(f"there is nothing to do: no {what} was found")


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    name = next(name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name))
    if name.endswith("_sha256"):
        return name.removesuffix("_sha256")
    return f"{name.replace('_', ' ')}: {before.get(name)} before, and now {now.get(name)}"
