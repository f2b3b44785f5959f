"""Settings as plain values: files, presets and `section.field=value` overrides, before `config` checks them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from protoclip.contract.addresses import url_of
from protoclip.contract.errors import ConfigError

from .catalogue import is_known, known_names, unknown_setting
from .weights_names import is_published


def read_settings(path: Path | None, overrides: Iterable[str] = (), preset: str | None = None) -> dict[str, Any]:
    """The plain values for `load_config`, not validated.

    Raises:
        ConfigError: no such file or preset, bad syntax, an override of no setting, or `finetune` without weights.
    """
    values = _read_file(path) if path is not None else {}
    if path is not None:
        _resolve_paths(values, Path(path).resolve().parent)
    for override in overrides:
        name, value = _split_override(override)
        assign(values, name, value)
    return values if preset is None else _over_preset(values, preset)


def setting_names(overrides: Iterable[str]) -> set[str]:
    """The `section.field` names that overrides set, `none` included."""
    return {_split_override(override)[0] for override in overrides}


def setting_origins(path: Path | None, overrides: Iterable[str] = (), preset: str | None = None) -> dict[str, str]:
    """Where the settings come from that are no defaults: `--set`, the file's path, or the preset; by name.

    Raises:
        ConfigError: as `read_settings`.
    """
    overrides = tuple(overrides)
    names = list(_names(read_settings(path, overrides, preset)))
    by_hand, in_file = setting_names(overrides), set() if path is None else set(_names(_read_file(path)))
    origins = {name: str(path) if name in in_file else f"--preset {preset}" for name in names if is_known(name)}
    return origins | {name: "--set" for name in [*names, *by_hand & known_names()] if _is_within(name, by_hand)}


def _names(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The settings that plain values hold, those inside a section one by one."""
    for field, value in values.items():
        name = prefix + field
        if isinstance(value, dict) and name not in known_names():
            yield from _names(value, f"{name}.")
        else:
            yield name


def _is_within(name: str, others: set[str]) -> bool:
    """Whether one of the others sets it: by its own name, its section, or a part of it."""
    return any(name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in others)


def assign(values: dict[str, Any], name: str, value: Any) -> None:
    """Sets `section.field` in plain values, in place; the text `none` removes it.

    Raises:
        ConfigError: a part of the name before the last is not a section.
    """
    *sections, field = name.split(".")
    for part in sections:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {name}: {part} is not a section")
    if value == "none":
        values.pop(field, None)
    else:
        values[field] = value


def _over_preset(values: dict[str, Any], preset: str) -> dict[str, Any]:
    folder = Path(str(files("protoclip.config") / "presets"))
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if preset not in names:
        raise ConfigError(f"--preset {preset}: there is none of that name: use one of {', '.join(names)}")
    if preset == "finetune" and _section(values, "model").get("weights") is None:
        raise ConfigError(
            "--preset finetune starts from trained weights: name them, "
            "like --set model.name=ViT-B-32 --set model.weights=laion2b_s34b_b79k, or a file"
        )
    merged = _read_file(folder / f"{preset}.toml")
    if {"steps", "passes"} & set(_section(values, "train")):
        merged.get("train", {}).pop("passes", None)
    for section, fields in values.items():
        merged[section] = merged.get(section, {}) | fields if isinstance(fields, dict) else fields
    return merged


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A section's values; anything that is not a section is left to the validation of the whole."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _read_file(path: Path) -> dict[str, Any]:
    is_json = Path(path).suffix == ".json"
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = json.loads(text) if is_json else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid {'JSON' if is_json else 'TOML'}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no sections but a {type(values).__name__}")
    return values


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    for section, field in (("data", "path"), ("teacher", "path"), ("model", "weights"), ("model", "word_vectors")):
        place = values.get(section)
        if not isinstance(place, dict):
            continue
        found = place.get(field)
        if isinstance(found, str):
            place[field] = _from_folder(folder, found, field)
        elif isinstance(found, list):
            place[field] = [_from_folder(folder, str(item), field) for item in found]


def _from_folder(folder: Path, place: str, field: str) -> str:
    """A path from the folder on; an address, and the name of published weights, as they are."""
    as_it_is = url_of(place) is not None or (field == "weights" and is_published(place))
    return place if as_it_is else str(folder / place)


def _split_override(override: str) -> tuple[str, Any]:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise ConfigError(f"--set {override!r}: write it as section.field=value")
    if not is_known(name.strip()):
        raise ConfigError(f"--set {override}: {unknown_setting(name.strip())}")
    return name.strip(), _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
