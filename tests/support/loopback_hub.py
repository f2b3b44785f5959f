"""A plugin of pytest: a hub on the loopback, which answers what the Hugging Face hub's client asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "c0ffee" + 34 * "0"
# What is published as ViT-B-32: minutes suffice for it.
SMALL_VIT = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
LARGE_SUFFIXES = (".safetensors", ".bin", ".pt")


@dataclass
class LoopbackHub:
    """The hub: repositories are the folders `ORG/NAME` in `root`.

    Attributes:
        requests: method and path of what was asked, in order.
        gated: repositories that ask for a login.
        commit: the version that every repository has now.
    """

    root: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    commit: str = COMMIT

    def repository(self, name: str) -> Path:
        """A new repository's folder, to put files into."""
        folder = self.root / name
        folder.mkdir(parents=True)
        return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The hub that this process and those that it starts ask, with an empty cache of their own."""
    (tmp_path / "hub").mkdir()
    with serve_hub(tmp_path / "hub") as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub_home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield served


@pytest.fixture
def published_vit(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip's ViT-B-32 is a small one, whose weights `laion2b_s34b_b79k` are on the hub; names are its own."""
    from protoclip.encoders.registry import register_architectures
    from protoclip.encoders.torchvision_workaround import make_torchvision_importable

    make_torchvision_importable()
    import open_clip

    register_architectures()  # would read all of them anew
    known = {**open_clip.factory._MODEL_CONFIGS, "ViT-B-32": SMALL_VIT}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known)
    publish_model(hub, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32", seed=4)


def publish_model(
    hub: LoopbackHub,
    repository: str,
    model: str,
    *,
    seed: int = 0,
    pickled: bool = False,
    preprocess: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A repository with a model of random weights, as open_clip's own publishing makes it; returns its state.

    Args:
        pickled: the weights are `open_clip_pytorch_model.bin` in place of safetensors.
        preprocess: the `preprocess_cfg`.
        changes: of the `model_cfg`.
    """
    import torch
    from safetensors.torch import save_file

    from protoclip.encoders.model import create_module
    from protoclip.encoders.registry import model_config

    folder = hub.repository(repository)
    torch.manual_seed(seed)
    state = {name: tensor.contiguous() for name, tensor in create_module(model).state_dict().items()}
    if pickled:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    config: dict[str, Any] = {"model_cfg": {**model_config(model), **changes}}
    if preprocess is not None:
        config["preprocess_cfg"] = preprocess
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Random weights\n")
    return state


@contextmanager
def serve_hub(root: Path) -> Iterator[LoopbackHub]:
    hub = LoopbackHub(root)

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.served.requests.append(f"{self.command} {path}")
        if path.startswith("/api/"):
            self._facts(path.removeprefix("/api/models/"), with_body)
            return
        name, _, rest = path.strip("/").partition("/resolve/")
        self._file(name, rest.partition("/")[2], with_body)

    def _file(self, name: str, file: str, with_body: bool) -> None:
        folder = self.served.root / name
        if name in self.served.gated:
            self._refuse(401, "GatedRepo", with_body)
        elif not folder.is_dir():
            self._refuse(401, "RepoNotFound", with_body)
        elif not (folder / file).is_file():
            self._refuse(404, "EntryNotFound", with_body)
        else:
            self._send(folder / file, with_body)

    def _send(self, file: Path, with_body: bool) -> None:
        content = file.read_bytes()
        headers = {"X-Repo-Commit": self.served.commit, "Accept-Ranges": "bytes", "ETag": f'"{git_sha1(content)}"'}
        if file.suffix in LARGE_SUFFIXES:
            headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        start = self.headers.get("Range", "")
        if start.startswith("bytes="):
            content = content[int(start[6:].partition("-")[0]) :]
        self._write(206 if start else 200, content, headers, with_body)

    def _facts(self, name: str, with_body: bool) -> None:
        folder = self.served.root / name.partition("/revision/")[0]
        if not folder.is_dir():
            self._refuse(401, "RepoNotFound", with_body)
            return
        card = folder / "README.md"
        licences = (
            [line.partition(":")[2].strip() for line in card.read_text().splitlines() if "license:" in line]
            if (card.is_file())
            else []
        )
        facts = {
            "id": name,
            "sha": self.served.commit,
            "cardData": {"license": licences[0]} if licences else {},
            "tags": [f"license:{licence}" for licence in licences],
            "siblings": [{"rfilename": p.name, "size": p.stat().st_size} for p in sorted(folder.iterdir())],
        }
        self._write(200, json.dumps(facts).encode(), {"Content-Type": "application/json"}, with_body)

    def _refuse(self, status: int, code: str, with_body: bool) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": self.served.commit}
        self._write(status, b"{}", headers, with_body)

    def _write(self, status: int, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        # A connection that is kept would outlive the server, and a test without a network would have one.
        for name, value in {**headers, "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
