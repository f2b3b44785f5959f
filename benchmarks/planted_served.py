"""Plants mistakes into what is served, hashes made to fit, and says which named check finds each.

    python benchmarks/planted_served.py runs/demo --out benchmarks/planted_served_demo_202611.md

An artifact is exported once, in float32 and int8. Each mistake is a copy of it that `verify` judges, or a
repository of it on a real Triton that `verify --url` asks over gRPC and HTTP.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planted import Outcome, outcome_of, run, words

from export.artifact import export_artifact
from export.graphs.source import load_source
from export.parity.checks import failed_lines
from export.parity.report import Report
from export.parity.samples import Samples, pick_samples
from export.verify_artifact import verify_artifact
from export.verify_server import verify_server
from protoclip.cli.export.server import Credentials
from protoclip.cli.pairs import PairsOptions
from protoclip.contract.files import sha256_file
from protoclip.contract.manifest import MANIFEST_FILE, Manifest, Role, load_manifest
from protoclip.encoders.model import ClipModel
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository


@dataclass(frozen=True)
class Plant:
    """One mistake in an artifact's copy or in a written repository, and the checks that have to find it."""

    name: str
    spoil: Callable[[Path], object]
    found_by: frozenset[str]


def in_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the manifest's plain values in the artifact's folder."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        change(values)
        Manifest.model_validate(values).save(folder)

    return spoil


def in_tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes tokenizer.json; the manifest has its new hash."""

    def spoil(folder: Path) -> None:
        manifest = load_manifest(folder)
        path = folder / manifest.tokenizer_file
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        change(tokenizer)
        path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
        manifest.model_copy(update={"tokenizer_sha256": sha256_file(path)}).save(folder)

    return spoil


def swap_words(tokenizer: dict[str, Any]) -> None:
    """Two words of CLIP's vocabulary, of which no compared text has any, change places."""
    words_of = tokenizer["model"]["vocab"]
    one, other = "aquarium</w>", "thermometer</w>"
    words_of[one], words_of[other] = words_of[other], words_of[one]


without_end_token = in_tokenizer(lambda tokenizer: tokenizer["post_processor"]["single"].pop())


def engine_of_another(values: dict[str, Any], entry: int, of: int) -> None:
    """The engine's entry names the files of another one."""
    for encoder in ("image_encoder", "text_encoder"):
        values["engines"][entry][encoder] = values["engines"][of][encoder]


def replaced(role: Role, file: str, old: str, new: str) -> Callable[[Path], None]:
    """Other text in a file of a served model; the repository holds one artifact's."""

    def spoil(repository: Path) -> None:
        [folder] = [path for path in repository.iterdir() if path.name.endswith(f"_{role}")]
        text = (folder / file).read_text(encoding="utf-8")
        if old not in text:
            raise LookupError(f"{folder / file}: {old}")
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return spoil


swapped_colours = replaced(
    "image_preprocess",
    "1/model.py",
    "self._load_pixels(data, self._spec), ",
    "np.ascontiguousarray(self._load_pixels(data, self._spec)[..., ::-1]), ",
)
reversed_texts = replaced("text_preprocess", "1/model.py", 'data.decode("utf-8")', 'data.decode("utf-8")[::-1]')
other_cleaner = replaced("text_preprocess", "config.pbtxt", '\\"lower\\"', '\\"whitespace\\"')


def larger_batches(repository: Path) -> None:
    """Every served model takes twice the batches."""
    for path in repository.glob("*/config.pbtxt"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("max_batch_size: 64", "max_batch_size: 128"), encoding="utf-8")


IN_THE_ARTIFACT = (
    Plant("none (the right artifact)", lambda folder: None, frozenset()),
    Plant("end token removed from tokenizer.json", without_end_token, frozenset({"tokens"})),
    Plant("two words of tokenizer.json changed places", in_tokenizer(swap_words), frozenset({"tokens"})),
    Plant(
        "another text cleaner",
        in_manifest(lambda values: values["text"].update(cleaner="whitespace")),
        frozenset({"text", "tokens"}),
    ),
    Plant(
        "another temperature",
        in_manifest(lambda values: values.update(temperature=values["temperature"] * 0.9)),
        frozenset({"temperature"}),
    ),
    Plant(
        "another embedding_dim",
        in_manifest(lambda values: values.update(embedding_dim=values["embedding_dim"] - 1)),
        frozenset({"embedding_dim"}),
    ),
    Plant(
        "a sigmoid's bias for a softmax model",
        in_manifest(lambda values: values.update(logit_bias=-10.0, probabilities="sigmoid")),
        frozenset({"logit_bias", "probabilities"}),
    ),
    Plant(
        "another mean and std",
        in_manifest(lambda values: values.update(mean=[0.4, 0.4, 0.4], std=[0.4, 0.4, 0.4])),
        frozenset({"mean and std"}),
    ),
    Plant(
        "bilinear for bicubic",
        in_manifest(lambda values: values["pixels"].update(interpolation="bilinear")),
        frozenset({"pixels", "onnx_fp32, image, from files"}),
    ),
    Plant(
        "a larger batch in the verdict",
        in_manifest(lambda values: values["engines"][0]["verdict"].update(largest_batch=4096)),
        frozenset({"verdicts"}),
    ),
    Plant(
        "the fp32 entry names int8's files",
        in_manifest(lambda values: engine_of_another(values, 0, 1)),
        frozenset({"onnx_fp32, graphs", "onnx_fp32, image, batch 8", "onnx_fp32, text, batch 8"}),
    ),
    Plant(
        "the int8 entry names fp32's files",
        in_manifest(lambda values: engine_of_another(values, 1, 0)),
        frozenset({"onnx_int8, graphs"}),
    ),
)
IN_THE_SERVER = (
    Plant("none (the right repository)", lambda repository: None, frozenset()),
    Plant(
        "BGR for RGB in the served image model", swapped_colours, frozenset({"pictures", "pictures, one by one"})
    ),
    Plant(
        "texts turned round in the served text model", reversed_texts, frozenset({"texts", "texts, one by one"})
    ),
    Plant("another cleaner in the served text model", other_cleaner, frozenset({"texts, adversarial"})),
    Plant("larger batches than were compared", larger_batches, frozenset({"largest batch"})),
)


def failed_checks(report: Report) -> set[str]:
    """Names of the failed checks; those of an engine behind its name: `onnx_fp32, graphs`."""
    found = {line.split(":")[0] for line in failed_lines(report.checks)}
    for engine in report.engines:
        found |= {f"{engine.name}, {line.split(':')[0]}" for line in failed_lines(engine.checks)}
    return found


@contextmanager
def serving(artifact: Path, repository: Path, spoil: Callable[[Path], object]) -> Iterator[LaunchedServer]:
    """A real Triton on the artifact's repository, after `spoil` has changed it."""
    write_repository(artifact, repository)
    spoil(repository)
    with TritonServer(repository) as server:
        yield server


def judge_artifact(artifact: Path, clip: ClipModel, samples: Samples, plant: Plant) -> set[str]:
    """What `verify` finds in a copy of the artifact with the mistake."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "artifact"
        shutil.copytree(artifact, copy)
        plant.spoil(copy)
        return failed_checks(verify_artifact(copy, clip, samples))


def judge_server(artifact: Path, clip: ClipModel, samples: Samples, plant: Plant) -> set[str]:
    """What `verify --url` finds at a server whose repository has the mistake."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(artifact, Path(folder) / "repository", plant.spoil) as server,
    ):
        urls = (server.grpc_url, server.http_url)
        return failed_checks(verify_server(artifact, clip, samples, urls, Credentials().connect))


def expected_of(plant: Plant, served: bool) -> set[str]:
    """The checks' names as `failed_checks` gives them: over both protocols for a server."""
    if not served:
        return set(plant.found_by)
    return {f"served by {protocol}, {name}" for protocol in ("grpc", "http") for name in plant.found_by}


def study(source: Path, count: int) -> tuple[str, list[Outcome]]:
    """The table of all plants, in an artifact and in a server, and what became of them."""
    clip = load_source(source).clip
    samples = pick_samples(PairsOptions().load(), "the bundled corpus", count)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "artifact"
        export_artifact(clip, artifact, "planted", samples, precisions=["int8"])
        rows = [(plant, False, judge_artifact(artifact, clip, samples, plant)) for plant in IN_THE_ARTIFACT]
        rows += [(plant, True, judge_server(artifact, clip, samples, plant)) for plant in IN_THE_SERVER]
    return table(source, count, rows), [judged(*row) for row in rows]


def table(source: Path, count: int, rows: list[tuple[Plant, bool, set[str]]]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mistakes planted into what is served",
        "",
        f"`python benchmarks/planted_served.py {source} --samples {count}`: the model's artifact in float32 and "
        f"int8, with {count} pictures and texts of the bundled corpus. Hashes were made to fit each mistake. "
        "`protoclip verify` judged those in the artifact, and `protoclip verify --url`, over gRPC and HTTP on a "
        "real Triton, those in the server.",
        "",
        "| in | mistake | outcome | failed checks |",
        "|---|---|---|---|",
    ]
    for plant, served, found in rows:
        where = "server" if served else "artifact"
        lines.append(f"| {where} | {plant.name} | {judged(plant, served, found).word} | {words(found)} |")
    return "\n".join(lines) + "\n"


def judged(plant: Plant, served: bool, found: set[str]) -> Outcome:
    """Whether the right one passed, or the checks that have to find the mistake did."""
    return outcome_of(plant.name, expected_of(plant, served), found)


if __name__ == "__main__":
    run(__doc__, study, samples=256)
