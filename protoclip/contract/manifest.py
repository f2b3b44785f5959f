"""The artifact's manifest: all that serving and the client know of an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ModelError
from .files import write_text
from .pixels import PixelSpec
from .text import TextSpec

MANIFEST_FILE = "manifest.json"

# below the artifact folder, so that a manifest from elsewhere can't make the server copy other files
InnerPath = Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Role = Literal["image", "text", "image_encoder", "text_encoder", "image_preprocess", "text_preprocess"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderFile(_Frozen):
    """One exported encoder. Its only input is `input_name`, its only output `output_name`.

    image: uint8 [B, H, W, 3] → float32 [B, D]; text: int32 [B, T] → float32 [B, D]; rows of unit norm.
    """

    file: InnerPath = Field(description="path of the ONNX file, relative to the artifact folder")
    sha256: Sha256
    input_name: str
    output_name: str


class Verdict(_Frozen):
    """The outcome of comparing an exported model with the torch model it came from."""

    passed: bool
    max_abs_difference: float = Field(description="largest absolute difference of any component")
    min_cosine: float
    num_images: int
    num_texts: int
    report_file: InnerPath = Field(description="path of the full report, relative to the artifact folder")


class Manifest(_Frozen):
    """What an artifact folder holds; written by export, read by serving and by the client."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$", description="prefix of the served models' names")
    fingerprint: str = Field(pattern=r"^[0-9a-f]{6,64}$", description="identifies weights and preprocessing")
    source: str = Field(description="what was exported: a run's name or an open_clip model's")
    embedding_dim: int = Field(gt=0)
    pixels: PixelSpec
    mean: tuple[float, float, float] = Field(description="for information: the graph normalises inside")
    std: tuple[float, float, float]
    text: TextSpec
    tokenizer_file: InnerPath = "tokenizer.json"
    tokenizer_sha256: Sha256
    image_encoder: EncoderFile
    text_encoder: EncoderFile
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"] = "fp32"
    temperature: float = Field(gt=0, description="exp(logit_scale): cosines times this are the logits")
    logit_bias: float | None = None
    opset: int
    ir_version: int
    verdict: Verdict
    versions: dict[str, str] = Field(description="packages that made the artifact")
    created_at: str

    def model_name(self, role: Role) -> str:
        """Name under which Triton serves the part, for example `emoji_ab12cd_image`."""
        return f"{self.name}_{self.fingerprint[:6]}_{role}"

    def save(self, folder: Path) -> None:
        """Writes `manifest.json` into `folder` atomically."""
        write_text(folder / MANIFEST_FILE, self.model_dump_json(indent=2) + "\n")


def load_manifest(folder: Path) -> Manifest:
    """Reads and checks `folder/manifest.json`.

    Raises:
        ModelError: there is none, or it does not fit this version's schema.
    """
    path = Path(folder) / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{folder}: no {MANIFEST_FILE} here: name a folder that `protoclip export` wrote"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(the whole file)"
        reason = " ".join(first["msg"].split())
        raise ModelError(f"{path}: field {field}: {reason}: export the model again") from error
