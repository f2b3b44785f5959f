"""What sentence-transformers reads beside the model: its modules, and how they call it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from .clip_model import KIND as CLIP
from .json_files import write_json

# By its name of earlier versions, which the present one takes as well.
_CLIP_MODULE = "sentence_transformers.models.CLIPModel"
_MODULE = "sentence_transformers.base.modules.transformer.Transformer"
_NORMALIZE = "sentence_transformers.models.Normalize"


def write_sentence_transformers(folder: Path, kind: str, context_length: int) -> None:
    """Writes modules.json and its modules' settings, so that `SentenceTransformer(folder)` gives our rows."""
    modules = [(_CLIP_MODULE if kind == CLIP else _MODULE, ""), (_NORMALIZE, "1_Normalize")]
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": module}
        for index, (module, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    (folder / "1_Normalize").mkdir()
    write_json(folder / "1_Normalize" / "config.json", {})
    write_json(
        folder / "config_sentence_transformers.json",
        {"similarity_fn_name": "cosine", "__version__": {"protoclip": version("protoclip")}},
    )
    write_json(folder / "sentence_bert_config.json", _settings(kind, context_length))


def _settings(kind: str, context_length: int) -> dict[str, Any]:
    text = {"padding": "max_length", "truncation": True, "max_length": context_length}
    # Pillow resizes as our pictures are resized; torchvision, the default where it is installed, rounds otherwise.
    settings: dict[str, Any] = {"processor_kwargs": {"backend": "pil"}, "processing_kwargs": {"text": text}}
    if kind != CLIP:
        settings["modality_config"] = {
            name: {"method": f"get_{name}_features", "method_output_name": "pooler_output"}
            for name in ("text", "image")
        }
        settings["module_output_name"] = "sentence_embedding"
    return settings
