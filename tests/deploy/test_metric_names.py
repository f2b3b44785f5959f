"""Every query of dashboard and alerts, against the metrics that the real server and the real proxy print."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tritonclient.grpc as triton_grpc
from local_proxy import KEY, LocalProxy, metric_labels
from tritonclient.utils import InferenceServerException

from protoclip.client import Client

if TYPE_CHECKING:
    from serving.triton.launcher import LaunchedServer

yaml = pytest.importorskip("yaml", reason="PyYAML comes with other packages")
promql = pytest.importorskip("promql_parser", reason="the parser is not installed: make check-deploy")

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes" / "serving"
WITH_A_GPU = {"nv_gpu_utilization": {"gpu_uuid"}, "nv_gpu_memory_used_bytes": {"gpu_uuid"}}
"""Printed only where there is a GPU: their names are read from the server's program and its documentation."""
OF_PROMETHEUS = {"instance", "job", "le", "namespace", "pod"}
"""Labels that the scrape adds, and the one that a histogram has anyway."""


def dashboard() -> dict[str, Any]:
    return json.loads((COMPOSE / "grafana" / "dashboards" / "protoclip.json").read_text())


def queries() -> dict[str, str]:
    """By where they stand; Grafana's variable is a duration."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    }
    for group in yaml.safe_load((COMPOSE / "alerts.yaml").read_text())["groups"]:
        found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    return found | {"autoscaler": adapter_query()}


def adapter_query() -> str:
    """With what the adapter puts in."""
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    filled = {"Series": series, "LabelMatchers": 'namespace="search",pod=~"a|b"', "GroupBy": "pod"}
    return re.sub(r"<<\.(\w+)>>", lambda match: filled[match[1]], rule["metricsQuery"])


def selectors(expression: Any) -> Iterator[Any]:
    """The metrics that a query names, with their labels' matchers."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(expression, visit)
    return iter(found)


def grouped_by(expression: Any) -> set[str]:
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql.walk(expression, visit)
    return found


@pytest.fixture(scope="module")
def printed(measured_server: LaunchedServer, proxy: LocalProxy) -> dict[str, set[str]]:
    """After good and bad requests over both protocols, since some metrics begin with their first event."""
    with Client(measured_server.grpc_url) as client:
        client.embed_texts(["red", "blue"])
        client.embed_images([b"none", b"nor this"], errors="return")
    address, key = f"localhost:{proxy.port}", {"authorization": f"Bearer {KEY}"}
    with triton_grpc.InferenceServerClient(address, ssl=True, root_certificates=str(proxy.authority)) as client:
        with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
            client.infer("tiny_012345_text", [], headers=key)
        client.is_server_live(headers=key)
    headers = {"Inference_Header_Content_Length": "0", "X_Api_Key": KEY}
    for body, status in ((b"red", 200), (b"\xff", 400)):
        assert proxy.ask("POST", "/v2/models/tiny_012345_text/infer", body, **headers)[0] == status
    texts = []
    for url in (measured_server.metrics_url, f"http://127.0.0.1:{proxy.metrics_port}/stats/prometheus"):
        with urllib.request.urlopen(url, timeout=10) as answer:
            texts.append(answer.read().decode())
    return metric_labels("\n".join(texts)) | WITH_A_GPU | {"up": set()}


@pytest.mark.parametrize("place", queries())
def test_a_query_names_metrics_and_labels_that_are_printed(place: str, printed: dict[str, set[str]]) -> None:
    expression = promql.parse(queries()[place])
    named = list(selectors(expression))
    assert named
    labels = set[str]()
    for selector in named:
        assert selector.name in printed
        labels |= printed[selector.name]
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= printed[selector.name] | OF_PROMETHEUS
    assert grouped_by(expression) <= labels | OF_PROMETHEUS


def test_an_unknown_metric_would_be_found(printed: dict[str, set[str]]) -> None:
    (selector,) = selectors(promql.parse('sum(rate(nv_inference_request_errors{model="x"}[1m]))'))
    assert selector.name == "nv_inference_request_errors"
    assert selector.name not in printed


def test_counters_are_looked_at_as_rates(printed: dict[str, set[str]]) -> None:
    """But gauges and quantiles are not: their rate means nothing."""
    gauges = ("pending_request_count", "utilization", "used_bytes", "_summary_us", "up")
    for place, query in queries().items():
        rated: set[str] = set()

        def visit(node: Any, rated: set[str] = rated) -> bool:
            if isinstance(node, promql.MatrixSelector):
                rated.update(selector.name for selector in selectors(node))
            return True

        promql.walk(promql.parse(query), visit)
        for selector in selectors(promql.parse(query)):
            assert selector.name.endswith(gauges) is (selector.name not in rated), (place, selector.name)


def test_the_dashboard_shows_what_was_promised() -> None:
    """One data source, whose name is provisioned; panels that do not overlap; each says what it means."""
    (source,) = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"]["uid"] == source["uid"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it is in Debian's package prometheus")
    for file in (COMPOSE / "alerts.yaml", Path(__file__).with_name("alerts_test.yaml")):
        shutil.copy(file, tmp_path)
    command = [promtool, "test", "rules", str(tmp_path / "alerts_test.yaml")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
