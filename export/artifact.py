"""The artifact folder: ONNX encoders, tokenizer, manifest and verdict, written whole or not at all."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from protoclip.contract.errors import ConfigError, ModelError, VerdictError
from protoclip.contract.files import atomic_path, sha256_file, write_text
from protoclip.contract.manifest import MANIFEST_FILE, EncoderFile, Manifest, load_manifest
from protoclip.model import ClipModel

from .encoders import ImageEncoder, TextEncoder, example_pixels, example_tokens
from .fingerprint import fingerprint
from .progress import Progress, silent
from .report import VERDICT_FILE, Report
from .samples import Samples
from .to_onnx import DEFAULT_OPSET, IMAGE, TEXT, Border, check_opset, write_onnx
from .verify import verify_encoders

TOKENIZER_FILE = "tokenizer.json"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PACKAGES = ("protoclip", "torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy")


def export_artifact(
    clip: ClipModel,
    out: Path,
    name: str,
    samples: Samples,
    *,
    opset: int = DEFAULT_OPSET,
    random_weights: bool = False,
    allow_inaccurate: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Exports `clip` to the folder `out`, compares it with torch on `samples`, and writes manifest and verdict.

    `out` changes only at the very end: an export that fails or is killed leaves the artifact that
    stood there whole. An export that was refused by the gate stands at `<out>.failed`, without a
    manifest, so that nothing serves it by mistake.

    Args:
        name: prefix of the served models' names, `[a-z][a-z0-9_]*`.
        random_weights: nobody trained them; the verdict says that it proves the graph only.
        allow_inaccurate: write the artifact although the gate refuses it, marked as failed. Embeddings
            that are NaN or infinite are refused all the same.

    Raises:
        ConfigError: `name` or `opset` can't be used, or `out` holds something that is no artifact.
        DataError: a sample can't be used.
        ModelError: the model can't be exported.
        VerdictError: the export differs from torch by more than the gate allows.
    """
    check_target(out, name, opset)
    out = Path(out).resolve()
    identity = fingerprint(clip)
    with atomic_path(out) as folder:
        folder.mkdir()
        ir_version = _write_encoders(clip, folder, opset, identity, progress)
        write_text(folder / TOKENIZER_FILE, clip.tokenizer_json)
        report = verify_encoders(clip, folder, samples, random_weights=random_weights, progress=progress)
        write_text(folder / VERDICT_FILE, report.to_json())
        if not report.finite or not (report.passed or allow_inaccurate):
            _refuse(report, folder, out)
        manifest = _manifest(clip, folder, name, identity, report, (opset, ir_version))
        manifest.save(folder)
    return manifest


def verify_artifact(
    folder: Path, clip: ClipModel, samples: Samples, random_weights: bool = False, progress: Progress = silent
) -> Report:
    """Compares an artifact that was written earlier with the model it was made from.

    Raises:
        ModelError: the folder is no artifact, a file was changed since, or it was made from another model.
        DataError: a sample can't be used.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    for file, expected in manifest_files(manifest).items():
        if not (folder / file).is_file() or sha256_file(folder / file) != expected:
            raise ModelError(
                f"{folder / file}: missing, or not the file that was exported: export the model again"
            )
    if manifest.fingerprint != fingerprint(clip):
        raise ModelError(
            f"{folder}: was made from {manifest.source} with other weights or settings than {clip.source}"
        )
    return verify_encoders(clip, folder, samples, random_weights=random_weights, progress=progress)


def manifest_files(manifest: Manifest) -> Mapping[str, str]:
    """The artifact's files whose bytes the manifest vouches for, with their SHA-256."""
    encoders = (manifest.image_encoder, manifest.text_encoder)
    return {manifest.tokenizer_file: manifest.tokenizer_sha256, **{e.file: e.sha256 for e in encoders}}


def default_name(source: str | Path) -> str:
    """A name that `check_name` accepts, from a run folder's or an open_clip model's: `ViT-B-32` → `vit_b_32`."""
    plain = re.sub(r"[^a-z0-9]+", "_", Path(source).resolve().name.lower()).strip("_")
    return (plain if plain[:1].isalpha() else f"model_{plain}".strip("_"))[:41].rstrip("_")


def check_target(out: Path, name: str, opset: int) -> None:
    """Raises ConfigError for what `export_artifact` would refuse, before any model is loaded."""
    check_name(name)
    check_opset(opset)
    out = Path(out).resolve()
    _check_replaceable(out, MANIFEST_FILE)
    _check_replaceable(_failed_path(out), VERDICT_FILE)


def check_name(name: str) -> None:
    """Raises ConfigError where the manifest does not take `name`."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r} can't be used: lower-case letters, digits and _, a letter first, 41 at most, "
            f"for example {default_name(name)!r}"
        )


def _check_replaceable(folder: Path, mark: str) -> None:
    if folder.is_dir() and not (folder / mark).is_file() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds something else than an artifact: name a new folder with --out")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file: name a folder with --out")


def _failed_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.failed")


def _write_encoders(clip: ClipModel, folder: Path, opset: int, identity: str, progress: Progress) -> int:
    metadata = {"producer": f"protoclip {version('protoclip')}", "model": clip.source, "fingerprint": identity}
    encoders = (
        (ImageEncoder(clip), example_pixels(clip), IMAGE),
        (TextEncoder(clip), example_tokens(clip), TEXT),
    )
    ir_version = 0
    for done, (encoder, example, border) in enumerate(encoders):
        progress("writing ONNX", done, len(encoders))
        ir_version = write_onnx(encoder, example, folder / border.file, border, opset=opset, metadata=metadata)
    progress("writing ONNX", len(encoders), len(encoders))
    return ir_version


def _refuse(report: Report, folder: Path, out: Path) -> None:
    failed = _failed_path(out)
    with atomic_path(failed) as place:
        shutil.copytree(folder, place)
    more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
    way_out = (
        "`--allow-inaccurate` writes it all the same" if report.finite else "the weights or the graph are broken"
    )
    raise VerdictError(f"{report.failures[0]}{more}: see {failed / VERDICT_FILE}; {way_out}")


def _manifest(
    clip: ClipModel, folder: Path, name: str, identity: str, report: Report, opset_and_ir: tuple[int, int]
) -> Manifest:
    def encoder(border: Border) -> EncoderFile:
        return EncoderFile(
            file=border.file,
            sha256=sha256_file(folder / border.file),
            input_name=border.input_name,
            output_name=border.output_name,
        )

    return Manifest(
        name=name,
        fingerprint=identity,
        source=clip.source,
        embedding_dim=clip.embedding_dim,
        pixels=clip.pixels,
        mean=clip.mean,
        std=clip.std,
        text=clip.text,
        tokenizer_file=TOKENIZER_FILE,
        tokenizer_sha256=sha256_file(folder / TOKENIZER_FILE),
        image_encoder=encoder(IMAGE),
        text_encoder=encoder(TEXT),
        temperature=clip.temperature,
        logit_bias=clip.logit_bias,
        opset=opset_and_ir[0],
        ir_version=opset_and_ir[1],
        verdict=report.verdict(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
