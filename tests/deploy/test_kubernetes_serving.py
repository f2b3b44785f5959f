"""The Helm chart and the plain manifests: linted, rendered by Helm's own code, valid, and as they promise."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "protoclip-serve"
VERSIONS = ("1.30", "1.37")
"""Of Kubernetes: the oldest that the chart allows, and the newest known."""
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "proxy": {"proxy": {"enabled": True}},
    "keys": {"gateway": {"keysSecret": "shop-keys"}},
    "gpu": {"gpus": 1, "nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    "fixed": {
        "autoscaling": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "replicas": 3,
        "arguments": ["--name=shop"],
        "models": {"subPath": "shop"},
        "imagePullSecrets": [{"name": "registry"}],
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "podAnnotations": {"c": "d"},
        "affinity": {"podAntiAffinity": {}},
    },
}

yaml = pytest.importorskip("yaml", reason="PyYAML comes with other packages")
helm = pytest.importorskip("helm_python", reason="Helm is not installed: make check-deploy")
kubernetes = pytest.importorskip("kubernetes_validate", reason="the validator is not installed: make check-deploy")
renderer = runpy.run_path(str(DEPLOY / "helm" / "render.py"))


def objects(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By kind: there is one of each."""
    texts = renderer["render"](values).items()
    found = [yaml.safe_load(text) for file, text in texts if file.endswith(".yaml")]
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


def pod(values: dict[str, Any]) -> dict[str, Any]:
    return objects(values)["Deployment"]["spec"]["template"]["spec"]


def containers(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {container["name"]: container for container in pod(values)["containers"]}


def test_helm_lints_the_chart() -> None:
    """All that it has to say is that there is no icon."""
    found = helm.lint(CHART)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_the_chart_gives_is_valid(values: dict[str, Any], version: str) -> None:
    for item in objects(values).values():
        kubernetes.validate(item, version, strict=True)


@pytest.mark.parametrize("name", ["runtime.yaml", "storage.yaml", "trainjob.yaml", "serving/protoclip-serve.yaml"])
def test_plain_manifests_are_valid(name: str) -> None:
    known = 0
    for item in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()):
        if not item["apiVersion"].startswith("trainer.kubeflow.org/"):
            kubernetes.validate(item, VERSIONS[-1], strict=True)
            known += 1
    assert known or name in ("runtime.yaml", "trainjob.yaml")


def test_an_invalid_manifest_would_be_found() -> None:
    deployment = objects({})["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes.ValidationError, match="readinessProb"):
        kubernetes.validate(deployment, VERSIONS[-1], strict=True)


def test_the_plain_manifest_is_the_chart() -> None:
    """`make serving-manifests` writes it anew."""
    assert (DEPLOY / "kubernetes" / "serving" / "protoclip-serve.yaml").read_text() == renderer["manifest"]()


def test_the_proxy_is_that_of_compose() -> None:
    """But in the server's own pod."""
    ours = (DEPLOY / "compose" / "envoy.yaml").read_text().replace("{address: serve,", "{address: 127.0.0.1,")
    assert (CHART / "files" / "envoy.yaml").read_text() == ours
    assert objects(VALUES["proxy"])["ConfigMap"]["data"]["envoy.yaml"] == ours


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_pods_are_locked_down(values: dict[str, Any]) -> None:
    spec = pod(values)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert not re.search(r":latest$", container["image"])
    assert {"mountPath": "/dev/shm", "name": "shared-memory"} in spec["containers"][0]["volumeMounts"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    for container in spec["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_probes_ask_for_an_inference_but_liveness_for_the_supervisor() -> None:
    serve = containers({})["serve"]
    for probe, path in (("startup", "ready"), ("readiness", "ready"), ("liveness", "live")):
        assert serve[f"{probe}Probe"]["httpGet"]["path"] == f"/v2/health/{path}"
    assert containers({"startSeconds": 60})["serve"]["startupProbe"]["failureThreshold"] == 12


@pytest.mark.parametrize("drain", [15, 60])
def test_a_pod_leaves_the_service_before_it_stops(drain: int) -> None:
    values = {"drainSeconds": drain} | VALUES["proxy"]
    waits = {
        name: container["lifecycle"]["preStop"]["sleep"]["seconds"]
        for name, container in containers(values).items()
    }
    assert waits == {"serve": drain, "proxy": drain + 10}
    assert pod(values)["terminationGracePeriodSeconds"] == drain + 30


def test_further_arguments_follow_the_command_of_the_image() -> None:
    command = re.findall(r"^CMD (.+)$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert containers(VALUES["fixed"])["serve"]["args"] == [*json.loads(command), "--name=shop"]
    assert "args" not in containers({})["serve"]


def test_ports_have_one_name_each_everywhere() -> None:
    for values in VALUES.values():
        found = objects(values)
        named = {port["name"] for container in pod(values)["containers"] for port in container["ports"]}
        used = {port["targetPort"] for port in found["Service"]["spec"]["ports"]}
        if "NetworkPolicy" in found:
            rules = found["NetworkPolicy"]["spec"]["ingress"]
            used |= {port["port"] for rule in rules for port in rule["ports"]}
        assert used <= named


def test_behind_the_proxy_nothing_else_is_reached() -> None:
    found = objects(VALUES["proxy"])
    assert [port["port"] for port in found["Service"]["spec"]["ports"]] == [8443]
    clients, monitoring = found["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["https"]
    assert [port["port"] for port in monitoring["ports"]] == ["metrics", "proxy-metrics"]
    assert found["NetworkPolicy"]["spec"]["egress"] == []


def test_everything_selects_the_pods() -> None:
    found = objects({})
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == found["Deployment"]["metadata"]["name"]
    assert "replicas" not in found["Deployment"]["spec"]
    assert objects(VALUES["fixed"])["Deployment"]["spec"]["replicas"] == 3


def test_the_autoscaler_reads_what_the_adapter_gives() -> None:
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes/serving/prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    (metric,) = objects({})["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"sharedMemory": "1"}, "sharedMemory"),
        ({"networkPolicy": {"clients": []}}, "clients"),
        ({"gpus": "one"}, "gpus"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=named):
        renderer["render"](values)


def test_keys_of_the_gateway_are_a_file_of_a_secret() -> None:
    serve = containers(VALUES["keys"])["serve"]
    assert serve["args"][-1] == "--keys-file=/etc/protoclip/keys"
    (mount,) = (mount for mount in serve["volumeMounts"] if mount["name"] == "gateway-keys")
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/protoclip", True)
    (volume,) = (volume for volume in pod(VALUES["keys"])["volumes"] if volume["name"] == "gateway-keys")
    assert volume["secret"]["secretName"] == "shop-keys"


def test_the_service_is_the_gateway_and_grpc_by_choice() -> None:
    assert [port["name"] for port in objects({})["Service"]["spec"]["ports"]] == ["gateway"]
    both = objects({"service": {"grpc": True}})
    assert [port["name"] for port in both["Service"]["spec"]["ports"]] == ["gateway", "grpc"]
    assert [port["port"] for port in both["NetworkPolicy"]["spec"]["ingress"][0]["ports"]] == ["gateway", "grpc"]
