"""The shims need their libraries only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import protoclip.integrations as integrations


def test_none_of_the_libraries_is_loaded_before_its_shim_is_used() -> None:
    code = (
        "import sys\nimport protoclip.integrations\n"
        "heavy = ('langchain_core', 'llama_index', 'haystack', 'fiftyone', 'torch', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "module", "package", "extra"),
    [
        ("LangChainEmbeddings", "langchain_embeddings", "langchain_core", "langchain"),
        ("LlamaIndexEmbedding", "llama_index_embedding", "llama_index", "llama-index"),
        ("HaystackTextEmbedder", "haystack_embedders", "haystack", "haystack"),
        ("FiftyOneModel", "fiftyone_model", "fiftyone", "fiftyone"),
    ],
)
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, f"protoclip.integrations.{module}", raising=False)
    for loaded in [other for other in sys.modules if other.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(integrations, name)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{name} needs the package {package}" in message
    assert f"[{extra}]" in message


def test_what_is_no_shim_is_no_attribute() -> None:
    assert "LangChainEmbeddings" in dir(integrations)
    with pytest.raises(AttributeError, match="HuggingFaceEmbeddings"):
        _ = integrations.HuggingFaceEmbeddings
