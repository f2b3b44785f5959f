"""A converted folder in transformers and sentence-transformers, their own preprocessing included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from small_models import SIZES, TEXTS, UNEVEN_SIZES, image_rows, picture, small_model, text_rows

from export.formats.transformers_folder import write_transformers
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.pixels import fit, load_pixels
from protoclip.encoders.model import ClipModel, encode_images

NEAR = 1e-5


@pytest.fixture(scope="module")
def folder(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / model.model_name
    write_transformers(model, folder)
    return folder


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from transformers import AutoModel

    loaded, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return loaded.eval()


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, backend="pil")


@torch.no_grad()
def rows(features: Any) -> NDArray[np.float32]:
    return F.normalize(features.pooler_output, dim=-1).numpy()


def prepared(processor: Any, model: ClipModel, texts: tuple[str, ...]) -> Any:
    # As the cards of published CLIP and SigLIP models say.
    padding = "max_length" if model.model_name == "small-siglip" else True
    return processor(text=list(texts), padding=padding, truncation=True, return_tensors="pt")


def test_pictures_in_transformers(model: ClipModel, theirs: Any, processor: Any) -> None:
    pictures = [picture(*size) for size in SIZES]
    found = rows(theirs.get_image_features(**processor(images=pictures, return_tensors="pt")))
    np.testing.assert_allclose(found, expected_rows(model, pictures), rtol=0, atol=NEAR)
    if model.pixels.resize == "shortest":
        np.testing.assert_allclose(found, image_rows(model, pictures), rtol=0, atol=NEAR)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp"])
def test_picture_files(model: ClipModel, theirs: Any, processor: Any, tmp_path: Path, suffix: str) -> None:
    for size in ((640, 480), (333, 500)):
        path = tmp_path / f"{size[0]}.{suffix}"
        picture(*size).save(path)
        with Image.open(path) as one:
            found = rows(theirs.get_image_features(**processor(images=[one], return_tensors="pt")))
            fitted = torch.from_numpy(as_they_fit(one.convert("RGB"), model))[None]
        np.testing.assert_allclose(found, encode_images(model, fitted), rtol=0, atol=NEAR)
        if model.pixels.resize == "shortest":
            ours = torch.from_numpy(load_pixels(path.read_bytes(), model.pixels).copy())[None]
            np.testing.assert_allclose(found, encode_images(model, ours), rtol=0, atol=NEAR)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pictures_of_other_modes(model: ClipModel, theirs: Any, processor: Any, mode: str) -> None:
    one = picture(64, 48).convert(mode)
    found = rows(theirs.get_image_features(**processor(images=[one], return_tensors="pt")))
    np.testing.assert_allclose(found, image_rows(model, [one]), rtol=0, atol=NEAR)


def test_their_crop_of_some_sizes_begins_a_pixel_earlier(model: ClipModel, theirs: Any, processor: Any) -> None:
    """Where the margin is odd they round down, and open_clip to the even side: nothing else differs."""
    pictures = [picture(*size) for size in UNEVEN_SIZES]
    found = rows(theirs.get_image_features(**processor(images=pictures, return_tensors="pt")))
    np.testing.assert_allclose(found, expected_rows(model, pictures), rtol=0, atol=NEAR)
    if model.pixels.resize == "shortest":
        assert np.abs(found - image_rows(model, pictures)).max() > 100 * NEAR


def expected_rows(model: ClipModel, pictures: list[Image.Image]) -> NDArray[np.float32]:
    """Ours for pictures that Pillow resizes in one call, and that are cropped from the left of the middle.

    Pillow 13 shrinks tall pictures vertically first, our two calls always horizontally: some pixels differ by 1.
    """
    pixels = np.stack([as_they_fit(one, model) for one in pictures])
    for one, fitted in zip(pictures, pixels, strict=True):
        if one.size not in UNEVEN_SIZES or model.pixels.resize == "squash":
            # What overshoots is cut off between the two directions.
            levels = 1 if min(one.size) > 2 else 8
            assert np.abs(fitted.astype(int) - np.asarray(fit(one, model.pixels))).max() <= levels, one.size
    return encode_images(model, torch.from_numpy(pixels)).numpy()


def as_they_fit(one: Image.Image, model: ClipModel) -> NDArray[np.uint8]:
    side, short = model.pixels.width, min(one.size)
    method = Image.Resampling[model.pixels.interpolation.upper()]
    if model.pixels.resize == "squash":
        return np.array(one.resize((side, side), method))
    width, height = (side * length // short for length in one.size)
    left, top = (width - side) // 2, (height - side) // 2
    return np.array(one.resize((width, height), method))[top : top + side, left : left + side]


def test_their_default_processor_rounds_pixels_otherwise(model: ClipModel, folder: Path, theirs: Any) -> None:
    from transformers import AutoProcessor

    pictures = [picture(*size) for size in SIZES]
    default = AutoProcessor.from_pretrained(folder)
    assert default.image_processor.backend == "torchvision"
    found = default(images=pictures, return_tensors="pt")["pixel_values"]
    ours = np.stack([np.asarray(fit(one, model.pixels)) for one in pictures]).transpose(0, 3, 1, 2)
    mean, std = (np.array(part).reshape(3, 1, 1) for part in (model.mean, model.std))
    assert np.abs((found.numpy() * std + mean) * 255 - ours).max() < 1.01


def test_texts_in_transformers(model: ClipModel, theirs: Any, processor: Any) -> None:
    found = rows(theirs.get_text_features(**prepared(processor, model, TEXTS)))
    np.testing.assert_allclose(found, text_rows(model, TEXTS), rtol=0, atol=NEAR)


def test_a_text_alone_is_that_of_the_batch(model: ClipModel, theirs: Any, processor: Any) -> None:
    for text, row in zip(TEXTS, text_rows(model, TEXTS), strict=True):
        found = rows(theirs.get_text_features(**prepared(processor, model, (text,))))
        np.testing.assert_allclose(found[0], row, rtol=0, atol=NEAR, err_msg=text[:40])


@torch.no_grad()
def test_logits_are_ours(model: ClipModel, theirs: Any, processor: Any) -> None:
    pictures = [picture(32, 32), picture(64, 48)]
    inputs = prepared(processor, model, TEXTS) | processor(images=pictures, return_tensors="pt")
    cosines = image_rows(model, pictures) @ text_rows(model, TEXTS).T
    bias = model.logit_bias if model.model_name == "small-siglip" else 0.0
    found = theirs(**inputs).logits_per_image.numpy()
    np.testing.assert_allclose(found, cosines * model.temperature + (bias or 0.0), rtol=1e-5, atol=1e-3)


def test_sentence_transformers_loads_it_as_it_is(model: ClipModel, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(folder), device="cpu")
    pictures = [picture(*size) for size in SIZES]
    np.testing.assert_allclose(loaded.encode(pictures), expected_rows(model, pictures), rtol=0, atol=NEAR)
    np.testing.assert_allclose(loaded.encode(list(TEXTS)), text_rows(model, TEXTS), rtol=0, atol=NEAR)
    assert loaded.max_seq_length == model.text.context_length


def test_texts_are_cut_at_the_context_by_infinity_too(model: ClipModel, folder: Path) -> None:
    """It reads `max_length` of the configuration, which in transformers 4 is 20 where the file says nothing."""
    assert json.loads((folder / "config.json").read_text())["max_length"] == model.text.context_length


def test_zero_is_no_special_token(model: ClipModel, processor: Any) -> None:
    """vLLM takes the id 0 for a picture's place in CLIP, and starts only where that means nothing else."""
    assert model.model_name == "small-siglip" or 0 not in processor.tokenizer.all_special_ids


def test_the_class_by_its_own_name(model: ClipModel, folder: Path) -> None:
    import transformers

    siglip = model.model_name == "small-siglip"
    kind = transformers.SiglipModel if siglip else transformers.CLIPModel
    pair = transformers.SiglipProcessor if siglip else transformers.CLIPProcessor
    assert type(transformers.AutoModel.from_pretrained(folder)) is kind
    assert type(transformers.AutoProcessor.from_pretrained(folder)) is pair
    vision = transformers.SiglipVisionModel if siglip else transformers.CLIPVisionModelWithProjection
    _, info = vision.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]


def test_what_they_save_is_what_they_loaded(folder: Path, theirs: Any, processor: Any, tmp_path: Path) -> None:
    """Fine-tuned by them, the folder stays whole."""
    from transformers import AutoProcessor

    theirs.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    for text in TEXTS:
        assert again.tokenizer(text)["input_ids"] == processor.tokenizer(text)["input_ids"], text
    one = picture(48, 64)
    pixels = [each(images=[one], return_tensors="pt")["pixel_values"] for each in (again, processor)]
    assert torch.equal(*pixels)


def changed(config: dict[str, Any], part: str, **fields: object) -> dict[str, Any]:
    return config | {part: config[part] | fields}


@pytest.mark.parametrize(
    ("part", "fields", "reason"),
    [
        ("vision_cfg", {"pool_type": "avg"}, "averages, not by a class token"),
        ("vision_cfg", {"attentional_pool": True}, "pools by attention"),
        ("vision_cfg", {"no_ln_pre": True}, "its image encoder lacks a LayerNorm"),
        ("vision_cfg", {"ls_init_value": 0.1}, "its image encoder has layers of another kind"),
        ("vision_cfg", {"qk_norm": True}, "its image encoder has layers of another kind"),
        ("vision_cfg", {"image_size": [32, 64]}, "takes 32 x 64, and the format squares only"),
        ("vision_cfg", {"timm_model_name": "test_vit"}, "is timm's VisionTransformer, not open_clip's plain ViT"),
        (
            "vision_cfg",
            {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
            "is open_clip's ModifiedResNet, not",
        ),
        ("text_cfg", {"no_causal_mask": True}, "its text encoder has no causal mask"),
        ("text_cfg", {"pool_type": "first"}, "takes the first token, and CLIPModel that of the text's end"),
        ("text_cfg", {"pool_type": "eos", "eos_id": 320}, "takes the token 320 .*, and its .* end in 49407"),
        ("text_cfg", {"proj_bias": True}, "ends in no projection, or in one with a bias"),
        ("text_cfg", {"embed_cls": True}, "has a class token or masks its padding"),
    ],
)
def test_what_clip_model_can_not_compute_is_refused(
    model_names: tuple[str, ...], tmp_path: Path, part: str, fields: dict[str, object], reason: str
) -> None:
    import open_clip
    from small_models import MODELS

    from export.graphs.source import load_source

    (tmp_path / "small-other.json").write_text(json.dumps(changed(MODELS["small-custom"], part, **fields)))
    open_clip.add_model_config(tmp_path / "small-other.json")
    clip = load_source("small-other").clip
    with pytest.raises(
        ModelError, match=f"small-other: can't be written for transformers as a CLIPModel: .*{reason}"
    ):
        write_transformers(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_padded_are_refused(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path
) -> None:
    clip = small_model("small-clip", siglip_words)
    clip = replace(clip, pixels=replace(clip.pixels, resize="longest"))
    with pytest.raises(ModelError, match="its pictures are padded to squares"):
        write_transformers(clip, tmp_path / "out")


def test_padding_that_is_a_word_is_refused(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path
) -> None:
    clip = small_model("small-siglip", siglip_words)
    words = json.loads(clip.tokenizer_json)
    words["added_tokens"] = [token for token in words["added_tokens"] if token["content"] != "</s>"]
    with pytest.raises(ModelError, match="padded with '</s>', which its text encoder sees"):
        write_transformers(replace(clip, tokenizer_json=json.dumps(words)), tmp_path / "out")


def test_what_the_format_can_not_say_is_said(
    model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path
) -> None:
    clip = small_model("small-clip", siglip_words)
    assert write_transformers(clip, tmp_path / "plain").notes == ()
    clip.module.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    clip = replace(clip, logit_bias=-10.0, pixels=replace(clip.pixels, color_management="srgb"))
    bias, colors = write_transformers(clip, tmp_path / "noted").notes
    assert "logit_bias -10 is left out" in bias
    assert "ignores colour profiles" in colors


def test_nothing_else_is_overwritten(model_names: tuple[str, ...], siglip_words: Path, tmp_path: Path) -> None:
    clip = small_model("small-clip", siglip_words)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="holds something else than a converted model"):
        write_transformers(clip, tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        write_transformers(clip, tmp_path / "photo.jpg")
    write_transformers(clip, tmp_path / "new")
    write_transformers(clip, tmp_path / "new")
