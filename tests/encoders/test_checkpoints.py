"""Checkpoints as other programs write them: the reference implementation of ProtoCLIP, OpenAI's, open_clip's."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from protoclip.contract.errors import ModelError
from protoclip.encoders.checkpoints import loadable, trained_with_quick_gelu
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import create_module
from protoclip.encoders.registry import model_config, register_architectures
from protoclip.encoders.torchvision_workaround import make_torchvision_importable

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

State = dict[str, Tensor]


@pytest.fixture
def quick_model(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model by a plain name, beside which open_clip knows it with QuickGELU."""
    register_architectures()  # once a process, and not only for this test
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    path = tmp_path / f"{tiny_model}-quickgelu.json"
    path.write_text(json.dumps({**model_config(tiny_model), "quick_gelu": True}))
    open_clip.add_model_config(path)
    return path.stem


@pytest.fixture
def state(tiny_model: str) -> State:
    torch.manual_seed(11)
    return {name: tensor.contiguous() for name, tensor in create_module(tiny_model).state_dict().items()}


def as_reference(state: State, *, parallel: bool = True) -> dict[str, Any]:
    """What the reference implementation saves after an epoch on several GPUs, with an optimiser and a scaler."""
    head = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8))
    ours: State = {**state, "logit_scale_proto": torch.tensor(2.6)}
    for side in ("image", "text"):
        ours |= {f"{side}_projection_head.{name}": value for name, value in head.state_dict().items()}
    optimizer = torch.optim.AdamW(head.parameters())
    head(torch.randn(4, 16)).sum().backward()
    optimizer.step()
    return {
        "epoch": 32,
        "name": "ProtoCLIP",
        "state_dict": {f"{'module.' if parallel else ''}{name}": value for name, value in ours.items()},
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
    }


def same(module: nn.Module, state: State) -> bool:
    return all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("parallel", [True, False])
def test_the_reference_implementations_towers_are_taken_with_quickgelu(
    tmp_path: Path, tiny_model: str, quick_model: str, state: State, parallel: bool
) -> None:
    torch.save(as_reference(state, parallel=parallel), tmp_path / "epoch_32.pt")
    clip = load_clip(tiny_model, weights=tmp_path / "epoch_32.pt")
    assert same(clip.module, state)
    assert clip.model_name == quick_model
    assert clip.source == f"{quick_model} epoch_32.pt"
    assert any(type(part).__name__ == "QuickGELU" for part in clip.module.modules())


def test_the_reference_implementations_timm_towers_compute_gelu(tmp_path: Path) -> None:
    torch.save(
        {"logit_scale_proto": torch.zeros(()), "visual.trunk.stem.weight": torch.zeros(2)}, tmp_path / "w.pt"
    )
    assert not trained_with_quick_gelu(tmp_path / "w.pt")


def test_openais_state_has_facts_among_its_tensors(
    tmp_path: Path, tiny_model: str, quick_model: str, state: State
) -> None:
    facts = {"input_resolution": 16, "context_length": 8, "vocab_size": 49408}
    half = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    torch.save({**half, **{name: torch.tensor(value) for name, value in facts.items()}}, tmp_path / "w.pt")
    clip = load_clip(tiny_model, weights=tmp_path / "w.pt")
    assert clip.model_name == quick_model
    assert same(clip.module, {name: value.float() for name, value in half.items()})
    assert all(value.dtype != torch.float16 for value in clip.module.state_dict().values())


@pytest.mark.parametrize("form", ["bare.pt", "under_state_dict.pth", "old.bin", "parallel.safetensors"])
def test_plain_states_are_taken_as_they_are(tmp_path: Path, tiny_model: str, state: State, form: str) -> None:
    path = tmp_path / form
    if form == "bare.pt":
        torch.save(state, path)
    elif form == "under_state_dict.pth":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": v for name, v in state.items()}}, path)
    elif form == "old.bin":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        save_file({f"module.{name}": value for name, value in state.items()}, path)
    clip = load_clip(tiny_model, weights=path)
    assert same(clip.module, state)
    assert clip.model_name == tiny_model
    with loadable(path) as given:
        assert given == path


def test_what_is_no_state_of_the_towers_is_one_line(tmp_path: Path, tiny_model: str, state: State) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("ViT-B-32/code/__torch__.py", "")
        archive.writestr("ViT-B-32/data.pkl", b"")
    torch.save({**as_reference(state)["state_dict"], "pretrained_text.w": torch.zeros(2)}, tmp_path / "bert.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({}, tmp_path / "empty.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for name, message in {
        "program.pt": "a program in TorchScript, which is never run: .*`--weights openai`",
        "bert.pt": r"a text tower of another package \(pretrained_text\.…\)",
        "list.pt": "hold no state of a model",
        "empty.pt": "hold no state of a model",
        "torn.pt": "no checkpoint, or one with more than tensors in it|can't be read",
        "torn.safetensors": "no safetensors file",
        "gone.pt": "no such file",
    }.items():
        with pytest.raises(ModelError, match=message) as caught:
            load_clip(tiny_model, weights=tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
