"""Half an hour of load on a server, with bad inputs, clients that go away, other models and killed workers.

    python benchmarks/served_soak.py artifacts/a artifacts/b --result benchmarks/served_soak_2cores_202611.md

Both artifacts have the same name. Finds first how many requests a second the clients reach, then sends 80 % of
that. Every answer is compared with the one that the artifact gave in this process beforehand. Exit code 1 where
one was wrong or missing, or memory grew.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from served_process import FREE_PORTS, Served, start_serve, stop
from soak_clients import Clients, Tally
from soak_inputs import Inputs, Plan, Planned
from soak_page import Found, report
from soak_server import SAMPLE_S, Events, Watch, deploy

from protoclip import Client
from protoclip.contract.files import write_text
from protoclip.contract.manifest import Manifest, load_manifest
from serving.triton.repository import write_repository

DISCONNECT_S = 1.5
PROGRESS_S = 10.0
UNLOAD_S = 30.0
"""After a switch, until the model before is unloaded: clients follow within a fraction of it."""
AGAIN_S = 10.0
"""A switch that meets a start of the server is tried again after this time."""
ATTEMPTS = 6


class Switcher:
    """Lets the artifacts' name stand for the other one, in turns, and unloads the one before."""

    def __init__(self, served: Served, artifacts: list[Path], watch: Watch, events: Events) -> None:
        self._served, self._watch, self._events = served, watch, events
        self._artifacts = artifacts
        self._number = 0

    def switch(self) -> None:
        """One switch."""
        before = load_manifest(self._artifacts[self._number % len(self._artifacts)])
        self._number += 1
        artifact = self._artifacts[self._number % len(self._artifacts)]
        if self._done(str(artifact)):
            self._events.switches.append((self._watch.now_s(), _prefix(load_manifest(artifact))))
            time.sleep(UNLOAD_S)
            self._done("--remove", _prefix(before))

    def _done(self, *arguments: str) -> bool:
        for _ in range(ATTEMPTS):
            try:
                deploy(self._served, arguments)
                return True
            except RuntimeError as error:
                why = str(error)
                time.sleep(AGAIN_S)
        self._events.failed_switches.append(f"{self._watch.now_s():.0f} s: {' '.join(arguments)}: {why}")
        return False


def _prefix(manifest: Manifest) -> str:
    return manifest.model_name("image").removesuffix("_image")


def soak(given: argparse.Namespace, inputs: Inputs, models: dict[str, str], folder: Path) -> Found:
    """The whole run, on a server of its own."""
    write_repository(given.artifacts[0], folder / "repository")
    log, events = folder / "supervision.log", Events()
    name = load_manifest(given.artifacts[0]).name
    served = start_serve(folder / "repository", FREE_PORTS, log)
    try:
        clients = Clients({"gRPC": served.grpc_url, "HTTP": served.http_url}, name, inputs)
        saturation = _saturation(clients, inputs, given)
        rate = given.rate or given.share * saturation
        print(f"{saturation:.1f} requests/s without pauses; {given.minutes:g} minutes at {rate:.1f}", flush=True)
        began_s = time.monotonic()
        with Watch(served, events) as watch:
            leaving, killing = random.Random(f"leave {given.seed}"), random.Random(f"kill {given.seed}")
            watch.every(SAMPLE_S, watch.sample)
            watch.every(DISCONNECT_S, lambda: watch.leave(leaving, inputs))
            watch.every(given.kill_s, lambda: watch.kill_worker(killing))
            watch.every(given.switch_s, Switcher(served, given.artifacts, watch, events).switch)
            plan, tally = Plan(inputs, given.minutes * 60, rate, given.seed), Tally()
            watch.every(PROGRESS_S, lambda: _tell(watch, plan, tally, events))
            clients.run(plan, tally)
        if watch.error is not None:
            raise watch.error
        duration_s = time.monotonic() - began_s
        afterwards = _afterwards(served, name, inputs)
        lines = log.read_text(encoding="utf-8").splitlines()
        return Found(given, tally, events, saturation, rate, models, plan.given, duration_s, lines, afterwards)
    finally:
        stop(served.process)
        print(log.read_text(encoding="utf-8"), file=sys.stderr)


def _tell(watch: Watch, plan: Plan, tally: Tally, events: Events) -> None:
    """A line on how it goes."""
    late_s = max(0.0, watch.now_s() - plan.given_s)
    counts = (
        f"{tally.requests} of {plan.given} requests, {len(tally.wrong)} wrong, {tally.failures.total()} failed"
    )
    done = f"{len(events.kills)} kills, {len(events.switches)} switches"
    print(f"{watch.now_s():.0f} s: {counts}, {late_s:.1f} s late, {done}", flush=True)


def _saturation(clients: Clients, inputs: Inputs, given: argparse.Namespace) -> float:
    """Requests a second that all clients reach together; a first run warms up."""
    rates = []
    for seconds in (5.0, given.saturation_s):
        began_s = time.monotonic()
        clients.run(Plan(inputs, seconds, None, given.seed + 1), tally := Tally())
        rates.append(tally.requests / (time.monotonic() - began_s))
        if tally.wrong or tally.failures:
            raise SystemExit(f"before anything happened: {tally.wrong[:3]} {tally.failures}")
    return rates[-1]


def _afterwards(served: Served, name: str, inputs: Inputs) -> list[str]:
    """What is wrong with the answers for all items, good and bad, over both protocols."""
    wrong = []
    for url in (served.grpc_url, served.http_url):
        with Client(url, model=name, timeout_s=60) as client:
            for role, embed in (("image", client.embed_images), ("text", client.embed_texts)):
                numbers = (*range(len(inputs.good[role])), *range(-len(inputs.bad[role]), 0))
                planned = Planned(None, role, numbers)
                answer = embed(inputs.items(planned), "return")
                wrong.append(inputs.mistake(planned, answer, client.model.fingerprint))
    return [each for each in wrong if each]


def main() -> int:
    """Runs it; 1 where something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs=2, help="two models of the same name")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.8, help="of saturation")
    parser.add_argument("--rate", type=float, help="requests a second, instead")
    parser.add_argument("--saturation-s", type=float, default=30.0, help="how long that is measured")
    parser.add_argument("--kill-s", type=float, default=180.0, help="a worker is killed so often")
    parser.add_argument("--switch-s", type=float, default=120.0, help="the model is switched so often")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    inputs = Inputs()
    models = {inputs.learn(artifact): _prefix(load_manifest(artifact)) for artifact in given.artifacts}
    if len(models) < 2:
        raise SystemExit("both artifacts are of the same model")
    with tempfile.TemporaryDirectory() as folder:
        found = soak(given, inputs, models, Path(folder))
    text = report(found)
    print(text)
    if given.result:
        write_text(given.result, text)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
