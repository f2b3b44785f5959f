"""What the study varies, and the settings that all arms share."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from protoclip.config.load import build_config
from protoclip.config.schema import RunConfig
from protoclip.config.settings import assign
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

BASELINE = "plain CLIP"
LONG = "plain CLIP, three times the steps"
_SIGLIP = "-siglip"


@dataclass(frozen=True)
class Preset:
    """How large the study is: corpus, steps of 256, episode m, prototypes K, seeds; of icons, files and classes.

    The first of `arms` after plain CLIP are what a call without --arms runs.
    """

    corpus: Literal["icons", "bundled"]
    steps: int
    episode: int
    prototypes: int
    seeds: tuple[int, ...]
    model: str = "protoclip-mini-48"
    learning_rate: float = 2e-3
    num_files: int = 0
    num_classes: int = 0
    arms: tuple[str, ...] = ("extract, once an episode", "stream, every 25 steps")

    def digest(self, arm: str) -> str:
        """Of all that this study sets; what was measured under another one is not gone on with."""
        given = {**asdict(self), "seeds": None, "arms": None, "arm": _without_paths(ALL_ARMS[arm])}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    return {name: Path(value).name if name.endswith(".path") else value for name, value in values.items()}


TINY, TINY_WORDS = "evidence-tiny-32", "evidence-tiny-32-words"
_VISION = {"image_size": 32, "patch_size": 8, "width": 96, "layers": 2, "head_width": 32}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    TINY: {
        "embed_dim": 64,
        "vision_cfg": _VISION,
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    },
    # As wide as the word vectors.
    TINY_WORDS: {
        "embed_dim": 64,
        "vision_cfg": _VISION,
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 1},
    },
}
_FRESH_ALONE = ("stream, every 25 steps",)
_SIX = (0, 1, 2, 3, 4, 5)
_STREAM = {"prototypes.source": "stream"}
_FRESH = {**_STREAM, "prototypes.refresh_steps": 25}
_SIGMOID = {"loss.alignment": "sigmoid"}
BUNDLED_CORPUS = Path(str(files("protoclip") / "demo" / "corpus"))
_TEACHER = {
    "teacher.path": str(BUNDLED_CORPUS / "teacher" / "minilm_pca64.parquet"),
    "teacher.key_column": "concept",
    "teacher.num_prototypes": 300,
}
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
    "stream, every 25 steps, K = m/40": {**_FRESH, "clustering.num_prototypes": "m/40"},
    "stream, every 25 steps, weight 0.1": {**_FRESH, "loss.proto_weight": 0.1},
    "stream, every 25 steps, weight 1": {**_FRESH, "loss.proto_weight": 1.0},
    "stream, every 25 steps, targets' temperature 0.05": {**_FRESH, "loss.target_temperature": 0.05},
    "stream, every 25 steps, hard targets": {**_FRESH, "loss.target_temperature": 0.0},
    "stream, every 25 steps, momentum 0.9": {**_FRESH, "prototypes.momentum": 0.9},
    "stream, every 25 steps, trained rows, one iteration": {
        **_FRESH,
        "prototypes.refresh_rows": "trained",
        "clustering.warm_iterations": 1,
    },
    "stream, every 25 steps, heads of one layer": {**_FRESH, "model.head.num_layers": 1},
    # For the learning curve alone: how many steps plain CLIP needs for what another arm has.
    LONG: {"loss.proto_weight": 0.0, "train.steps": "3x"},
    "SigLIP": {**_SIGMOID, "loss.proto_weight": 0.0},
    "SigLIP, stream, every 25 steps": {**_SIGMOID, **_FRESH},
}
# MiniLM's features of the bundled corpus' texts: no such file is kept of the icons.
TEACHER_ARMS: dict[str, dict[str, Any]] = {
    f"{name}, teacher's weight {weight:g}": {**ARMS[name], "loss.external_weight": weight, **_TEACHER}
    for name in (BASELINE, "extract, once an episode", "stream, every 25 steps")
    for weight in (0.1, 0.4, 1.0)
}
ALL_ARMS = {**ARMS, **TEACHER_ARMS}
_CHOOSING = tuple(arm for arm in ARMS if arm not in (BASELINE, LONG) and not arm.startswith("SigLIP"))
_FINAL = ("extract, once an episode", "stream, every 25 steps", "SigLIP", "SigLIP, stream, every 25 steps", LONG)
_TAUGHT = tuple(f"{name}, teacher's weight 0.4" for name in (BASELINE, *_FINAL[:2]))


PRESETS = {
    "smoke": Preset("icons", 24, 2048, 32, (0, 1), TINY, num_files=1, num_classes=20),
    "pilot": Preset("icons", 200, 12_800, 640, (0, 1, 2), TINY, num_files=4, num_classes=50),
    "small": Preset("icons", 300, 19_200, 960, _SIX, num_files=10, num_classes=200),
    "choosing": Preset("icons", 600, 25_600, 2_560, (0, 1), num_files=25, num_classes=500, arms=_CHOOSING),
    "study": Preset("icons", 1_400, 25_600, 2_560, _SIX, num_files=25, num_classes=500, arms=_FINAL),
    "bundled-smoke": Preset("bundled", 40, 200_000, 300, (0, 1), TINY_WORDS, 1e-3),
    "bundled-small": Preset("bundled", 200, 200_000, 300, _SIX, TINY_WORDS, 1e-3, arms=_FRESH_ALONE),
    "bundled-choosing": Preset(
        "bundled", 1_150, 200_000, 300, (0, 1), learning_rate=4e-3, arms=(*_CHOOSING, *TEACHER_ARMS)
    ),
    "bundled": Preset("bundled", 1_150, 200_000, 300, _SIX, learning_rate=4e-3, arms=(*_FINAL, *_TAUGHT)),
}


def add_architecture() -> None:
    """Makes the tiny models, and each model with a logit bias for SigLIP, known to this process."""
    make_torchvision_importable()
    from protoclip.encoders.registry import model_config, open_clip

    models = {preset.model for preset in PRESETS.values()} - set(_ARCHITECTURES)
    known = {model: model_config(model) for model in models}
    with tempfile.TemporaryDirectory() as folder:
        for name, architecture in (known | _ARCHITECTURES).items():
            for ending, bias in (("", {}), (_SIGLIP, {"init_logit_bias": -10.0})):
                path = Path(folder) / f"{name}{ending}.json"
                path.write_text(json.dumps({**architecture, **bias}))
                if ending or name in _ARCHITECTURES:
                    open_clip.add_model_config(path)


def steps_of(arm: str, preset: Preset) -> int:
    """Of 256 pairs."""
    return preset.steps * (3 if arm == LONG else 1)


def config_of(arm: str, seed: int, preset: Preset, data: Path, *, whole: bool = False) -> RunConfig:
    """A run's configuration; arms differ in what `ALL_ARMS` says alone.

    Args:
        whole: for the test cells: trained on the whole training cell, validation parts included, without
            validation.
    """
    values = _shared(preset, data)
    values["train"]["seed"] = seed
    meant = {"m/40": max(2, preset.prototypes // 4), "3x": steps_of(arm, preset)}
    for setting, value in ALL_ARMS[arm].items():
        assign(values, setting, meant.get(value, value) if isinstance(value, str) else value)
    if whole:
        values["data"]["split_column"] = "split"
        values["validation"] = {"keep": "last"}
    if values["loss"].get("alignment") == "sigmoid":
        values["model"]["name"] += _SIGLIP
    return build_config(values, f"arm {arm!r}")


def _shared(preset: Preset, data: Path) -> dict[str, Any]:
    is_bundled = preset.corpus == "bundled"
    # A mirrored arrow has another name.
    augmentation = {"crop_scale": [0.6, 1.0], "jitter": 0.0, "grey": 0.0, "blur": 0.0}
    return {
        "data": {
            "path": [str(data)],
            "text_columns": ["label", "label", "label", "texts"] if is_bundled else ["text"],
            "group_column": "concept" if is_bundled else "text",
            "split_column": "part",
            "train_split": "train",
        },
        "model": {"name": preset.model, "head": {"hidden_dim": 256, "projection_dim": 64}}
        | ({"word_vectors": str(BUNDLED_CORPUS / "teacher" / "minilm_words128.parquet")} if is_bundled else {}),
        "augmentation": augmentation | ({} if is_bundled else {"flip": 0.0}),
        "loss": {"proto_weight": 0.3} | ({"max_scale": 20.0} if is_bundled else {}),
        "episode": {"size": preset.episode},
        "clustering": {"num_prototypes": preset.prototypes, "num_iterations": 10, "num_restarts": 1},
        "optim": {
            "learning_rate": preset.learning_rate,
            "weight_decay": 0.1,
            "warmup_steps": preset.steps // 10,
        },
        "train": {"batch_size": 256, "steps": preset.steps, "num_workers": 0, "device": "cpu"},
        "validation": {
            "split": "val_concept",
            "every_steps": max(1, preset.steps // 6),
            "max_pairs": 2000,
            "keep": "last",
        },
    }
