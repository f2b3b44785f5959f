"""The artifact's manifest: all that serving and the client know of an exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ModelError
from .files import sha256_file, write_text
from .first_fault import first_fault
from .golden import Golden
from .openvino_encoder import INFERENCE_PRECISIONS, InferencePrecision
from .pixels import PixelSpec
from .text import TextSpec
from .zero_shot import Probabilities, probabilities_of

MANIFEST_FILE = "manifest.json"

# below the artifact folder, so that a manifest from elsewhere can't make the server copy other files
InnerPath = Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8_static", "fp8"]
Format = Literal["onnx", "openvino", "tensorrt", "tensorrt_rtx"]
Role = Literal[
    "image", "text", "image_encoder", "text_encoder", "image_preprocess", "text_preprocess", "image_detector"
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderFile(_Frozen):
    """One exported encoder. Its only input is `input_name`, its only output `output_name`.

    image: uint8 [B, H, W, 3] → float32 [B, D]; text: int32 [B, T] → float32 [B, D]; rows of unit norm.
    """

    file: InnerPath = Field(description="path of the graph or plan, relative to the artifact folder")
    sha256: Sha256
    input_name: str
    output_name: str
    data_file: InnerPath | None = Field(
        default=None, description="weights beyond 2 GB; the graph names this file, so it stays in its folder"
    )
    data_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _data_belongs_to_the_graph(self) -> Self:
        if (self.data_file is None) != (self.data_sha256 is None):
            raise ValueError("data_file and data_sha256 belong together: give both or none")
        if self.data_file is not None and Path(self.data_file).parent != Path(self.file).parent:
            raise ValueError(f"data_file {self.data_file} must stand in the folder of {self.file}")
        return self

    def files(self) -> dict[str, str]:
        """The encoder's files, relative to the artifact folder, with their SHA-256."""
        found = {self.file: self.sha256}
        if self.data_file is not None and self.data_sha256 is not None:
            found[self.data_file] = self.data_sha256
        return found


class Verdict(_Frozen):
    """The outcome of comparing an exported model with the torch model it came from."""

    passed: bool
    max_abs_difference: float | None = Field(
        description="largest absolute difference of any component; None: the engine was not run"
    )
    min_cosine: float | None = Field(description="None: the engine was not run")
    min_centred_cosine: float | None = Field(
        default=None, description="least cosine once the reference's mean is taken off; None: not defined"
    )
    num_images: int = Field(description="how many were compared; 0: the engine was not run")
    num_texts: int
    report_file: InnerPath = Field(description="path of the full report, relative to the artifact folder")
    largest_batch: int | None = Field(
        default=None,
        gt=0,
        description="largest batch that was compared; None: not known, or the engine was not run",
    )
    not_checked: tuple[str, ...] = Field(
        default=(), description="what the exporting machine could not check, a line each"
    )


class BatchProfile(_Frozen):
    """The batch sizes that a plan takes: from `min` to `max`, fastest at `opt`."""

    min: int = Field(gt=0)
    opt: int = Field(gt=0)
    max: int = Field(gt=0)


def missing_batch(profiles: Sequence[BatchProfile]) -> int | None:
    """The smallest batch size, below the profiles' largest, that no profile covers; None if all are covered."""
    covered = 0
    for profile in sorted(profiles, key=lambda profile: profile.min):
        if profile.min > covered + 1:
            return covered + 1
        covered = max(covered, profile.max)
    return None


class EngineBuild(_Frozen):
    """How a plan was built, and the only environment in which it runs. Profiles cover every batch size from 1."""

    builder: str = Field(description="tensorrt or tensorrt_rtx")
    builder_version: str
    gpu: str | None = Field(default=None, description="None: built without one")
    driver: str | None = None
    profiles: tuple[BatchProfile, ...] = Field(min_length=1)
    compute_capabilities: tuple[str, ...] = Field(
        default=(), description="GPUs that it was built for, where that was asked for"
    )
    onnx_sha256: tuple[Sha256, Sha256] = Field(description="of the graphs of both encoders, image first")

    @model_validator(mode="after")
    def _every_batch_has_a_profile(self) -> Self:
        if (batch := missing_batch(self.profiles)) is not None:
            raise ValueError(f"no profile takes a batch of {batch}, and a server puts together all sizes")
        return self

    @property
    def profile(self) -> BatchProfile:
        """All profiles as one range; its `opt` is the first's."""
        return BatchProfile(min=1, opt=self.profiles[0].opt, max=max(profile.max for profile in self.profiles))


class Engine(_Frozen):
    """Both encoders in one format and precision, with the verdict on them."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$", description="such as onnx_int8")
    format: Format = Field(description="what runs it; openvino: OpenVINO, from the files of an ONNX engine")
    precision: Precision
    image_encoder: EncoderFile
    text_encoder: EncoderFile
    verdict: Verdict
    build: EngineBuild | None = Field(default=None, description="of a plan; None for ONNX")
    inference_precision: InferencePrecision | None = Field(
        default=None,
        description="what OpenVINO computed in, read back while it was compared; None: another format",
    )
    pictures_per_s: float | None = Field(
        default=None, gt=0, description="of the image encoder, measured; None: not measured"
    )

    @model_validator(mode="after")
    def _openvino_says_what_it_computes_in(self) -> Self:
        wanted = INFERENCE_PRECISIONS.get(self.precision) if self.format == "openvino" else None
        if self.inference_precision != wanted:
            shown = f"{self.format} engine of precision {self.precision}"
            raise ValueError(f"inference_precision is {self.inference_precision}, for an {shown} it is {wanted}")
        if self.format == "openvino" and wanted is None:
            raise ValueError(f"OpenVINO has no engine of precision {self.precision}")
        return self

    def files(self) -> dict[str, str]:
        """The engine's files, relative to the artifact folder, with their SHA-256."""
        return self.image_encoder.files() | self.text_encoder.files()


class DetectorAgreement(_Frozen):
    """How an engine's embeddings are judged, beside torch's of the same pictures."""

    num_pictures: int = Field(gt=0)
    same_known: float = Field(ge=0, le=1, description="share of them with the same decision")
    max_score_difference: float = Field(ge=0, description="in the detector's own scale")


class CarriedDetector(_Frozen):
    """A detector of the artifact's model, which is served behind the image encoder.

    The graph takes float32 [B, D] and uint8 [B, 256], and gives the same again, bool [B, 1] and float32 [B, 1];
    their names are in `protoclip.contract.served_detector`.
    """

    file: InnerPath = Field(description="as `protoclip detect fit` wrote it, relative to the artifact folder")
    sha256: Sha256
    graph_file: InnerPath = Field(description="the same as ONNX")
    graph_sha256: Sha256
    kind: str = Field(min_length=1)
    threshold: float = Field(description="from which score on a picture is known")
    accept: float = Field(ge=0.5, lt=1, description="share of known pictures that the threshold accepts")
    agreement: dict[str, DetectorAgreement] = Field(description="by the engine's name, of those that were run")

    def files(self) -> dict[str, str]:
        """Its files, relative to the artifact folder, with their SHA-256."""
        return {self.file: self.sha256, self.graph_file: self.graph_sha256}


class Manifest(_Frozen):
    """What an artifact folder holds; written by export, read by serving and by the client."""

    schema_version: Literal[2] = 2
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
    engines: tuple[Engine, ...] = Field(min_length=1, description="the same model in several forms")
    default_engine: str = Field(description="the one that is served unless another is asked for")
    temperature: float = Field(
        gt=0, description="exp(logit_scale), as the model computes with it: cosines times this are the logits"
    )
    logit_bias: float | None = Field(default=None, description="summand of a sigmoid model's logits")
    probabilities: Probabilities = Field(
        description="softmax over the classes, or for a sigmoid model sigmoid of each class's logit"
    )
    opset: int
    ir_version: int
    golden: Golden | None = Field(
        default=None, description="what a server has to answer before it serves this; None: an earlier version's"
    )
    detector: CarriedDetector | None = Field(
        default=None, description="says whether a picture is of a known kind; None: nothing does"
    )
    versions: dict[str, str] = Field(description="packages that made the artifact")
    created_at: str

    @model_validator(mode="before")
    @classmethod
    def _earlier_manifests_leave_probabilities_out(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "probabilities" in values:
            return values
        return values | {"probabilities": probabilities_of(values.get("logit_bias"))}

    @model_validator(mode="after")
    def _sigmoid_has_a_bias(self) -> Self:
        if self.probabilities == "sigmoid" and self.logit_bias is None:
            raise ValueError("probabilities is sigmoid, which needs a logit_bias")
        return self

    @model_validator(mode="after")
    def _engines_have_names_of_their_own(self) -> Self:
        names = [engine.name for engine in self.engines]
        if len(set(names)) < len(names):
            raise ValueError(f"two engines have one name: {', '.join(names)}")
        if (file := _file_of_two_contents(self.engines)) is not None:
            raise ValueError(f"two entries give {file} another SHA-256 each")
        if self.default_engine not in names:
            raise ValueError(f"default_engine {self.default_engine!r} is none of {', '.join(names)}")
        if self.engine.format != "onnx" and not self.engine.verdict.passed:
            kind = "an OpenVINO engine" if self.engine.format == "openvino" else "a plan"
            raise ValueError(f"default_engine {self.default_engine!r} is {kind} without a verdict that it passed")
        return self

    @property
    def engine(self) -> Engine:
        """The default engine."""
        return self.engine_named(self.default_engine)

    def engine_named(self, name: str) -> Engine:
        """The engine called `name`; raises ModelError, naming those there are, where there is none."""
        for engine in self.engines:
            if engine.name == name:
                return engine
        there = ", ".join(engine.name for engine in self.engines)
        raise ModelError(f"no engine {name!r} in this artifact: it has {there}")

    def model_name(self, role: Role, engine: str | None = None) -> str:
        """Name under which Triton serves the part, for example `emoji_ab12cd_image`.

        Of another engine than the default one, its name stands in it, `emoji_ab12cd_onnx_int8_image`, so that both
        may be served side by side.
        """
        other = "" if engine in (None, self.default_engine) else f"_{engine}"
        return f"{self.name}_{self.fingerprint[:6]}{other}_{role}"

    def with_speeds(self, pictures_per_s: Mapping[str, float], default_engine: str) -> Manifest:
        """The same with new speeds of the engines named, and another default.

        Raises:
            ValidationError: there is no such engine, or it can't be the default.
        """
        engines = tuple(
            engine.model_copy(update={"pictures_per_s": pictures_per_s.get(engine.name, engine.pictures_per_s)})
            for engine in self.engines
        )
        changed = self.model_copy(update={"engines": engines, "default_engine": default_engine})
        return Manifest.model_validate(changed.model_dump())

    def save(self, folder: Path) -> None:
        """Writes `manifest.json` into `folder` atomically."""
        # An earlier version, which knows no detector, reads the manifests that have none.
        without = {"detector"} if self.detector is None else None
        write_text(folder / MANIFEST_FILE, self.model_dump_json(indent=2, exclude=without) + "\n")


def _file_of_two_contents(engines: Sequence[Engine]) -> str | None:
    known: dict[str, str] = {}
    entries = [entry.files() for engine in engines for entry in (engine.image_encoder, engine.text_encoder)]
    for file, sha256 in (item for files in entries for item in files.items()):
        if known.setdefault(file, sha256) != sha256:
            return file
    return None


def manifest_files(manifest: Manifest) -> Mapping[str, str]:
    """The artifact's files whose SHA-256 the manifest holds, with these."""
    files = {manifest.tokenizer_file: manifest.tokenizer_sha256}
    for engine in manifest.engines:
        files |= engine.files()
    if manifest.detector is not None:
        files |= manifest.detector.files()
    return files


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raises ModelError where one of `files`, with their SHA-256, is missing in `folder` or has other bytes."""
    for file, expected in files.items():
        if not (folder / file).is_file() or sha256_file(folder / file) != expected:
            raise ModelError(
                f"{folder / file}: missing, or not the file that was exported: export the model again"
            )


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
        raise ModelError(f"{path}: {first_fault(error)}: export the model again") from error
