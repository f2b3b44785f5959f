"""A detector as an ONNX graph, which a server runs behind the image encoder.

`B` pictures, `D` embedding, `K` what they are compared with. It computes what `protoclip.detection` does in NumPy,
sums in float64 too, so that both decide alike.

    vector float32 [B, D], reason uint8 [B, 256] → embedding and error, the same,
                                                   known bool [B, 1], known_score float32 [B, 1]

`reason` is the preprocessing's: of a picture that was refused, `known` is false and the score is NaN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protoclip.contract.errors import ConfigError
from protoclip.contract.reasons import REASON_BYTES
from protoclip.contract.served_detector import DETECTOR_INPUTS, DETECTOR_OUTPUTS
from protoclip.detection.centres import Centres
from protoclip.detection.concepts import NEGATIVE_SCALE, Concepts
from protoclip.detection.detector import Detector
from protoclip.detection.gaussian import Gaussian
from protoclip.detection.mixture import TEMPERATURE, Mixture
from protoclip.detection.neighbours import Neighbours
from protoclip.detection.trained import TrainedMixture

from .graph_writer import GraphWriter
from .onnx_files import save_onnx

OPSET, IR_VERSION = 18, 8
LARGEST_BYTES = 1_000_000_000
"""Of what a detector learned; a graph in one file ends at 2 GiB."""
_SMALLEST_NORM = 1e-12
_LARGEST_EXPONENT = 700.0


def write_detector_graph(detector: Detector, path: Path) -> None:
    """Writes the graph of `detector`, whatever its kind.

    Raises:
        ConfigError: it has learned more than a graph holds.
        ModelError: the graph is not valid.
    """
    num_bytes = sum(array.nbytes for array in detector.scorer.arrays().values())
    if num_bytes > LARGEST_BYTES:
        raise ConfigError(
            f"the detector holds {num_bytes / 1e9:.1f} GB, and a served one {LARGEST_BYTES / 1e9:.0f} GB at most: "
            "fit it with fewer prototypes (--per-class)"
        )
    graph = GraphWriter()
    vector, reason = DETECTOR_INPUTS
    embedding, error, known, score = DETECTOR_OUTPUTS
    graph.node("Identity", vector, output=embedding)
    graph.node("Identity", reason, output=error)
    found = _score(graph, detector.scorer, _prepared(graph, detector, vector))
    first = graph.node("Gather", reason, graph.constant(np.array([0])), axis=1)
    zero = graph.constant(np.zeros(1, dtype=np.int32))
    # A reason begins with no zero, and a good picture's row is all zeros.
    good = graph.node("Equal", graph.int32(first), zero)
    above = graph.node("GreaterOrEqual", found, graph.constant(np.array([detector.threshold.value])))
    graph.node("And", above, good, output=known)
    nothing = graph.constant(np.array([np.nan], dtype=np.float32))
    graph.node("Where", good, graph.float32(found), nothing, output=score)
    vectors, reasons = (np.float32, detector.dim), (np.uint8, REASON_BYTES)
    model = graph.model(
        inputs={vector: vectors, reason: reasons},
        outputs={embedding: vectors, error: reasons, known: (np.bool_, 1), score: (np.float32, 1)},
        opset=OPSET,
        ir_version=IR_VERSION,
    )
    save_onnx(model, path, 2 * LARGEST_BYTES)


def _prepared(graph: GraphWriter, detector: Detector, vector: str) -> str:
    """`[B, D]` of unit norm, with the centre taken off."""
    wide = graph.float64(vector)
    unit = graph.float32(graph.node("Div", wide, _norm(graph, wide)))
    return _unit(graph, graph.node("Sub", unit, graph.constant(detector.centring.mean)))


def _unit(graph: GraphWriter, vectors: str) -> str:
    wide = graph.float64(vectors)
    return graph.float32(graph.node("Div", wide, _norm(graph, wide)))


def _norm(graph: GraphWriter, wide: str) -> str:
    """`[B, 1]`, a smallest number at least."""
    norm = graph.node("Sqrt", graph.reduce("ReduceSum", graph.node("Mul", wide, wide)))
    return graph.node("Max", norm, graph.constant(np.array([_SMALLEST_NORM])))


def _score(graph: GraphWriter, scorer: Any, vectors: str) -> str:
    """`[B, 1]` float64."""
    if isinstance(scorer, Neighbours):
        return _neighbours(graph, scorer, vectors)
    if isinstance(scorer, Gaussian):
        return _gaussian(graph, scorer, vectors)
    if isinstance(scorer, Centres):
        return _centres(graph, scorer, vectors)
    if isinstance(scorer, Concepts):
        return _concepts(graph, scorer, vectors)
    if isinstance(scorer, TrainedMixture):
        return _trained(graph, scorer, vectors)
    if isinstance(scorer, Mixture):
        return _mixture(graph, scorer, vectors)
    raise TypeError(f"no graph for {type(scorer).__name__}")


def _neighbours(graph: GraphWriter, scorer: Neighbours, vectors: str) -> str:
    nearest = graph.node(
        "TopK", _cosines(graph, vectors, scorer.kept), graph.constant(np.array([scorer.k])), axis=1, num_outputs=2
    )
    return graph.float64(graph.node("Gather", nearest, graph.constant(np.array([scorer.k - 1])), axis=1))


def _gaussian(graph: GraphWriter, scorer: Gaussian, vectors: str) -> str:
    centred = graph.node("Sub", vectors, graph.constant(scorer.mean))
    white = graph.float64(graph.node("MatMul", centred, graph.constant(scorer.whitening)))
    squares = graph.reduce("ReduceSum", graph.node("Mul", white, white))
    return graph.node("Div", squares, graph.constant(np.array([-float(len(scorer.mean))])))


def _centres(graph: GraphWriter, scorer: Centres, vectors: str) -> str:
    scale = graph.constant(np.array([scorer.scale]))
    logits = graph.node("Mul", graph.float64(_cosines(graph, vectors, scorer.centres)), scale)
    if scorer.reading == "energy":
        return graph.node("Div", graph.reduce("ReduceLogSumExp", logits), scale)
    return _largest_softmax(graph, logits)


def _concepts(graph: GraphWriter, scorer: Concepts, vectors: str) -> str:
    known = graph.float64(_cosines(graph, vectors, scorer.names))
    if not len(scorer.negatives):
        return _largest_softmax(graph, known)
    scale = graph.constant(np.array([NEGATIVE_SCALE]))
    negative = graph.float64(_cosines(graph, vectors, scorer.negatives))
    sums = [graph.reduce("ReduceLogSumExp", graph.node("Mul", cosines, scale)) for cosines in (negative, known)]
    beyond = graph.node("Min", graph.node("Sub", *sums), graph.constant(np.array([_LARGEST_EXPONENT])))
    one = graph.constant(np.ones(1))
    return graph.node("Div", one, graph.node("Add", one, graph.node("Exp", beyond)))


def _trained(graph: GraphWriter, scorer: TrainedMixture, vectors: str) -> str:
    for place, layer in enumerate(scorer.layers):
        product = graph.node("MatMul", vectors, graph.constant(layer.weight.T))
        vectors = graph.node("Add", product, graph.constant(layer.bias))
        if place < len(scorer.layers) - 1:
            vectors = graph.node("Relu", vectors)
    return _mixture(graph, scorer.mixture, _unit(graph, vectors))


def _mixture(graph: GraphWriter, scorer: Mixture, vectors: str) -> str:
    cosines = graph.float64(_cosines(graph, vectors, scorer.prototypes))
    if scorer.reading == "nearest":
        return graph.reduce("ReduceMax", cosines)
    shares = graph.node("Div", cosines, graph.constant(np.array([TEMPERATURE])))
    weights = graph.node("Softmax", shares, axis=-1)
    return graph.reduce("ReduceSum", graph.node("Mul", weights, cosines))


def _cosines(graph: GraphWriter, vectors: str, others: NDArray[np.float32]) -> str:
    """`[B, K]` float32, with `[K, D]`."""
    return graph.node("MatMul", vectors, graph.constant(others.T))


def _largest_softmax(graph: GraphWriter, logits: str) -> str:
    return graph.reduce("ReduceMax", graph.node("Softmax", logits, axis=-1))
