"""The compose files: read by compose itself, hardened, and what they mount is there. Nothing is started."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
yaml = pytest.importorskip("yaml", reason="PyYAML comes with other packages")


def compose(*files: str, profiles: Sequence[str] = ()) -> dict[str, Any]:
    """As compose understands it: anchors and variables resolved, paths absolute."""
    program = Path(sys.executable).parent / "docker-compose"
    if not program.exists():
        pytest.skip("compose is not installed: make check-deploy")
    named = [word for file in files for word in ("-f", str(FOLDER / file))]
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    command = [program, "--project-directory", FOLDER, *named, *chosen, "config", "--format", "json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    return json.loads(found.stdout)


def test_every_service_is_hardened() -> None:
    services = compose("compose.yaml")["services"]
    assert set(services) == {"serve", "proxy", "prometheus", "grafana"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert ":" in service["image"] or "build" in service


def test_only_the_proxy_is_reached_from_elsewhere() -> None:
    whole = compose("compose.yaml")
    published = {
        (name, port["target"], port.get("host_ip"))
        for name, service in whole["services"].items()
        for port in service.get("ports", ())
    }
    assert published == {("proxy", 8443, None), ("grafana", 3000, "127.0.0.1")}
    assert whole["networks"]["inside"]["internal"] is True
    assert list(whole["services"]["serve"]["networks"]) == ["inside"]


def test_mounted_files_are_there_or_never_committed() -> None:
    """Keys, certificates and the password are the operator's."""
    whole = compose("compose.yaml")
    ignored = {line.rstrip("/") for line in (FOLDER / ".gitignore").read_text().split()}
    sources = {
        Path(volume["source"])
        for service in whole["services"].values()
        for volume in service["volumes"]
        if volume["type"] == "bind"
    } | {Path(secret["file"]) for secret in whole["secrets"].values()}
    secret = {source for source in sources if FOLDER / "secrets" in (source, *source.parents)}
    assert ignored == {"secrets"}
    assert len(secret) == 2
    for source in sources - secret:
        assert source.exists(), source


def test_names_and_ports_agree() -> None:
    services = compose("compose.yaml")["services"]
    scraped = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    proxy = (FOLDER / "envoy.yaml").read_text()
    addresses = re.findall(r"address: (\w+), port_value: (\d+)", proxy)
    exposed = re.findall(r"^EXPOSE (.+)$", (FOLDER.parents[1] / "Dockerfile").read_text(), re.MULTILINE)[0].split()
    targets = [
        target.split(":") for job in scraped for part in job["static_configs"] for target in part["targets"]
    ]
    assert {name for name, _ in [*addresses, *targets]} <= set(services)
    assert {port for name, port in [*addresses, *targets] if name == "serve"} == set(exposed)
    listening = {
        port
        for address, port in re.findall(r"address: ([\d.]+), port_value: (\d+)", proxy)
        if address != "127.0.0.1"
    }
    assert listening == {"8443", "9902"}


def test_a_gpu_is_added_by_a_file_of_its_own() -> None:
    (device,) = compose("compose.yaml", "compose.gpu.yaml")["services"]["serve"]["deploy"]["resources"][
        "reservations"
    ]["devices"]
    assert device == {"capabilities": ["gpu"], "driver": "nvidia", "count": 1}


def test_stores_are_apart_hardened_and_reached_from_this_machine_alone() -> None:
    whole = compose("compose.stores.yaml", profiles=("pgvector", "milvus"))
    assert set(whole["services"]) == {"pgvector", "milvus"}
    assert whole["name"] != compose("compose.yaml")["name"]
    for name, service in whole["services"].items():
        assert service["profiles"] == [name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert service["healthcheck"]["test"]
        assert re.search(r":[\w.-]*\d", service["image"]), "a version, or it is another one tomorrow"
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}
        assert [volume["type"] for volume in service["volumes"]] == ["volume"]
    secret = Path(whole["secrets"]["postgres_password"]["file"])
    assert secret.parent == FOLDER / "secrets"
    assert "POSTGRES_PASSWORD" not in whole["services"]["pgvector"]["environment"]
