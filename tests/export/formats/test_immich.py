"""The folder for Immich's machine-learning service, fed to plain ONNX Runtime as the service does it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tokenizers
import torch
from numpy.typing import NDArray
from PIL import Image
from small_models import SIZES, TEXTS, UNEVEN_SIZES, image_rows, picture, text_rows

from export.formats import immich, normalised_input
from export.formats.converted import Converted
from export.formats.immich import write_immich, write_immich_of_artifact
from export.formats.target import check_new
from protoclip.contract.errors import ConfigError, ModelError, VerdictError
from protoclip.encoders.model import ClipModel, encode_images

NEAR = 1e-5


class Service:
    """One CLIP model of the service's, by what its sources do with the files, in words of our own."""

    def __init__(self, folder: Path) -> None:
        visual, textual = folder / "visual", folder / "textual"
        self.preprocess = json.loads((visual / "preprocess_cfg.json").read_text())
        size = self.preprocess["size"]
        self.size = size[0] if isinstance(size, list) else size
        self.image = onnxruntime.InferenceSession(visual / "model.onnx")
        self.text = onnxruntime.InferenceSession(textual / "model.onnx")
        config = json.loads((folder / "config.json").read_text())["text_cfg"]
        assert (config.get("tokenizer_kwargs") or {}).get("clean") != "canonicalize"
        self.tokenizer = tokenizers.Tokenizer.from_file(str(textual / "tokenizer.json"))
        pad = json.loads((textual / "tokenizer_config.json").read_text())["pad_token"]
        length = config.get("context_length", 77)
        self.tokenizer.enable_padding(length=length, pad_token=pad, pad_id=self.tokenizer.token_to_id(pad))
        self.tokenizer.enable_truncation(max_length=length)

    def of_picture(self, one: Image.Image) -> NDArray[np.float32]:
        one = self.fitted(one.convert("RGB"))
        scale = 1.0 / np.array(self.preprocess["std"], dtype=np.float32)
        values = np.asarray(one, dtype=np.float32) / 255.0 * scale
        values -= np.array(self.preprocess["mean"], dtype=np.float32) * scale
        [row] = self.image.run(None, {"image": values.transpose(2, 0, 1)[None]})[0]
        return row

    def fitted(self, one: Image.Image) -> Image.Image:
        method = Image.Resampling[self.preprocess["interpolation"].upper()]
        if self.preprocess["resize_mode"] == "squash":
            return one.resize((self.size, self.size), method)
        width, height = one.size
        if width < height:
            one = one.resize((self.size, int(height / width * self.size)), method)
        else:
            one = one.resize((int(width / height * self.size), self.size), method)
        left, top = (int(side / 2 - self.size / 2) for side in one.size)
        return one.crop((left, top, left + self.size, top + self.size))

    def of_text(self, text: str) -> NDArray[np.float32]:
        ids = self.tokenizer.encode(" ".join(text.split())).ids
        [row] = self.text.run(None, {"text": np.array([ids], dtype=np.int32)})[0]
        return row


@pytest.fixture(scope="module")
def written(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return write_immich(model, tmp_path_factory.mktemp("immich") / "model")


@pytest.fixture(scope="module")
def folder(written: Converted) -> Path:
    return written.folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Service:
    return Service(folder)


def test_the_layout(folder: Path) -> None:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "config.json",
        "textual/model.onnx",
        "textual/tokenizer.json",
        "textual/tokenizer_config.json",
        "visual/model.onnx",
        "visual/preprocess_cfg.json",
    ]
    check_new(folder, "config.json")  # a second conversion may replace it


def test_the_graphs_take_what_the_service_gives(model: ClipModel, service: Service) -> None:
    [image], [text] = service.image.get_inputs(), service.text.get_inputs()
    side, length = model.pixels.width, model.text.context_length
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, side, side])
    assert (text.name, text.type, text.shape) == ("text", "tensor(int32)", ["batch", length])


def test_pictures(model: ClipModel, service: Service) -> None:
    for size in SIZES:
        one = picture(*size)
        pixels = torch.from_numpy(np.array(service.fitted(one)))[None]
        found = service.of_picture(one)
        np.testing.assert_allclose(found, encode_images(model, pixels)[0], rtol=0, atol=NEAR, err_msg=str(size))
        if model.pixels.resize == "shortest":
            np.testing.assert_allclose(found, image_rows(model, [one])[0], rtol=0, atol=NEAR, err_msg=str(size))
        assert math.isclose(np.linalg.norm(found), 1, abs_tol=1e-5)


def test_grey_pictures(model: ClipModel, service: Service) -> None:
    one = picture(64, 48).convert("L")
    np.testing.assert_allclose(service.of_picture(one), image_rows(model, [one])[0], rtol=0, atol=NEAR)


def test_its_crop_of_some_sizes_begins_a_pixel_earlier(model: ClipModel, service: Service) -> None:
    pictures = [picture(*size) for size in UNEVEN_SIZES]
    found = np.stack([service.of_picture(one) for one in pictures])
    fitted = torch.from_numpy(np.stack([np.asarray(service.fitted(one)) for one in pictures]))
    np.testing.assert_allclose(found, encode_images(model, fitted), rtol=0, atol=NEAR)
    if model.pixels.resize == "shortest":
        assert np.abs(found - image_rows(model, pictures)).max() > 100 * NEAR


def test_texts(model: ClipModel, service: Service) -> None:
    for text, row in zip(TEXTS, text_rows(model, TEXTS), strict=True):
        np.testing.assert_allclose(service.of_text(text), row, rtol=0, atol=NEAR, err_msg=text[:40])


def test_an_artifact_as_source(exported_vit: Any, tmp_path: Path) -> None:
    write_immich_of_artifact(exported_vit.folder, tmp_path / "out")
    service, clip = Service(tmp_path / "out"), exported_vit.clip
    one, texts = picture(64, 48), ("a photo of a cat",)
    np.testing.assert_allclose(service.of_picture(one), image_rows(clip, [one])[0], rtol=0, atol=NEAR)
    np.testing.assert_allclose(service.of_text(texts[0]), text_rows(clip, texts)[0], rtol=0, atol=NEAR)


def test_an_artifact_that_was_changed(exported_vit: Any, tmp_path: Path) -> None:
    shutil.copytree(exported_vit.folder, tmp_path / "artifact")
    (tmp_path / "artifact" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: missing, or not the file that was exported"):
        write_immich_of_artifact(tmp_path / "artifact", tmp_path / "out")


def test_where_it_goes(model: ClipModel, written: Converted) -> None:
    [note] = written.notes
    assert note.startswith(f"embeddings have {model.embedding_dim} dimensions, and the models on Immich's list")


def test_pictures_that_are_padded_are_refused(model: ClipModel, tmp_path: Path) -> None:
    padded = replace(model, pixels=replace(model.pixels, resize="longest"))
    with pytest.raises(ModelError, match="can't be written for Immich, which crops or squashes"):
        write_immich(padded, tmp_path / "out")


def test_nothing_else_is_overwritten(model: ClipModel, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        write_immich(model, tmp_path)


def test_a_graph_that_answers_otherwise_is_not_written(
    exported_vit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = normalised_input._NORMALISING

    def spoilt(source: Path, target: Path, *rest: Any) -> None:
        model = onnx.load(source)
        [std] = [weight for weight in model.graph.initializer if weight.name.endswith("conv1.weight")]
        std.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(std), std.name))
        onnx.save(model, tmp_path / "spoilt.onnx")
        normalised_input.take_normalised(tmp_path / "spoilt.onnx", target, *rest)

    monkeypatch.setattr(immich, "take_normalised", spoilt)
    with pytest.raises(VerdictError, match=r"visual/model\.onnx: differs from image\.onnx by"):
        write_immich_of_artifact(exported_vit.folder, tmp_path / "out")
    monkeypatch.setattr(normalised_input, "_NORMALISING", means[::-1])
    with pytest.raises(ModelError, match="graph doesn't begin with Div, Sub, Div, Transpose, Cast"):
        write_immich_of_artifact(exported_vit.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
