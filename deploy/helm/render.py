"""Writes deploy/kubernetes/serving/protoclip-serve.yaml: the chart with its default values, without Helm.

python deploy/helm/render.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHART = Path(__file__).parent / "protoclip-serve"
MANIFEST = Path(__file__).parents[1] / "kubernetes" / "serving" / "protoclip-serve.yaml"
HEADER = """\
# The chart of deploy/helm with its default values, written by `make serving-manifests`. For your cluster change a
# copy: image, claim, resources, and who may ask. HTTP and gRPC have neither TLS nor keys: those are the proxy's,
# which the chart adds (proxy.enabled), or your gateway's.
"""


def render(values: dict[str, Any], name: str = "protoclip", namespace: str = "default") -> dict[str, str]:
    """The chart's manifests by file name, as YAML; HelmValuesError where the schema refuses a value."""
    import helm_python

    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=name, namespace=namespace)
    return {Path(file).name: text for file, text in rendered.items() if text.strip()}


def manifest() -> str:
    """The default manifests as one file."""
    parts = [text.strip() for file, text in sorted(render({}).items()) if file.endswith(".yaml")]
    return HEADER + "\n---\n".join(parts) + "\n"


if __name__ == "__main__":
    fresh = MANIFEST.with_suffix(".new")
    fresh.write_text(manifest(), encoding="utf-8")
    fresh.rename(MANIFEST)
