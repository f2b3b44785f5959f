"""Weights by their name: what open_clip's registry and configurations say of them is what is taken."""

from __future__ import annotations

import json
import logging
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback_hub import LoopbackHub, publish_model
from safetensors.torch import save_file

from protoclip.config.model_settings import AS_PUBLISHED, ModelConfig, PreprocessingConfig
from protoclip.config.weights_names import is_published
from protoclip.contract.errors import ModelError
from protoclip.contract.text import Tokenizer
from protoclip.encoders.hub import hub_file
from protoclip.encoders.loading import load_clip
from protoclip.encoders.model import create_module
from protoclip.encoders.published import published
from protoclip.encoders.registry import model_config
from protoclip.encoders.tokenizer_lookup import tokenizer_for
from protoclip.encoders.torchvision_workaround import make_torchvision_importable
from protoclip.encoders.trainable import build_model

make_torchvision_importable()
import open_clip  # noqa: E402 - torchvision has to be importable first

HALF = (0.5, 0.5, 0.5)
Publish = Callable[..., None]


@pytest.fixture
def tagged(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """`tagged("painted", "ours/tiny", …)`: open_clip knows a tag of the tiny model from here on."""

    def add(tag: str, repository: str, model: str = tiny_model, **values: Any) -> None:
        entry = open_clip.pretrained._pcfg(hf_hub=f"{repository}/", **values)
        others = open_clip.pretrained._PRETRAINED.get(model, {})
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, model, {**others, tag: entry})

    return add


@pytest.fixture
def quick_twin(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model with QuickGELU, as open_clip names such."""
    path = tmp_path / f"{tiny_model}-quickgelu.json"
    path.write_text(json.dumps({**model_config(tiny_model), "quick_gelu": True}))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(path)
    return path.stem


def same(module: torch.nn.Module, state: dict[str, Any]) -> bool:
    return all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())


def test_a_word_is_a_tag_and_a_path_has_a_dot_or_a_slash() -> None:
    for name in ("openai", "laion2b_s34b_b79k", "hf-hub:timm/ViT-B-16-SigLIP"):
        assert is_published(name)
    for path in ("./openai", "w.pt", "models/w", "/tmp/w", "C:\\w", "."):
        assert not is_published(path)


def test_a_tag_is_downloaded_once_and_then_needs_no_network(
    hub: LoopbackHub, tagged: Publish, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = publish_model(hub, "ours/tiny", tiny_model, seed=5)
    tagged("painted", "ours/tiny", mean=HALF, resize_mode="squash", interpolation="bilinear")
    clip = load_clip(tiny_model, weights="painted")
    assert same(clip.module, state)
    assert (clip.mean, clip.pixels.resize, clip.pixels.interpolation) == (HALF, "squash", "bilinear")
    assert (clip.source, clip.model_name) == (f"{tiny_model} painted", tiny_model)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert same(load_clip(tiny_model, weights="painted").module, state)


def test_safetensors_are_preferred_and_the_others_are_read_as_tensors(
    hub: LoopbackHub, tagged: Publish, tiny_model: str
) -> None:
    state = publish_model(hub, "ours/pickled", tiny_model, seed=6, pickled=True)
    tagged("pickled", "ours/pickled")
    assert same(load_clip(tiny_model, weights="pickled").module, state)
    both = publish_model(hub, "ours/both", tiny_model, seed=7)
    (hub.root / "ours/both/open_clip_pytorch_model.bin").write_bytes(b"never read")
    tagged("both", "ours/both")
    assert same(load_clip(tiny_model, weights="both").module, both)


def test_a_pickle_with_code_in_it_is_refused(
    hub: LoopbackHub, tagged: Publish, tiny_model: str, tmp_path: Path
) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harmed",))  # type: ignore[return-value]

    folder = hub.repository("ours/harmful")
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Harmful(), protocol=2))
    tagged("harmful", "ours/harmful")
    with pytest.raises(ModelError, match="more than tensors in it, which is never read"):
        load_clip(tiny_model, weights="harmful")
    assert not (tmp_path / "harmed").exists()


def test_an_unknown_tag_is_answered_with_the_way_out(tagged: Publish, tiny_model: str) -> None:
    tagged("painted", "ours/tiny")
    with pytest.raises(ModelError, match=r"weights 'paintd' of .* are unknown: did you mean painted\?.*\./paintd"):
        load_clip(tiny_model, weights="paintd")
    with pytest.raises(ModelError, match="they are published for ViT-B-32"):
        load_clip(tiny_model, weights="laion2b_s34b_b79k")
    with pytest.raises(ModelError, match="nothing is published for protoclip-mini-48"):
        load_clip("protoclip-mini-48", weights="something_else")


def test_a_repository_of_the_hub_is_a_model(hub: LoopbackHub, tiny_model: str) -> None:
    state = publish_model(hub, "ours/tiny", tiny_model, seed=8, preprocess={"mean": HALF, "std": HALF})
    clip = load_clip("hf-hub:ours/tiny")
    assert same(clip.module, state)
    assert (clip.source, clip.mean, clip.std) == ("hf-hub:ours/tiny", HALF, HALF)
    assert same(load_clip(tiny_model, weights="hf-hub:ours/tiny").module, state)
    assert load_clip(tiny_model, weights="hf-hub:ours/tiny").mean == HALF
    with pytest.raises(ModelError, match="hf-hub:ours/tiny: has weights of its own"):
        load_clip("hf-hub:ours/tiny", weights="painted")


def test_a_repository_that_changed_between_two_downloads_is_taken_as_it_is_now(
    hub: LoopbackHub, tiny_model: str
) -> None:
    """The configuration is in the cache, of a download that was interrupted, say, and the weights are newer."""
    prepared = {"mean": (0.25, 0.25, 0.25), "std": HALF}
    publish_model(hub, "ours/tiny", tiny_model, preprocess=prepared)
    hub_file("ours/tiny", ["open_clip_config.json"])
    shutil.rmtree(hub.root / "ours/tiny")
    state = publish_model(hub, "ours/tiny", tiny_model, seed=3, preprocess={"mean": HALF, "std": HALF})
    hub.commit = 40 * "b"
    clip = load_clip("hf-hub:ours/tiny")
    assert same(clip.module, state)
    assert clip.mean == HALF


def test_a_folder_is_named_as_weights_or_as_the_model(
    hub: LoopbackHub, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = publish_model(hub, "ours/tiny", tiny_model, preprocess={"mean": HALF, "std": HALF})
    folder = hub.root / "ours/tiny"
    for clip in (
        load_clip(folder),
        load_clip(tiny_model, weights=folder),
        load_clip(tiny_model, weights=str(folder)),
    ):
        assert same(clip.module, state)
        assert clip.mean == HALF
    file = load_clip(tiny_model, weights=folder / "open_clip_model.safetensors")
    assert file.mean == HALF
    assert not caplog.records
    assert not hub.requests


def test_a_repository_of_another_architecture_is_told(
    hub: LoopbackHub, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of heads shows in no tensor's shape."""
    changed = {**model_config(tiny_model)["text_cfg"], "heads": 4}
    publish_model(hub, "ours/other", tiny_model, preprocess={"mean": HALF, "std": HALF}, text_cfg=changed)
    load_clip(tiny_model, weights="hf-hub:ours/other")
    assert "another text_cfg.heads (4, not 2)" in caplog.text


@pytest.mark.parametrize(
    ("tower", "change", "told"),
    [
        ("text_cfg", {"no_causal_mask": True}, r"text_cfg.no_causal_mask (True, not False)"),
        ("text_cfg", {"pool_type": "last"}, r"text_cfg.pool_type ('last', not 'argmax')"),
        ("vision_cfg", {"final_ln_after_pool": True}, r"vision_cfg.final_ln_after_pool (True, not False)"),
    ],
)
def test_what_only_one_configuration_says_is_compared_too(
    hub: LoopbackHub, tiny_model: str, caplog: pytest.LogCaptureFixture, tower: str, change: Any, told: str
) -> None:
    prepared = {"mean": HALF, "std": HALF}
    changed = {**model_config(tiny_model)[tower], **change}
    publish_model(hub, "ours/other", tiny_model, preprocess=prepared, **{tower: changed})
    load_clip(tiny_model, weights=hub.root / "ours/other")
    assert f"another {told}" in caplog.text
    caplog.clear()
    usual = {"image_size": 16, "pool_type": "tok", "patch_dropout": 0.5}
    publish_model(
        hub,
        "ours/same",
        tiny_model,
        preprocess=prepared,
        vision_cfg=model_config(tiny_model)["vision_cfg"] | usual,
    )
    load_clip(tiny_model, weights=hub.root / "ours/same")
    assert not caplog.records


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(
    ("name", "rows"), [("visual.positional_embedding", 10), ("positional_embedding", 5)], ids=["image", "text"]
)
def test_positions_that_are_resampled_are_told(
    tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, rows: int, pickled: bool
) -> None:
    """open_clip fits weights of another picture size or context length in silence; the embeddings are others."""
    state = {key: value.contiguous() for key, value in create_module(tiny_model).state_dict().items()}
    has = state[name].shape[0]
    state[name] = torch.randn(rows, state[name].shape[1])
    path = tmp_path / ("w.pt" if pickled else "w.safetensors")
    if pickled:
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        save_file(state, path)
    create_module(tiny_model, path)
    assert f"weights {path}: {name} has {rows} positions and the model {has}: they are resampled" in caplog.text


def test_a_missing_logit_bias_is_told(hub: LoopbackHub, tiny_model: str, caplog: pytest.LogCaptureFixture) -> None:
    publish_model(
        hub,
        "ours/sigmoid",
        tiny_model,
        preprocess={"mean": HALF, "std": HALF},
        init_logit_bias=-10,
        custom_text=True,
    )
    load_clip(hub.root / "ours/sigmoid")
    assert "have no logit_bias: it is 0" in caplog.text


def test_a_folders_pickle_with_other_objects_is_refused_as_a_file_is(hub: LoopbackHub, tiny_model: str) -> None:
    state = publish_model(hub, "ours/objects", tiny_model, pickled=True)
    folder = hub.root / "ours/objects"
    torch.save({"state_dict": state, "args": Namespace()}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="more than tensors in it, which is never read: save it as safetensors"):
        load_clip(folder)


def test_of_several_checkpoints_in_a_folder_both_ways_take_the_same(hub: LoopbackHub, tiny_model: str) -> None:
    wanted = publish_model(hub, "ours/both", tiny_model, pickled=True)
    folder = hub.root / "ours/both"
    (folder / "open_clip_pytorch_model.bin").rename(folder / "open_clip_pytorch_model.pth")
    save_file({name: torch.zeros_like(value) for name, value in wanted.items()}, folder / "model.safetensors")
    assert same(load_clip(folder).module, wanted)
    assert same(load_clip(tiny_model, weights=folder).module, wanted)


# ---- preprocessing ----


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mean": "grey", "std": HALF}, "mean='grey': must be a number or three"),
        ({"mean": HALF, "std": (0.5, 0.5, 0)}, r"std=\[0\.5, 0\.5, 0\]: must be above 0"),
        ({"mean": HALF, "std": float("nan")}, "std=nan: must be a number or three"),
        ({"mean": HALF, "std": HALF, "resize_mode": "fill"}, "resize='fill'"),
    ],
)
def test_a_preprocessing_that_is_none_is_refused(
    hub: LoopbackHub, tiny_model: str, said: dict[str, Any], message: str
) -> None:
    publish_model(hub, "ours/bad", tiny_model, preprocess=said)
    folder = hub.root / "ours/bad"
    for call in (lambda: load_clip(folder), lambda: load_clip(tiny_model, weights=folder)):
        with pytest.raises(ModelError, match=message):
            call()


def test_three_checkpoints_have_a_preprocessing_of_their_own() -> None:
    """All their names have several, so that open_clip's default would be taken for a file of them."""
    assert published("ViT-L-14", "laion2b_s32b_b82k").preprocess["mean"] == HALF
    assert published("ViT-L-14", "laion2b-s32b-b82k").preprocess["std"] == HALF
    for name in ("ViT-H-14", "ViT-H-14-quickgelu"):
        assert published(name, "dfn5b").preprocess["resize_mode"] == "squash"
    assert published("ViT-L-14", "openai").preprocess["mean"] != HALF


def test_a_file_that_says_nothing_is_told_of_until_it_is_said(
    tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, tagged: Publish
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({name: value.contiguous() for name, value in create_module(tiny_model).state_dict().items()}, path)
    load_clip(tiny_model, weights=path)
    assert "how their pictures were prepared is not known: mean (0.48145466" in caplog.text
    assert "open_clip's default; --mean" in caplog.text
    caplog.clear()
    tagged("painted", "ours/tiny", mean=HALF)
    assert load_clip(tiny_model, weights=path).mean == HALF
    assert f"as all published weights of {tiny_model} have it" in caplog.text
    caplog.clear()
    said = PreprocessingConfig(mean=(0.1, 0.2, 0.3), std=HALF, resize_mode="longest", interpolation="bilinear")
    clip = load_clip(tiny_model, weights=path, preprocessing=said)
    assert (clip.mean, clip.std, clip.pixels.resize) == ((0.1, 0.2, 0.3), HALF, "longest")
    assert clip.pixels.interpolation == "bilinear"
    assert not caplog.records


def test_what_is_said_stands_above_what_the_weights_say(
    hub: LoopbackHub, tagged: Publish, tiny_model: str
) -> None:
    publish_model(hub, "ours/tiny", tiny_model, preprocess={"mean": HALF, "std": HALF})
    tagged("painted", "ours/tiny", mean=HALF)
    said = PreprocessingConfig(mean=(0.1, 0.2, 0.3))
    assert load_clip(tiny_model, weights="painted", preprocessing=said).mean == (0.1, 0.2, 0.3)
    clip = load_clip("hf-hub:ours/tiny", preprocessing=said)
    assert (clip.mean, clip.std) == ((0.1, 0.2, 0.3), HALF)


def test_a_run_begins_with_published_weights_as_they_were_prepared(
    hub: LoopbackHub, tagged: Publish, tiny_model: str
) -> None:
    state = publish_model(hub, "ours/tiny", tiny_model, seed=9)
    tagged("painted", "ours/tiny", mean=HALF, resize_mode="squash")
    config = ModelConfig(name=tiny_model, weights="painted")
    model = build_model(config, 0, sync_batch_norm=False)
    assert same(model.module, state)
    assert (model.inputs.mean, model.inputs.pixels.resize) == (HALF, "squash")
    assert config.color_management == "stored"
    said = config.model_copy(update={"preprocessing": PreprocessingConfig(resize_mode="longest")})
    assert build_model(said, 0, sync_batch_norm=False).inputs.pixels.resize == "longest"


# ---- QuickGELU ----


def test_published_quickgelu_weights_under_the_plain_name_are_switched(
    hub: LoopbackHub, tagged: Publish, tiny_model: str, quick_twin: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish_model(hub, "ours/quick", tiny_model)
    tagged("quick", "ours/quick", quick_gelu=True)
    clip = load_clip(tiny_model, weights="quick")
    assert (clip.model_name, clip.model_config["quick_gelu"]) == (quick_twin, True)
    assert any(type(part).__name__ == "QuickGELU" for part in clip.module.modules())
    assert f"weights quick were trained with QuickGELU: the model is {quick_twin}, not {tiny_model}" in caplog.text


def test_a_run_is_to_name_the_model_with_the_right_activation(
    hub: LoopbackHub, tagged: Publish, tiny_model: str, quick_twin: str
) -> None:
    publish_model(hub, "ours/quick", tiny_model)
    tagged("quick", "ours/quick", quick_gelu=True)
    tagged("quick", "ours/quick", quick_twin, quick_gelu=True)
    with pytest.raises(ModelError, match=rf"trained with QuickGELU: set model\.name='{quick_twin}'"):
        build_model(ModelConfig(name=tiny_model, weights="quick"), 0, sync_batch_norm=False)
    build_model(ModelConfig(name=quick_twin, weights="quick"), 0, sync_batch_norm=False)


def test_the_activation_that_a_configuration_says_is_held_against_the_name(
    hub: LoopbackHub, tiny_model: str, quick_twin: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = {"mean": HALF, "std": HALF}
    publish_model(hub, "ours/quick", tiny_model, preprocess=prepared, quick_gelu=True)
    assert load_clip(tiny_model, weights="hf-hub:ours/quick").model_name == quick_twin
    assert "trained with QuickGELU" in caplog.text
    publish_model(hub, "ours/plain", tiny_model, preprocess=prepared)
    with pytest.raises(ModelError, match=f"were trained with GELU, and {quick_twin} computes QuickGELU"):
        load_clip(quick_twin, weights="hf-hub:ours/plain")


def test_quickgelu_without_a_name_for_it_is_refused(hub: LoopbackHub, tagged: Publish, tiny_model: str) -> None:
    publish_model(hub, "ours/quick", tiny_model)
    tagged("quick", "ours/quick", quick_gelu=True)
    with pytest.raises(ModelError, match=f"open_clip has no model {tiny_model}-quickgelu"):
        load_clip(tiny_model, weights="quick")


def test_every_published_quickgelu_tag_has_a_model_to_switch_to() -> None:
    from protoclip.encoders.published import uses_quick_gelu, with_quick_gelu

    for name, tag in open_clip.list_pretrained():
        if published(name, tag).quick_gelu and not uses_quick_gelu(model_config(name)):
            twin = with_quick_gelu(name)
            assert twin is not None, (name, tag)
            assert published(twin, tag).preprocess == published(name, tag).preprocess
            assert {**model_config(name), "quick_gelu": True} == model_config(twin), (name, twin)


# ---- the hub's tokenizer ----


@pytest.mark.parametrize("by_transformers", [True, False])
def test_the_hubs_tokenizer_comes_along(
    hub: LoopbackHub, tiny_model: str, monkeypatch: pytest.MonkeyPatch, by_transformers: bool
) -> None:
    """A text tower whose tokenizer is in another repository, read by transformers as open_clip does it, or not."""
    if by_transformers:
        pytest.importorskip("transformers", reason="the extra that brings transformers is not installed")
    else:
        monkeypatch.setattr("protoclip.encoders.tokenizer_lookup._has_transformers", lambda: False)
    text = {**model_config(tiny_model)["text_cfg"], "hf_tokenizer_name": "ours/words"}
    text["tokenizer_kwargs"] = {"clean": "lower"}
    publish_model(hub, "ours/tiny", tiny_model, preprocess={"mean": HALF, "std": HALF}, text_cfg=text)
    folder = hub.repository("ours/words")
    (folder / "tokenizer.json").write_text(tokenizer_for(tiny_model)[0])
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "!", "clean_up_tokenization_spaces": 0}
        )
    )
    clip = load_clip("hf-hub:ours/tiny")
    ours, spec = tokenizer_for(tiny_model)
    texts = ["a red square", "", "a very long text " * 10]
    assert (Tokenizer(clip.tokenizer_json, clip.text).encode(texts) == Tokenizer(ours, spec).encode(texts)).all()
    asked = len(hub.requests)
    load_clip("hf-hub:ours/tiny")
    assert len(hub.requests) == asked


def test_nothing_is_logged_where_nothing_is_to_be_told(
    hub: LoopbackHub, tagged: Publish, tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish_model(hub, "ours/tiny", tiny_model)
    tagged("painted", "ours/tiny")
    with caplog.at_level(logging.WARNING):
        load_clip(tiny_model, weights="painted", preprocessing=AS_PUBLISHED)
        assert [record.message for record in caplog.records] == [
            f"downloading the weights of {hub.url}/ours/tiny, this once"
        ]
        caplog.clear()
        load_clip(tiny_model, weights="painted", preprocessing=AS_PUBLISHED)
    assert not caplog.records
