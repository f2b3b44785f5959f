"""What an evaluation found: the schema of `evaluation.json`.

Shares are in [0, 1]; intervals are 95 % percentile bootstraps over groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protoclip.contract.errors import ModelError
from protoclip.contract.files import write_text
from protoclip.contract.first_fault import first_fault

EVALUATION_FILE = "evaluation.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Score(_Frozen):
    """A share of items, with its confidence interval."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    num_items: int = Field(gt=0)


class Retrieval(_Frozen):
    """Recall at k in both directions, by k."""

    image_to_text: dict[int, Score]
    text_to_image: dict[int, Score]


class Classification(_Frozen):
    """Accuracies for one class column, over the pictures that have a class."""

    num_classes: int = Field(description="classes to choose from: all of the training pairs and of all subsets")
    majority: float = Field(description="share of the subset's largest class: what a constant answer reaches")
    zero_shot: dict[str, Score] = Field(description="by way: a set of templates, or `members`")
    linear_probe: Score | None = Field(description="none in the subset that the probe was fitted on")
    neighbours: Score | None = Field(description="cosine k-NN; none in the subset that it remembers")
    mean_per_class: dict[str, Score] = Field(
        default_factory=dict,
        description="mean over classes of each class's accuracy, by zero-shot way, `linear_probe`, `neighbours`",
    )
    calibration_error: dict[str, float] = Field(
        default_factory=dict, description="expected calibration error in [0, 1] of zero-shot, by way"
    )
    few_shot: dict[int, Score] = Field(
        default_factory=dict,
        description="linear probes on so many training pictures of each class, mean of 3 draws",
    )


class Geometry(_Frozen):
    """Geometry of pictures and texts in the joint space; None where there are too few to measure."""

    gap: float
    alignment: float
    uniformity_image: float | None
    uniformity_text: float | None


class Subset(_Frozen):
    """One part of the data."""

    num_images: int
    num_texts: int = Field(description="M, distinct label texts of the subset's groups")
    num_skipped: int = Field(description="pictures that could not be read")
    retrieval: Retrieval
    classification: dict[str, Classification] = Field(description="by class column")
    geometry: Geometry


class ProbeChoice(_Frozen):
    """The probes' hyperparameters for one class column, chosen on held-out training groups, and their scores."""

    decay: float
    linear_validation: float
    k: int
    neighbours_validation: float


class ClusterAgreement(_Frozen):
    """How one modality's prototypes agree with a column of the training pairs."""

    side: Literal["image", "text"]
    column: str
    num_clusters: int
    num_items: int
    normalized_mutual_information: float
    adjusted_rand_index: float
    purity: float
    size_entropy: float


class Evaluation(_Frozen):
    """Everything that was measured."""

    schema_version: Literal[1] = 1
    source: str = Field(description="the run or model that was evaluated")
    model_name: str
    embedding_dim: int
    num_train: int = Field(description="training pairs that the probes and `members` were made from")
    subsets: dict[str, Subset] = Field(alias="cells", description="by name; `cells` in the file")
    probes: dict[str, ProbeChoice] = Field(description="by class column")
    clusters: tuple[ClusterAgreement, ...] = ()
    skipped: tuple[str, ...] = Field((), description="the first reasons why pictures could not be read")
    seconds: float
    created_at: str
    versions: dict[str, str]

    def save(self, path: Path) -> None:
        """Writes the JSON file atomically."""
        write_text(path, self.to_json() + "\n")

    def to_json(self) -> str:
        """What the file holds."""
        return self.model_dump_json(indent=2, by_alias=True)


def load_evaluation(path: Path) -> Evaluation:
    """Reads an `evaluation.json`.

    Raises:
        ModelError: there is none, or it is of another version.
    """
    try:
        return Evaluation.model_validate_json(Path(path).read_bytes())
    except OSError:
        raise ModelError(
            f"{path}: can't be read: write it with `protoclip evaluate {Path(path).parent}`"
        ) from None
    except ValidationError as error:
        raise ModelError(f"{path}: {first_fault(error)}: evaluate the run again") from None
