from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from protoclip.contract.errors import ModelError
from protoclip.model import create_module, load_clip, model_config, normalisation, pixel_spec


def test_the_weights_own_configuration_decides_how_pictures_are_fitted() -> None:
    """All published weights of the SigLIP model squash to 224 and use mean 0.5; CLIP's crop the shortest side."""
    siglip = create_module("ViT-B-16-SigLIP")
    assert pixel_spec(siglip).resize == "squash"
    assert normalisation(siglip)[0] == (0.5, 0.5, 0.5)
    del siglip
    clip = pixel_spec(create_module("RN50-quickgelu"))
    assert (clip.resize, clip.interpolation, clip.height, clip.width) == ("shortest", "bicubic", 224, 224)


def test_the_bundled_architecture_is_registered() -> None:
    clip = load_clip("protoclip-mini-48")
    assert clip.embedding_dim == model_config("protoclip-mini-48")["embed_dim"] == 128
    assert clip.text.context_length == 16
    assert clip.temperature == pytest.approx(1 / 0.07, rel=1e-5)


def test_a_local_checkpoint_is_loaded(tmp_path: Path, tiny_model: str) -> None:
    from safetensors.torch import save_file

    module = create_module(tiny_model)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        loaded = load_clip(tiny_model, weights=tmp_path / name).module.state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_pickled_code_is_not_run(tmp_path: Path, tiny_model: str) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harmed",))  # type: ignore[return-value]

    (tmp_path / "w.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(ModelError, match="holds more than tensors, which is never read"):
        create_module(tiny_model, tmp_path / "w.pt")
    assert not (tmp_path / "harmed").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path, tiny_model: str) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=f"model '{tiny_model}' with weights .*w.safetensors"):
        create_module(tiny_model, tmp_path / "w.safetensors")


def test_folders_that_are_no_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no open_clip_config\.json here"):
        load_clip(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        load_clip(tmp_path / "gone")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config("protoclip-mini-48")}))
    with pytest.raises(ModelError, match="finish the run with"):
        load_clip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_clip(tmp_path)
