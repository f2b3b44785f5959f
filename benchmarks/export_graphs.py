"""Exports open_clip models of every kind by name, each in a process of its own, and writes a table.

Weights are random: this proves the graphs, never accuracy. Example:

    python benchmarks/export_graphs.py --out benchmarks/export_graphs_2cores_202611.md

A text tower of the Hugging Face hub is made from its architecture in the package transformers, which it needs.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODELS = (
    "ViT-B-32",
    "ViT-B-16",
    "ViT-L-14",
    "ViT-H-14",
    "RN50-quickgelu",
    "convnext_base",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "coca_ViT-B-32",
    "roberta-ViT-B-32",
)
NUM_SAMPLES = 16
BATCH_SIZES = (1, 8, 7)
PACKAGES = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime")


def stand_in_tokenizer(path: Path, num_words: int) -> None:
    """A tokenizer.json of bytes and unused words, for models whose own is on a hub: any ids prove the graph."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [f"unused {number}" for number in range(len(tokens), num_words)]
    words = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    tokenizer.save(str(path))


def folder_with_text_tower(model: str, folder: Path) -> tuple[str, int]:
    """An open_clip folder with random weights and the hub's architecture by its defaults, and its vocabulary."""
    import open_clip
    import torch
    import transformers
    from safetensors.torch import save_model

    from protoclip.encoders.registry import model_config

    config = model_config(model)
    tower = transformers.AutoConfig.for_model(config["text_cfg"]["hf_model_name"].split("-")[0])
    tower.save_pretrained(folder)
    config["text_cfg"] |= {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}, "model_name": model})
    )
    text = config["text_cfg"] | {"hf_model_pretrained": False}
    torch.manual_seed(0)
    module = open_clip.model.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], text)
    save_model(module, str(folder / "model.safetensors"))
    return str(folder), int(tower.vocab_size)


def export_one(model: str, folder: Path) -> dict[str, Any]:
    """Exports `model` in fp32 and int8 and returns a row of the table; raises what the export raises."""
    from export.engines import open_engine, write_engines
    from export.graphs.fingerprint import fingerprint
    from export.graphs.source import load_source
    from export.graphs.to_onnx import DEFAULT_OPSET, MAX_EMBEDDED_BYTES
    from export.parity.reference import torch_reference
    from export.parity.samples import pick_samples
    from export.parity.verify import verify_engine
    from protoclip.cli.pairs import PairsOptions
    from protoclip.contract.progress import silent
    from protoclip.encoders.registry import model_config

    text = model_config(model)["text_cfg"]
    source, num_words, tokenizer = model, text.get("vocab_size", 0), None
    if "hf_model_name" in text:
        source, num_words = folder_with_text_tower(model, folder)
    if "hf_tokenizer_name" in text:
        tokenizer = folder / "tokenizer.json"
        stand_in_tokenizer(tokenizer, num_words)
    clip = load_source(source, tokenizer=tokenizer).clip
    started = time.monotonic()
    write_engines(
        clip,
        folder,
        ("fp32", "int8"),
        None,
        opset=DEFAULT_OPSET,
        metadata={"fingerprint": fingerprint(clip)},
        max_embedded_bytes=MAX_EMBEDDED_BYTES,
        progress=silent,
    )
    seconds = time.monotonic() - started
    samples = pick_samples(PairsOptions().load(), "the bundled corpus", NUM_SAMPLES)
    reference = torch_reference(clip, samples, silent)
    row: dict[str, Any] = {"model": model, "seconds": seconds, "temperature": clip.temperature}
    row |= {"bias": clip.logit_bias, "resize": clip.pixels.resize, "size": clip.pixels.height}
    for precision in ("fp32", "int8"):
        found = verify_engine(
            reference,
            open_engine(folder, precision),
            precision,
            precision,
            batch_sizes=BATCH_SIZES,
        )
        row[precision] = {
            "passed": found.passed,
            "difference": max(c.max_abs_difference or 0.0 for _, c in found.same_inputs()),
            "cosine": min(c.min_cosine or -1.0 for _, c in found.same_inputs()),
            "megabytes": [_megabytes(folder / f"onnx_{precision}", name) for name in ("image", "text")],
            "beside": any((folder / f"onnx_{precision}").glob("*.data")),
        }
    return row


def _megabytes(folder: Path, encoder: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{encoder}.onnx*")) / 1e6


def main() -> None:
    """Runs all models and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "FOLDER"), help="for this script's own processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(export_one(arguments.one[0], Path(arguments.one[1]))))
        return
    rows = [row for model in arguments.models if (row := _in_its_own_process(model))]
    text = table(rows)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


def _in_its_own_process(model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", model, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr.strip().splitlines()[-1]}")
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(row, file=sys.stderr)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "# Every kind of open_clip model as ONNX",
        "",
        f"`python benchmarks/export_graphs.py`, {platform.machine()}, 2 cores shared with other work, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f". Random weights, opset 18, {NUM_SAMPLES} pictures and texts of the bundled corpus at batch sizes "
        + f"{', '.join(map(str, BATCH_SIZES))}, and the hostile inputs.",
        "",
        "Random weights prove the graph, never accuracy; int8's gate means nothing for them, so only its "
        "difference is shown. Megabytes: image + text; *: weights beyond 2 GB stand in a file beside the graph. "
        "Seconds: to write both precisions. Tokenizers of a hub (SigLIP's, RoBERTa's) are stand-ins of "
        "single bytes, given as `--tokenizer` takes them; RoBERTa's tower is that of the package transformers.",
        "",
        "| model | input | resize | seconds | fp32 MB | fp32 verdict | difference | cosine | int8 MB "
        "| int8 difference | bias |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        fp32, int8 = row["fp32"], row["int8"]
        lines.append(
            f"| {row['model']} | {row['size']} px | {row['resize']} | {row['seconds']:.0f} "
            f"| {_sizes(fp32)} | {'passed' if fp32['passed'] else 'FAILED'} | {fp32['difference']:.1e} "
            f"| {fp32['cosine']:.8f} | {_sizes(int8)} | {int8['difference']:.1e} "
            f"| {'–' if row['bias'] is None else row['bias']} |"
        )
    return "\n".join(lines) + "\n"


def _sizes(found: dict[str, Any]) -> str:
    return " + ".join(f"{size:.0f}" for size in found["megabytes"]) + ("*" if found["beside"] else "")


if __name__ == "__main__":
    main()
