"""Approximate search of 200,690 real icons, embedded by a model that was trained on them, asked in their names.

    make icons
    make approximate-icons

Trains protoclip-mini-48 (or takes a run of these icons, --run), exports it and builds an index of all icons; what
is in --out already is not done again. Then 1,000 icons are taken out of the index, as pictures that tuning never
saw; of the names, 2,000 are given to tuning and 1,000 others asked. Recall is measured beside `exact=True`, rates
beside exact search in faiss, in turns, in one process, and then of hnswlib and Milvus Lite.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from approximate_index import rates_beside_faiss, recall, shown
from numpy.typing import NDArray
from other_indexes import hnswlib_facts, milvus_lite_facts

from protoclip import Client, Index
from protoclip.contract.files import atomic_path, write_text
from protoclip.sources import ReadOptions, read_pairs

TUNED_WITH, UNSEEN = 2000, 1000
SEED = 14
BESIDE = ["hnswlib", "milvus-lite"]
Vectors = NDArray[np.float32]


def main() -> None:
    """Does what is missing in --out, measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the Parquet folder of make icons")
    parser.add_argument("--out", type=Path, default=Path(".cache/approximate_icons"))
    parser.add_argument("--steps", type=int, default=1000, help="of training, 256 pairs each")
    parser.add_argument("--run", type=Path, help="a run that was trained on these icons, instead of training here")
    parser.add_argument("--beside", nargs="*", choices=BESIDE, default=BESIDE)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    prepare(given.data, given.out, given.run, given.steps)
    queries = make_queries(given.data, given.out)
    found = {"tune": tune(given.out, queries["tuned_with"]), **measure(given.out, queries)}
    rows = np.stack([entry.vector for entry in Index.open(given.out / "icons.index").iterate()])
    asked = {"image": queries["image"], "text": queries["text"]}
    for name in given.beside:
        facts = hnswlib_facts(rows, asked) if name == "hnswlib" else milvus_lite_facts(rows, asked, given.out)
        found[f"beside {name}"] = facts
        tell(f"beside {name}", facts)
    if given.result is not None:
        trained = f"{given.steps} steps of 256 pairs" if given.run is None else f"the run {given.run.name}"
        write_text(given.result, page(found, trained))


def prepare(data: str, out: Path, trained: Path | None, steps: int) -> None:
    """Run, artifact and index, where they aren't yet."""
    run, artifact, index = trained or out / "run", out / "artifact", out / "icons.index"
    if not (run / "model.safetensors").is_file():
        settings = {
            "train.batch_size": 256,
            "train.steps": steps,
            "episode.size": 25_600,
            "clustering.num_prototypes": 1000,
            "validation.max_pairs": 1000,
        }
        words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        again = ["--resume"] if (run / "checkpoints").is_dir() else []
        command(out, "train", "--data", data, "--out", str(run), "--quiet", *words, *again)
    if not artifact.is_dir():
        command(out, "export", str(run), "--out", str(artifact), "--name", "icons")
    if not index.is_dir() or (index / "building.sqlite").exists():
        command(
            out, "index", "build", data, str(index), "--split", "all", "--url", str(artifact), "--timeout", "600"
        )


def command(out: Path, *words: str) -> None:
    """One command of protoclip, and how long it took."""
    began = time.monotonic()
    with (out / f"{words[0]}.log").open("wb") as log:
        subprocess.run([sys.executable, "-m", "protoclip", *words], stdout=log, stderr=log, check=True)
    tell(" ".join(words[:2]), {"s": time.monotonic() - began})


def make_queries(data: str, out: Path) -> dict[str, Vectors]:
    """Names to tune with and others to ask, and icons that are taken out of the index; made once."""
    path = out / "queries.npz"
    if not path.is_file():
        rng = np.random.default_rng(SEED)
        pairs = read_pairs(ReadOptions((data,), split="all"))
        names = sorted({text for texts in pairs.texts for text in texts})
        chosen = [names[row] for row in rng.permutation(len(names))[: TUNED_WITH + UNSEEN]]
        with Client(str(out / "artifact")) as client, Index.open(out / "icons.index") as index:
            texts = np.asarray(client.embed_texts(chosen))
            ids = [entry.id for entry in index.sample(len(index))]
            taken = [index.get(ids[row]) for row in rng.permutation(len(ids))[:UNSEEN]]
            kept = [entry for entry in taken if entry is not None]
            with atomic_path(path) as temporary, open(temporary, "wb") as stream:
                np.savez(
                    stream,
                    tuned_with=texts[:TUNED_WITH],
                    text=texts[TUNED_WITH:],
                    image=np.stack([entry.vector for entry in kept]),
                    ids=np.array([entry.id for entry in kept]),
                )
    with np.load(path) as found:
        queries = {name: found[name] for name in found.files}
    with Index.open(out / "icons.index") as index:
        index.remove(queries.pop("ids").tolist())
    return queries


def tune(out: Path, queries: Vectors) -> dict[str, Any]:
    """Tunes to a recall of 0.99."""
    began = time.monotonic()
    with Index.open(out / "icons.index") as index:
        tuned = index.tune(0.99, queries)
        found = {"entries": len(index), "dim": index.dim, "engine": tuned.engine, "s": time.monotonic() - began}
    found |= {"by_entry": str(tuned.by_entry), "by_other": str(tuned.by_other)}
    tell("tune", found)
    return found


def measure(out: Path, queries: dict[str, Vectors]) -> dict[str, dict[str, Any]]:
    """Recall of queries that tuning never saw, and rates beside exact search in faiss."""
    found: dict[str, Any] = {}
    with Index.open(out / "icons.index") as index:
        for kind in ("image", "text"):
            asked = queries[kind]
            for k in (10, 100):
                found[f"{kind}_recall_at_{k}"] = recall(index.search(asked, k), index.search(asked, k, exact=True))
        tell("recall", found)
        rates = rates_beside_faiss(index, {kind: queries[kind] for kind in ("image", "text")})
    tell("beside faiss", rates)
    return {"recall": found, "beside faiss": rates}


def page(found: dict[str, dict[str, Any]], trained: str) -> str:
    """The result."""
    import faiss

    lines = [
        "# Approximate search of real icons",
        f"`make approximate-icons`, {time.strftime('%B %Y')}: protoclip-mini-48, {trained},",
        f"Python {platform.python_version()}, faiss {faiss.__version__}, NumPy {np.__version__},",
        f"{platform.system()}.",
        "",
        "| step | what | |",
        "|---|---|---|",
    ]
    for step, values in found.items():
        lines += [f"| {step} | {name} | {shown(value)} |" for name, value in values.items()]
    return "\n".join([*lines, ""])


def tell(part: str, facts: dict[str, Any]) -> None:
    """One line on standard output."""
    print(part, json.dumps(facts), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
