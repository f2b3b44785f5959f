"""The ONNX files: signature, opset, metadata, external weights, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.graphs.runtime import open_encoder
from export.graphs.to_onnx import IMAGE, TEXT, Signature, write_onnx
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.encoders.model import encode_images

BORDER = Signature("small.onnx", "pixels", "image_embedding")
EXAMPLE = torch.zeros((2, 4), dtype=torch.float32)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.linear.weight = nn.Parameter(torch.arange(12.0).view(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x[:, None] * x[:, :, None]).real


def test_signature_is_as_the_contract_says(exported: Any) -> None:
    clip, folder = exported.clip, exported.folder
    image, text = onnx.load(folder / "onnx_fp32" / "image.onnx"), onnx.load(folder / "onnx_fp32" / "text.onnx")
    size, dim = [clip.pixels.height, clip.pixels.width, 3], clip.embedding_dim
    assert _signature(image.graph.input) == [("pixels", onnx.TensorProto.UINT8, ["batch", *size])]
    assert _signature(image.graph.output) == [("image_embedding", onnx.TensorProto.FLOAT, ["batch", dim])]
    assert _signature(text.graph.input) == [("tokens", onnx.TensorProto.INT32, ["batch", 16])]
    assert _signature(text.graph.output) == [("text_embedding", onnx.TensorProto.FLOAT, ["batch", dim])]


def test_files_load_in_older_runtimes_and_say_what_they_are(exported: Any) -> None:
    for file in ("image.onnx", "text.onnx"):
        model = onnx.load(exported.folder / "onnx_fp32" / file)
        assert model.ir_version == exported.manifest.ir_version <= 10
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["fingerprint"] == exported.manifest.fingerprint
        assert metadata["model"] == exported.clip.source
        assert metadata["producer"].startswith("protoclip ")


def test_each_file_holds_its_own_tower_only_and_no_local_path(exported: Any) -> None:
    state = exported.clip.module.state_dict()
    visual = sum(tensor.numel() * 4 for name, tensor in state.items() if name.startswith("visual."))
    assert (exported.folder / "onnx_fp32" / "image.onnx").stat().st_size < visual * 1.2 + 200_000
    for file in ("image.onnx", "text.onnx"):
        model = onnx.load(exported.folder / "onnx_fp32" / file)
        del model.graph.initializer[:]
        graph = model.SerializeToString()
        assert b"encode_" not in graph
        assert b".py" not in graph


def test_rows_have_unit_norm_at_every_batch_size(exported: Any) -> None:
    height, width = exported.clip.pixels.height, exported.clip.pixels.width
    image = open_encoder(exported.folder / "onnx_fp32" / "image.onnx", IMAGE)
    text = open_encoder(exported.folder / "onnx_fp32" / "text.onnx", TEXT)
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 33):
        pixels = rng.integers(0, 256, (size, height, width, 3), dtype=np.uint8)
        tokens = rng.integers(1, 400, (size, 16)).astype(np.int32)
        for vectors in (image(pixels), text(tokens)):
            assert vectors.shape == (size, exported.clip.embedding_dim)
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    for path in (first, second):
        write_onnx(Small(), EXAMPLE, path, BORDER, metadata={"model": "small"})
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("opset", [18, 22])
def test_opset_is_the_one_asked_for(tmp_path: Path, opset: int) -> None:
    ir_version = write_onnx(Small(), EXAMPLE, tmp_path / "small.onnx", BORDER, opset=opset)
    model = onnx.load(tmp_path / "small.onnx")
    assert model.opset_import[0].version == opset
    assert model.ir_version == ir_version <= 10


@pytest.mark.parametrize("opset", [17, 23])
def test_other_opsets_are_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(ConfigError, match="use 18 to 22"):
        write_onnx(Small(), EXAMPLE, tmp_path / "small.onnx", BORDER, opset=opset)
    assert not list(tmp_path.iterdir())


def test_large_weights_go_beside_the_file_and_move_with_it(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    encoder = nn.Sequential(nn.Linear(4, 512, bias=False), nn.Linear(512, 3, bias=False))
    write_onnx(encoder, EXAMPLE, here / "small.onnx", BORDER, max_embedded_bytes=1000)
    assert sorted(path.name for path in here.iterdir()) == ["small.onnx", "small.onnx.data"]
    assert (here / "small.onnx").stat().st_size < (here / "small.onnx.data").stat().st_size
    here.rename(there)
    x = np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32)
    expected = encoder(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(open_encoder(there / "small.onnx", BORDER)(x), expected, atol=1e-6)


def test_what_onnx_can_not_express_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"small\.onnx: can't be exported at opset 18"):
        write_onnx(Complex(), EXAMPLE, tmp_path / "small.onnx", BORDER)


def test_a_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "image.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"image\.onnx: ONNX Runtime can't load it"):
        open_encoder(tmp_path / "image.onnx", IMAGE)


def test_a_wrong_batch_is_one_clear_error(exported_vit: Any) -> None:
    encode = open_encoder(exported_vit.folder / "onnx_fp32" / "image.onnx", IMAGE)
    with pytest.raises(ModelError, match="fails on a batch of 2"):
        encode(np.zeros((2, 5, 5, 3), dtype=np.uint8))


def test_the_exporter_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str], exported_vit: Any) -> None:
    capfd.readouterr()
    write_onnx(Small(), EXAMPLE, tmp_path / "small.onnx", BORDER)
    assert capfd.readouterr() == ("", "")


def test_runtime_reads_the_metadata(exported_vit: Any) -> None:
    session = onnxruntime.InferenceSession(
        exported_vit.folder / "onnx_fp32" / "text.onnx", providers=["CPUExecutionProvider"]
    )
    assert session.get_modelmeta().custom_metadata_map["model"] == "tiny-vit"


def test_pixels_are_normalised_inside(exported: Any) -> None:
    clip = exported.clip
    pixels = torch.randint(0, 256, (3, clip.pixels.height, clip.pixels.width, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = encode_images(clip, pixels).numpy()
    found = open_encoder(exported.folder / "onnx_fp32" / "image.onnx", IMAGE)(pixels.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _signature(values: Any) -> list[tuple[str, int, list[Any]]]:
    found = []
    for value in values:
        kind = value.type.tensor_type
        found.append((value.name, kind.elem_type, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]))
    return found
