from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from protoclip.contract.errors import ModelError
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import create_module
from protoclip.encoders.preprocessing import normalisation, pixel_spec
from protoclip.encoders.registry import model_config
from protoclip.encoders.tokenizer_lookup import tokenizer_for


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


def test_the_logits_are_those_that_the_weights_compute_with(tmp_path: Path, tiny_model: str) -> None:
    """Published SigLIP weights have a factor of 112.3 and a bias."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in create_module(tiny_model).state_dict().items()}
    save_file(state | {"logit_scale": torch.tensor(112.3).log()}, tmp_path / "w.safetensors")
    clip = load_clip(tiny_model, weights=tmp_path / "w.safetensors")
    assert clip.temperature == pytest.approx(112.3, rel=1e-5)
    assert (clip.logit_bias, clip.probabilities) == (None, "softmax")


def test_pickled_code_is_not_run(tmp_path: Path, tiny_model: str) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harmed",))  # type: ignore[return-value]

    (tmp_path / "w.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(ModelError, match="more than tensors in it, which is never read"):
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


@pytest.fixture
def model_folder(tmp_path: Path, tiny_model: str) -> Path:
    """An open_clip model folder without a preprocess_cfg."""
    from safetensors.torch import save_file

    folder = tmp_path / "folder"
    folder.mkdir()
    state = {name: tensor.contiguous() for name, tensor in create_module(tiny_model).state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config(tiny_model)}))
    return folder


def with_preprocessing(folder: Path, **values: Any) -> Path:
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**config, "preprocess_cfg": values}))
    return folder


def test_random_interpolation_is_bicubic_as_in_open_clips_evaluation(model_folder: Path) -> None:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    from protoclip.contract.pixels import fit

    clip = load_clip(with_preprocessing(model_folder, interpolation="random"))
    assert clip.pixels.interpolation == "bicubic"
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip.module))
    transform = image_transform_v2(config, is_train=False)
    noise = Image.effect_noise((40, 30), 80).convert("RGB")
    theirs = transform(noise) * torch.tensor(clip.std).view(3, 1, 1) + torch.tensor(clip.mean).view(3, 1, 1)
    assert ((theirs * 255).round().byte().permute(1, 2, 0).numpy() == fit(noise, clip.pixels)).all()


def test_one_number_for_the_mean_stands_for_three(model_folder: Path) -> None:
    assert load_clip(with_preprocessing(model_folder, mean=0.5)).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interpolation": "lanczos"}, "interpolation='lanczos'"),
        ({"resize_mode": "stretch"}, "resize='stretch'"),
        ({"mean": [0.5, 0.5]}, r"mean=\[0.5, 0.5\]"),
        ({"std": "wide"}, "std='wide'"),
    ],
)
def test_preprocessing_that_nobody_knows_is_named(
    model_folder: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"folder: can't be loaded: .*{message}") as caught:
        load_clip(with_preprocessing(model_folder, **values))
    assert "\n" not in str(caught.value)


def test_weights_beside_a_folder_are_refused(model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"folder: has weights of its own: leave w\.safetensors out"):
        load_clip(model_folder, weights=Path("w.safetensors"))


ODD: dict[str, dict[str, Any]] = {
    "no width": {"vision_cfg": {"image_size": 16, "patch_size": 8, "layers": "many"}},
    "an unknown setting": {"vision_cfg": {"image_size": 16, "colour": 3}},
    "no number of heads": {"text_cfg": {"width": 16, "heads": 3}},
    "no tower": {"vision_cfg": {"timm_model_name": "no_such_tower"}},
    "a section that is a list": {"text_cfg": []},
}


@pytest.mark.parametrize("name", ODD)
def test_configurations_that_open_clip_trips_over_are_one_line(tmp_path: Path, tiny_model: str, name: str) -> None:
    import open_clip

    odd = f"odd-{name.replace(' ', '-')}"
    path = tmp_path / f"{odd}.json"
    path.write_text(json.dumps({**deepcopy(model_config(tiny_model)), **ODD[name]}))
    open_clip.add_model_config(path)
    with pytest.raises(ModelError, match=f"model '{odd}'.*: .{{5,}}") as caught:
        create_module(odd)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_lies_elsewhere_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    way_out = r"needs the tokenizer timm/ViT-B-16-SigLIP of the Hugging Face hub"

    def fail(error: Exception) -> None:
        def get_tokenizer(name: str) -> None:
            raise error

        monkeypatch.setattr(open_clip, "get_tokenizer", get_tokenizer)

    fail(ModuleNotFoundError("No module named 'transformers'", name="transformers"))
    with pytest.raises(ModelError, match=way_out + ".*: pip install transformers"):
        tokenizer_for("ViT-B-16-SigLIP")
    fail(OSError("We couldn't connect to 'https://huggingface.co'\nCheck your internet connection"))
    with pytest.raises(ModelError, match=way_out + ".*hf download timm/ViT-B-16-SigLIP --include") as caught:
        tokenizer_for("ViT-B-16-SigLIP")
    assert "\n" not in str(caught.value)


def test_a_text_tower_of_the_hub_that_is_not_here_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(name: str, **_: Any) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr("open_clip.create_model", offline)
    with pytest.raises(ModelError, match=r"`hf download facebook/nllb-200-distilled-600M --include config\.json`"):
        create_module("nllb-clip-base")
    with pytest.raises(ModelError, match=r"connect to the hub$"):
        create_module("ViT-B-32")


def test_a_folder_without_its_tokenizer_says_which_files_to_copy(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    def get_tokenizer(name: str) -> None:
        raise OSError("Can't load tokenizer")

    monkeypatch.setattr(open_clip, "get_tokenizer", get_tokenizer)
    config = json.loads((model_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "some/tokenizer"
    (model_folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"copy tokenizer\.json and tokenizer_config\.json of some/tokenizer into"
    ):
        load_clip(model_folder)
