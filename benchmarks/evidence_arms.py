"""What the study varies, and the settings that all arms share."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.config.settings import assign
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

BASELINE = "plain CLIP"


@dataclass(frozen=True)
class Preset:
    """How large the study is: files of the icons, classes, steps of 256, episode m, prototypes K."""

    num_files: int
    num_classes: int
    steps: int
    episode: int
    prototypes: int
    seeds: tuple[int, ...]
    model: str = "protoclip-mini-48"
    learning_rate: float = 2e-3


TINY = "evidence-tiny-32"
_ARCHITECTURE = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 96, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
PRESETS = {
    "smoke": Preset(1, 20, 24, 2048, 32, (0, 1), TINY),
    "pilot": Preset(4, 50, 200, 12_800, 640, (0, 1, 2), TINY),
    "small": Preset(10, 200, 300, 19_200, 960, (0, 1, 2)),
    "choosing": Preset(25, 500, 600, 25_600, 2_560, (0, 1)),
    "study": Preset(25, 500, 1_400, 25_600, 2_560, (0, 1, 2, 3, 4, 5)),
}

_STREAM = {"prototypes.source": "stream"}
ARMS: dict[str, dict[str, Any]] = {
    BASELINE: {"loss.proto_weight": 0.0},
    "extract, once an episode": {"prototypes.source": "extract"},
    "stream, every 25 steps": {**_STREAM, "prototypes.refresh_steps": 25},
    "stream, once an episode": _STREAM,
    "stream, every 50 steps": {**_STREAM, "prototypes.refresh_steps": 50},
    "stream, every 100 steps": {**_STREAM, "prototypes.refresh_steps": 100},
    "stream, every 25 steps, cold start": {
        **_STREAM,
        "prototypes.refresh_steps": 25,
        "clustering.warm_start": False,
    },
    "stream, every 25 steps, momentum 0.5": {
        **_STREAM,
        "prototypes.refresh_steps": 25,
        "prototypes.momentum": 0.5,
    },
    "stream, every 25 steps, heads not decayed, of one start": {
        **_STREAM,
        "prototypes.refresh_steps": 25,
        "optim.head_weight_decay": 0.0,
        "model.head.same_start": True,
    },
}


def add_architecture() -> None:
    """Makes the tiny model's name known to this process."""
    make_torchvision_importable()
    from protoclip.encoders.registry import open_clip

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{TINY}.json"
        path.write_text(json.dumps(_ARCHITECTURE))
        open_clip.add_model_config(path)


def config_of(arm: str, seed: int, preset: Preset, data: Path) -> RunConfig:
    """A run's configuration; arms differ in what `ARMS` says alone."""
    values: dict[str, Any] = {
        "data": {
            "path": [str(data)],
            "text_columns": ["text"],
            "group_column": "text",
            "split_column": "part",
            "train_split": "train",
        },
        "model": {"name": preset.model, "head": {"hidden_dim": 256, "projection_dim": 64}},
        # A mirrored arrow has another name.
        "augmentation": {"crop_scale": [0.6, 1.0], "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0},
        "loss": {"proto_weight": 0.3},
        "episode": {"size": preset.episode},
        "clustering": {"num_prototypes": preset.prototypes, "num_iterations": 10, "num_restarts": 1},
        "optim": {
            "learning_rate": preset.learning_rate,
            "weight_decay": 0.1,
            "warmup_steps": preset.steps // 10,
        },
        "train": {"batch_size": 256, "steps": preset.steps, "num_workers": 0, "seed": seed, "device": "cpu"},
        "validation": {
            "split": "val_concept",
            "every_steps": max(1, preset.steps // 6),
            "max_pairs": 2000,
            "keep": "last",
        },
    }
    for setting, value in ARMS[arm].items():
        assign(values, setting, value)
    return build_config(values, f"arm {arm!r}")
