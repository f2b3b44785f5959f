"""The detector in an artifact: its file, its graph, and the manifest's entry."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.graphs.detector_graph import write_detector_graph
from export.graphs.detector_runtime import open_detector_graph
from export.parity.detector_agreement import Judges
from export.parity.report import EngineReport
from protoclip.contract.errors import ConfigError, ModelError
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import CarriedDetector, DetectorAgreement
from protoclip.detection.detector import Detector

FILE, GRAPH_FILE = "detector/known.detector", "detector/detector.onnx"


@dataclass(frozen=True)
class GivenDetector:
    """A detector that is to be carried, and the file that it was read from."""

    path: Path
    detector: Detector

    def check_model(self, fingerprint: str, source: str, embedding_dim: int) -> None:
        """Raises ConfigError where it is for embeddings of another model, or of another width."""
        if self.detector.dim != embedding_dim:
            raise ConfigError(
                f"{self.path}: a detector of {self.detector.dim} dimensions, and {source} embeds in "
                f"{embedding_dim}: fit one on an index of this model"
            )
        try:
            self.detector.check_model(fingerprint, source)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error


def open_detector(path: Path) -> GivenDetector:
    """Reads the file of a detector.

    Raises:
        ModelError: it can't be read, or is damaged.
        ConfigError: it has no threshold yet.
    """
    found = GivenDetector(Path(path), Detector.open(path))
    try:
        _ = found.detector.threshold
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return found


def write_detector(given: GivenDetector, folder: Path) -> Judges:
    """Writes file and graph below `folder`, and opens the graph.

    Raises:
        ConfigError: the detector is too large for a graph, or its file has become another one's.
        ModelError: the graph can't be run here.
    """
    (folder / FILE).parent.mkdir()
    shutil.copyfile(given.path, folder / FILE)
    # Read again: a model may load for minutes, and what is copied is what the file has become meanwhile.
    detector = Detector.open(folder / FILE)
    if _told(detector) != _told(given.detector):
        raise ConfigError(f"{given.path}: has changed since it was read: export the model again")
    write_detector_graph(detector, folder / GRAPH_FILE)
    return _judges(detector, folder / GRAPH_FILE)


def open_carried(folder: Path, carried: CarriedDetector, fingerprint: str) -> Judges:
    """The detector of an artifact of that fingerprint, whose files were checked.

    Raises:
        ModelError: one of its files can't be read or run here, or the manifest says something else of it.
    """
    path = folder / carried.file
    detector = Detector.open(path)
    found = (detector.fingerprint, detector.kind, detector.threshold.value, detector.threshold.accept)
    if found != (fingerprint, carried.kind, carried.threshold, carried.accept):
        raise ModelError(f"{path}: not the detector that the manifest speaks of: export the model again")
    return _judges(detector, folder / carried.graph_file)


def describe_detector(given: GivenDetector, folder: Path, reports: Sequence[EngineReport]) -> CarriedDetector:
    """The manifest's entry for what `write_detector` wrote; `reports` are those of the engines that are kept."""
    threshold = given.detector.threshold
    return CarriedDetector(
        file=FILE,
        sha256=sha256_file(folder / FILE),
        graph_file=GRAPH_FILE,
        graph_sha256=sha256_file(folder / GRAPH_FILE),
        kind=given.detector.kind,
        threshold=threshold.value,
        accept=threshold.accept,
        agreement={
            report.name: DetectorAgreement(
                num_pictures=report.detector.num_pictures,
                same_known=report.detector.same_known,
                max_score_difference=report.detector.max_score_difference,
            )
            for report in reports
            if report.detector is not None
        },
    )


def _told(detector: Detector) -> tuple[object, ...]:
    """What was checked of it, and what the manifest says of it."""
    return detector.fingerprint, detector.dim, detector.kind, detector.maybe_threshold


def _judges(detector: Detector, graph: Path) -> Judges:
    return Judges(detector.score, detector.threshold.value, open_detector_graph(graph))
