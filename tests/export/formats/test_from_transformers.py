"""Folders that transformers wrote, read into open_clip's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from small_models import SIZES, TEXTS, image_rows, picture, small_model, text_rows

from export.formats.from_transformers import read_transformers
from export.formats.their_config import clip_model_cfg, describe
from export.formats.transformers_folder import write_transformers
from export.graphs.source import load_source
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.text import Tokenizer
from protoclip.encoders import tokenizer_lookup
from protoclip.encoders.model import ClipModel, create_module
from protoclip.encoders.registry import register_architectures

NEAR = 1e-5


@pytest.fixture
def converted(model: ClipModel, tmp_path: Path) -> Path:
    write_transformers(model, tmp_path / "hf")
    return tmp_path / "hf"


def test_there_and_back(model: ClipModel, converted: Path, tmp_path: Path) -> None:
    found = read_transformers(converted, tmp_path / "back")
    assert found.kind == "folder of open_clip's"
    source = load_source(tmp_path / "back")
    assert not source.random_weights
    back = source.clip
    ours, state = model.module.state_dict(), back.module.state_dict()
    names = {name.removeprefix("text.") for name in ours}
    assert {name.removeprefix("text.") for name in state} == names
    for name, tensor in ours.items():
        there = name if name in state else name.removeprefix("text.")
        assert torch.equal(state[there], tensor), name
    assert (back.pixels, back.temperature, back.logit_bias) == (model.pixels, model.temperature, model.logit_bias)
    np.testing.assert_allclose((back.mean, back.std), (model.mean, model.std))
    ids = [Tokenizer(each.tokenizer_json, each.text).encode(TEXTS) for each in (model, back)]
    np.testing.assert_array_equal(*ids)
    pictures = [picture(*size) for size in SIZES]
    np.testing.assert_allclose(image_rows(back, pictures), image_rows(model, pictures), rtol=0, atol=NEAR)
    np.testing.assert_allclose(text_rows(back, TEXTS), text_rows(model, TEXTS), rtol=0, atol=NEAR)


def test_its_tokenizer_without_transformers(
    model: ClipModel, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_transformers(converted, tmp_path / "back")
    monkeypatch.setattr(tokenizer_lookup, "_has_transformers", lambda: False)
    back = load_source(tmp_path / "back").clip
    ids = [Tokenizer(each.tokenizer_json, each.text).encode(TEXTS) for each in (model, back)]
    np.testing.assert_array_equal(*ids)


def test_open_clip_loads_it_by_itself(model: ClipModel, converted: Path, tmp_path: Path) -> None:
    import open_clip

    read_transformers(converted, tmp_path / "back")
    module, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'back'}")
    one = picture(64, 48)
    with torch.no_grad():
        rows = F.normalize(module.eval().encode_image(preprocess(one)[None]), dim=-1).numpy()
        ids = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'back'}")(["a photo of a cat"])
        texts = F.normalize(module.encode_text(ids), dim=-1).numpy()
    np.testing.assert_allclose(rows, image_rows(model, [one]), rtol=0, atol=NEAR)
    np.testing.assert_allclose(texts, text_rows(model, ("a photo of a cat",)), rtol=0, atol=NEAR)


@pytest.fixture(scope="module")
def saved(model_names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers writes of a CLIPModel with the words of the published ones, most settings left out."""
    import transformers
    from open_clip.tokenizer import SimpleTokenizer

    folder = tmp_path_factory.mktemp("saved")
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        text_config={**sizes, "max_position_embeddings": 16},
        projection_dim=24,
    )
    torch.manual_seed(2)
    transformers.CLIPModel(config).save_pretrained(folder)
    simple = SimpleTokenizer()
    named = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {named.get(word, word): number for word, number in simple.encoder.items()}
    merges = [pair for pair in sorted(simple.bpe_ranks, key=simple.bpe_ranks.get) if len(pair) == 2]
    transformers.CLIPTokenizer(vocab=words, merges=merges, model_max_length=16).save_pretrained(folder)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessorPil(**sides).save_pretrained(folder)
    return folder


@torch.no_grad()
def test_what_transformers_wrote(saved: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    found = read_transformers(saved, tmp_path / "out")
    assert found.notes == ("open_clip has no architecture like it: it can be exported, but not trained by name",)
    clip, theirs = load_source(tmp_path / "out").clip, CLIPModel.from_pretrained(saved).eval()
    assert clip.text.cleaner == "lower"
    pixels = torch.randn(3, 3, 32, 32)
    rows = theirs.get_image_features(pixel_values=pixels).pooler_output
    np.testing.assert_allclose(clip.module.encode_image(pixels), rows, rtol=0, atol=NEAR)  # type: ignore[operator]
    texts = ["a photo of a cat", "A Dog!", "漢字", "1234 it's"]
    inputs = CLIPTokenizer.from_pretrained(saved)(texts, padding=True, return_tensors="pt")
    expected = F.normalize(theirs.get_text_features(**inputs).pooler_output, dim=-1)
    np.testing.assert_allclose(text_rows(clip, tuple(texts)), expected, rtol=0, atol=NEAR)


def test_training_begins_with_it_by_name(model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path) -> None:
    write_transformers(small_model("small-clip", siglip_words), tmp_path / "hf")
    out = tmp_path / "back"
    assert read_transformers(tmp_path / "hf", out).notes == (
        f'training begins with it by model.name="small-clip" and model.weights="{out}"',
    )
    module = create_module("small-clip", out)
    for name, tensor in load_file(out / "model.safetensors").items():
        assert torch.equal(module.state_dict()[name], tensor), name


def as_torch_file(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")


def as_shards(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    parts = {"a.safetensors": sorted(state)[::2], "b.safetensors": sorted(state)[1::2]}
    for file, names in parts.items():
        save_file({name: state[name] for name in names}, folder / file)
    places = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("rewrite", [as_torch_file, as_shards])
def test_other_files_of_weights(saved: Path, tmp_path: Path, rewrite: Callable[[Path], None]) -> None:
    folder = shutil.copytree(saved, tmp_path / "hf")
    rewrite(folder)
    (folder / "model.safetensors").unlink()
    read_transformers(saved, tmp_path / "one")
    read_transformers(folder, tmp_path / "other")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def edited(path: Path, **fields: object) -> None:
    content = json.loads(path.read_text())
    for name, value in fields.items():
        *parts, last = name.split("__")
        place: Any = content
        for part in parts:
            place = place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "fields", "reason"),
    [
        ("config.json", {"model_type": "blip"}, "model_type is 'blip': CLIPModel"),
        (
            "config.json",
            {"vision_config__hidden_act": "gelu"},
            "one tower computes quick_gelu and the other does not",
        ),
        (
            "config.json",
            {"vision_config__hidden_act": "relu", "text_config__hidden_act": "relu"},
            "hidden_act='relu'",
        ),
        ("config.json", {"vision_config__image_size": [32, 64]}, "takes 32 x 64"),
        (
            "config.json",
            {"text_config__num_hidden_layers": 3},
            "the weight text_model.encoder.layers.2.*is missing",
        ),
        ("config.json", {"text_config__num_hidden_layers": 1}, "belongs to no CLIPModel"),
        ("config.json", {"projection_dim": 12}, "visual_projection.weight: is .24, 32.*, and the model"),
        ("config.json", {"text_config__eos_token_id": [1, 2]}, "eos_token_id is .1, 2.: it must be one number"),
        ("config.json", {"text_config__eos_token_id": 320}, "eos_token_id is 320, and .*texts end in 49407"),
        ("config.json", {"projection_dim": "24"}, "projection_dim is '24': it must be a whole number above 0"),
        ("config.json", {"model_type": ["clip"]}, "model_type is .'clip'."),
        ("config.json", {"vision_config__hidden_size": "32"}, "vision_config.hidden_size is '32'"),
        ("config.json", {"text_config__num_attention_heads": 0}, "text_config.num_attention_heads is 0"),
        ("config.json", {"text_config__layer_norm_eps": "x"}, "text_config.layer_norm_eps is 'x'"),
        ("config.json", {"vision_config__image_size": [32, 32, 32]}, "vision_config.image_size is .32, 32, 32"),
        ("processor_config.json", {"image_processor__do_normalize": False}, "do_normalize is false"),
        ("processor_config.json", {"image_processor__resample": 1}, "resample is 1"),
        ("processor_config.json", {"image_processor__size": {"shortest_edge": 36}}, "size is .*36.*takes 32"),
        (
            "processor_config.json",
            {"image_processor__crop_size": {"height": 24, "width": 24}},
            "crop_size is .*24",
        ),
        (
            "processor_config.json",
            {"image_processor__image_mean": None},
            "processor_config.json: lacks image_mean",
        ),
    ],
)
def test_what_open_clip_can_not_compute_is_refused(
    model_names: tuple[str, ...],
    siglip_words: Path,
    tmp_path: Path,
    file: str,
    fields: dict[str, object],
    reason: str,
) -> None:
    folder = saved_again(small_model("small-clip", siglip_words), tmp_path / "hf")
    edited(folder / file, **fields)
    with pytest.raises(ModelError, match=reason) as caught:
        read_transformers(folder, tmp_path / "out")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_width_that_its_ratio_gives_one_too_narrow() -> None:
    assert int(11 * (15 / 11)) == 14
    sizes = {"hidden_size": 11, "intermediate_size": 15, "num_attention_heads": 1}
    found = describe({"model_type": "clip", "text_config": sizes, "vision_config": sizes})
    ratio = clip_model_cfg(found)["text_cfg"]["mlp_ratio"]
    assert int(11 * ratio) == 15


def saved_again(clip: ClipModel, folder: Path) -> Path:
    """With the picture processor nested, as transformers 5 writes it."""
    write_transformers(clip, folder)
    picture_processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": picture_processor}))
    (folder / "preprocessor_config.json").unlink()
    return folder


def test_an_end_that_is_not_the_last_word(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path
) -> None:
    """CLIPModel and open_clip both look for its number; there and back, with another tokenizer than CLIP's."""
    from transformers import AutoTokenizer, CLIPModel

    clip = small_model("small-clip", siglip_words)
    folder = write_transformers(clip, tmp_path / "hf").folder
    words = json.loads(siglip_words.read_text())
    (folder / "tokenizer.json").write_text(json.dumps(words | {"padding": None, "truncation": None}))
    names = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "bos_token": None}
    edited(folder / "tokenizer_config.json", **names)
    edited(folder / "config.json", text_config__eos_token_id=1)
    read_transformers(folder, tmp_path / "back")
    back = load_source(tmp_path / "back").clip
    write_transformers(back, tmp_path / "again")
    texts = ["a photo of a cat", "hello"]
    inputs = AutoTokenizer.from_pretrained(tmp_path / "again")(texts, padding=True, return_tensors="pt")
    theirs = CLIPModel.from_pretrained(tmp_path / "again").eval()
    with torch.no_grad():
        rows = F.normalize(theirs.get_text_features(**inputs).pooler_output, dim=-1)
    np.testing.assert_allclose(text_rows(back, tuple(texts)), rows, rtol=0, atol=NEAR)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json"])
def test_a_file_that_is_missing_or_damaged(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path, file: str
) -> None:
    folder = saved_again(small_model("small-clip", siglip_words), tmp_path / "hf")
    (folder / file).write_bytes(b"{")
    with pytest.raises(ModelError, match=str(folder)) as caught:
        read_transformers(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    (folder / file).unlink()
    with pytest.raises(ModelError, match=f"{folder}.*: no "):
        read_transformers(folder, tmp_path / "out")


@torch.no_grad()
@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh"])
def test_siglip_computes_the_activation_of_its_configuration(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path, act: str
) -> None:
    from transformers import SiglipModel

    write_transformers(small_model("small-siglip", siglip_words), tmp_path / "hf")
    edited(tmp_path / "hf" / "config.json", vision_config__hidden_act=act)
    *notes, _ = read_transformers(tmp_path / "hf", tmp_path / "out").notes
    module = load_source(tmp_path / "out").clip.module
    pixels, ids = torch.randn(3, 3, 32, 32), torch.randint(2, 300, (4, 16))
    rows = {}
    for name in ("gelu", "gelu_pytorch_tanh"):
        edited(tmp_path / "hf" / "config.json", vision_config__hidden_act=name)
        theirs = SiglipModel.from_pretrained(tmp_path / "hf").eval()
        rows[name] = theirs.get_image_features(pixel_values=pixels).pooler_output
    assert np.abs(rows["gelu"] - rows["gelu_pytorch_tanh"]).max() > 3 * NEAR
    np.testing.assert_allclose(module.encode_image(pixels), rows[act], rtol=0, atol=NEAR)  # type: ignore[operator]
    expected = theirs.get_text_features(input_ids=ids).pooler_output
    np.testing.assert_allclose(module.encode_text(ids), expected, rtol=0, atol=NEAR)  # type: ignore[operator]
    assert [note.split(",")[0] for note in notes] == (
        ["the image encoder computes gelu_pytorch_tanh"] if act == "gelu_pytorch_tanh" else []
    )
    again = write_transformers(load_source(tmp_path / "out").clip, tmp_path / "again").folder
    assert json.loads((again / "config.json").read_text())["vision_config"]["hidden_act"] == act


def test_a_siglip_that_timm_does_not_build_is_refused(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path
) -> None:
    write_transformers(small_model("small-siglip", siglip_words), tmp_path / "hf")
    edited(tmp_path / "hf" / "config.json", vision_config__hidden_act="relu")
    with pytest.raises(ModelError, match="hidden_act is 'relu', and timm's SigLIP of these sizes computes gelu, "):
        read_transformers(tmp_path / "hf", tmp_path / "out")
    edited(tmp_path / "hf" / "config.json", vision_config__num_attention_heads=4)
    with pytest.raises(ModelError, match="timm has no SigLIP of these sizes"):
        read_transformers(tmp_path / "hf", tmp_path / "out")


def test_the_published_sizes_have_both_activations_in_timm() -> None:
    with torch.device("meta"):
        for name, act in {"": "GELU", "tanh_": "GELUTanh"}.items():
            register_architectures()
            trunk = timm.create_model(f"vit_base_patch16_siglip_{name}224", num_classes=0, global_pool="map")
            found = {type(block.mlp.act).__name__ for block in trunk.blocks} | {
                type(trunk.attn_pool.mlp.act).__name__
            }
            assert found == {act}


def test_nothing_else_is_overwritten(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        read_transformers(saved, tmp_path)
