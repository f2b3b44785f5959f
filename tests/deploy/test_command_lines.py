"""Every command in the templates and on their page is one that torchrun and protoclip understand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_python
import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGE = Path(__file__).parents[2] / "docs" / "many-ranks.md"
TRAINER = "trainer.kubeflow.org/v1alpha1"


def documents(name: str) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with other packages")
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def commands() -> list[str]:
    """Lines of scripts and code blocks that train, whole, with values where the shell would put them."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    texts = [
        *blocks,
        *(path.read_text() for path in (DEPLOY / "torchrun" / "train.sh", DEPLOY / "slurm" / "train.sbatch")),
    ]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.search(r"(torchrun|protoclip train) ", line) and not line.startswith("#")]


def words_of(line: str) -> list[str]:
    line = line.replace('"$@"', "" if "--out" in line else "shop.toml --out runs/shop")
    line = re.sub(r"\$\{?\w+[^}\s\"]*\}?", "1", line).removesuffix("&")
    return shlex.split(line, comments=True)


@pytest.mark.parametrize("line", commands())
def test_a_command_is_understood(line: str) -> None:
    from torch.distributed.run import parse_args
    from typer.main import get_command

    from protoclip.cli import app

    words = words_of(line)
    if "torchrun" in words:
        found = parse_args(words[words.index("torchrun") + 1 :])
        assert (found.module, found.training_script) == (True, "protoclip")
        words = ["protoclip", *found.training_script_args]
    assert words[:2] == ["protoclip", "train"]
    train = get_command(app).commands["train"]  # type: ignore[attr-defined]
    train.make_context("train", words[2:])


def test_there_are_commands() -> None:
    assert len(commands()) >= 4


@pytest.mark.parametrize("script", ["torchrun/train.sh", "slurm/train.sbatch"])
def test_a_script_is_bash(script: str) -> None:
    subprocess.run(["bash", "-n", DEPLOY / script], check=True)


def test_the_trainjob_runs_in_a_runtime_that_keeps_its_checkpoints() -> None:
    (job,), (runtime,) = documents("trainjob.yaml"), documents("runtime.yaml")
    assert (job["apiVersion"], job["kind"]) == (TRAINER, "TrainJob")
    assert (runtime["apiVersion"], runtime["kind"]) == (TRAINER, "TrainingRuntime")
    reference = job["spec"]["runtimeRef"]
    assert (reference["kind"], reference["name"]) == (runtime["kind"], runtime["metadata"]["name"])
    assert "torch" in runtime["spec"]["mlPolicy"]
    jobs = runtime["spec"]["template"]["spec"]
    assert jobs["failurePolicy"]["maxRestarts"] > 0
    node = jobs["replicatedJobs"][0]
    # By this name and this label the trainer finds the container that it hands the environment to.
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod = node["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (node["name"], container["name"]) == ("node", "node")
    grace = {variable["name"]: variable["value"] for variable in container["env"]}[
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    ]
    assert int(grace) < pod["terminationGracePeriodSeconds"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims == {claim["metadata"]["name"] for claim in documents("storage.yaml")}
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    arguments = job["spec"]["trainer"]["args"]
    assert arguments[arguments.index("--out") + 1].startswith(places["runs"] + "/")
    assert arguments[arguments.index("train") + 1].startswith(places["data"] + "/")
    assert "--resume" in arguments


def test_the_trainjobs_command_plans_a_run(config: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """With the variables that the trainer sets, for one pod of one rank."""
    (job,) = documents("trainjob.yaml")
    trainer = job["spec"]["trainer"]
    places = {"/data/shop.toml": str(config), "/runs/shop": str(tmp_path / "run")}
    words = [places.get(word, word) for word in [*trainer["command"], *trainer["args"], "--dry-run", "--json"]]
    cluster = {"NNODES": 1, "NPROC_PER_NODE": 1, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29517}
    variables = {f"PET_{name}": str(value) for name, value in cluster.items()}
    words[0] = str(Path(sys.executable).with_name(words[0]))
    found = forked_python.run(words, env={**environment, **variables})
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["steps"] == 20
