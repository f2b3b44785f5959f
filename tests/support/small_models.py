"""Small models in every form that the formats tell apart, and pictures and texts to compare them on.

Where a test compares pictures, `image_rows` and `text_rows` are what our own server gives for them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from export.graphs.source import load_source
from protoclip.contract.pixels import fit
from protoclip.contract.text import Tokenizer
from protoclip.encoders.model import ClipModel, encode_images, encode_texts

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 2}
SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "vit_test_patch8_siglip_32",
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        **TEXT,
        "vocab_size": 300,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}
MODELS = {
    "small-clip": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    # With every setting that has another value elsewhere.
    "small-custom": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VISION, "mlp_ratio": 3.0, "norm_kwargs": {"eps": 1e-4}},
        "text_cfg": {**TEXT, "mlp_ratio": 2.0, "act_kwargs": {"approximate": "tanh"}},
    },
    "small-siglip": SIGLIP,
}
SIZES = (
    *((32, 32), (64, 48), (48, 64), (33, 32), (34, 32), (640, 480), (480, 640), (500, 333), (333, 500)),
    *((100, 40), (7, 9), (1, 1), (2, 90), (1000, 33)),
)
# Whose margins are 3 and 7 pixels: the middle is half a pixel off, and open_clip rounds it up.
UNEVEN_SIZES = ((35, 32), (32, 35), (39, 32), (64, 70))
TEXTS = (
    *(
        "",
        "a",
        "a photo of a cat",
        "A PHOTO of a Cat, isn't it? WE'LL see!",
        "hello!!! ?! ...",
        "  two   blanks \n\t",
    ),
    *(
        "ΟΔΥΣΣΕΥΣ ΑΣ. Σ",
        "İstanbul IĞDIR straße ẞ",
        "漢字かな交じり文，ＡＢＣ１２３！ｶﾞ",
        "مرحبا بالعالم",
        "สวัสดีชาวโลก",
    ),
    *(
        "नमस्ते दुनिया",
        "안녕하세요",
        "🙂👩‍👩‍👧 🇫🇷",
        "Ünïcödé l'été — 2 x 3 = 6",
        "e\u0301 A\u030a",
        "“quoted” ‘it’s’ ﬁsh",
    ),
    *("cats &amp; dogs &lt;3 &amp;lt;b&amp;gt; it&#39;s", "snake_case #tag under_score", "a\u200bb\x07c\x1b[31md"),
    *("word " * 200, "漢" * 500, "x" * 300, "1234567890" * 20),
)


def small_model(name: str, siglip_words: Path) -> ClipModel:
    """With weights that no default agrees with by chance."""
    clip = load_source(name, tokenizer=siglip_words if name == "small-siglip" else None).clip
    generator = torch.Generator().manual_seed(1)
    for parameter in clip.module.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    clip = replace(clip, temperature=float(clip.module.logit_scale.exp()))  # type: ignore[operator]
    if clip.logit_bias is not None:
        clip = replace(clip, logit_bias=float(clip.module.logit_bias))  # type: ignore[arg-type]
    if name == "small-clip":
        return clip
    resize, interpolation = ("squash", "bicubic") if name == "small-siglip" else ("shortest", "bilinear")
    pixels = replace(clip.pixels, resize=resize, interpolation=interpolation)
    return replace(clip, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.5), pixels=pixels)


def picture(width: int, height: int) -> Image.Image:
    """Coarse shapes and fine noise."""
    rng = np.random.default_rng(width * 10_000 + height)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    shapes = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int64)
    return Image.fromarray((shapes + rng.integers(-20, 20, shapes.shape)).clip(0, 255).astype(np.uint8))


def image_rows(clip: ClipModel, pictures: list[Image.Image]) -> NDArray[np.float32]:
    """What we give for them, as our server does."""
    pixels = np.stack([np.asarray(fit(one.convert("RGB"), clip.pixels)) for one in pictures])
    return encode_images(clip, torch.from_numpy(pixels)).numpy()


def text_rows(clip: ClipModel, texts: tuple[str, ...]) -> NDArray[np.float32]:
    return encode_texts(clip, torch.from_numpy(Tokenizer(clip.tokenizer_json, clip.text).encode(texts))).numpy()
