"""The small models, known to open_clip and timm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_models import MODELS, TEXTS, small_model
from timm.models import register_model
from timm.models._registry import _model_entrypoints, _module_to_models
from timm.models.vision_transformer import VisionTransformer

from protoclip.encoders.model import ClipModel


@pytest.fixture(scope="session")
def model_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The models, known to open_clip and timm for as long."""
    import open_clip

    @register_model
    def vit_test_patch8_siglip_32(pretrained: bool = False, **settings: object) -> VisionTransformer:
        settings = {name: value for name, value in settings.items() if not name.startswith("pretrained_cfg")}
        settings.pop("cache_dir", None)
        shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
        return VisionTransformer(**shape, class_token=False, **{"global_pool": "map", **settings})  # type: ignore[arg-type]

    folder = tmp_path_factory.mktemp("architectures")
    for name, config in MODELS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    yield tuple(MODELS)
    for name in ("vit_test_patch8_siglip_32", "vit_test_patch8_siglip_tanh_32"):
        _model_entrypoints.pop(name, None)
        for models in _module_to_models.values():
            models.discard(name)


@pytest.fixture(scope="session")
def siglip_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json as SigLIP's is: pieces of words, and an end that is the padding as well."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    fast = Tokenizer(models.Unigram())
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
    fast.train_from_iterator([text.lower() for text in TEXTS] * 3, trainer)
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.enable_padding(pad_id=1, pad_token="</s>", length=16)
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    fast.save(str(path))
    return path


@pytest.fixture(scope="session", params=sorted(MODELS))
def model(request: pytest.FixtureRequest, model_names: tuple[str, ...], siglip_words: Path) -> ClipModel:
    """Each of the models; nobody may change it."""
    return small_model(request.param, siglip_words)
