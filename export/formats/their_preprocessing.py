"""preprocessor_config.json of transformers as open_clip's `preprocess_cfg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protoclip.contract.errors import ModelError

from .json_files import read_json
from .processor_files import RESAMPLE

# transformers 5 writes the first, in which the second is nested.
FILES = ("preprocessor_config.json", "processor_config.json")
_NESTED = "image_processor"


def preprocess_cfg(folder: Path, side: int) -> dict[str, Any]:
    """How the folder's pictures are prepared for an image encoder of `side` pixels.

    Raises:
        ModelError: no such file, or a step that open_clip does not do.
    """
    path, found = _read(folder)
    try:
        for step in ("do_resize", "do_rescale", "do_normalize"):
            _require(found.get(step, True), f"{step} is false")
        factor = float(found.get("rescale_factor", 1 / 255))
        _require(abs(factor * 255 - 1) < 1e-6, f"rescale_factor is {factor}")
        names = {number: name for name, number in RESAMPLE.items()}
        _require(found.get("resample", 3) in names, f"resample is {found.get('resample')}")
        return {
            "size": [side, side],
            "mode": "RGB",
            "mean": [float(value) for value in found["image_mean"]],
            "std": [float(value) for value in found["image_std"]],
            "interpolation": names[found.get("resample", 3)],
            "resize_mode": _resize_mode(found, side),
            "fill_color": 0,
        }
    except KeyError as error:
        raise ModelError(f"{path}: lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: has a value of another kind: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}: open_clip prepares pictures otherwise") from error


def _read(folder: Path) -> tuple[Path, dict[str, Any]]:
    nested = folder / FILES[1]
    if nested.is_file() and isinstance(found := read_json(nested).get(_NESTED), dict):
        return nested, found
    path = folder / FILES[0]
    if not path.is_file():
        raise ModelError(f"{folder}: no {FILES[0]} here, so nothing says how its pictures are prepared")
    return path, read_json(path)


def _resize_mode(found: dict[str, Any], side: int) -> str:
    size, square = found["size"], {"height": side, "width": side}
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crops = found.get("do_center_crop", "crop_size" in found)
    crop = found.get("crop_size", square)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    _require(not crops or _only(crop) == square, f"crop_size is {crop}, and the model takes {side}")
    if _only(size) == square:
        return "squash"
    _require(crops and _only(size) == {"shortest_edge": side}, f"size is {size}, and the model takes {side}")
    return "shortest"


def _only(size: Any) -> dict[str, Any]:
    """Without the names that transformers writes beside with null."""
    return {name: value for name, value in dict(size).items() if value is not None}


def _require(true: object, reason: str) -> None:
    if not true:
        raise ModelError(reason)
