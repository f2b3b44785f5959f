"""Colour profiles through a real Triton: as the manifest says, and as in this process."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from icc_profiles import DISPLAY_P3, matrix_profile
from PIL import Image

from protoclip import Client
from protoclip.contract.errors import ItemError
from protoclip.contract.pixels import PixelSpec
from serving.triton.launcher import LaunchedServer, TritonServer
from serving.triton.repository import write_repository


def with_profile(icc: bytes) -> bytes:
    colors = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(colors).save(stream, "PNG", icc_profile=icc)
    return stream.getvalue()


P3 = with_profile(matrix_profile(DISPLAY_P3))


@pytest.fixture(scope="module")
def managed_artifact(write_artifact: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(
        tmp_path_factory.mktemp("managed") / "artifact", pixels=PixelSpec(32, 32, color_management="srgb")
    )


def test_a_server_takes_colours_as_the_manifest_says(
    managed_artifact: Path, tiny_artifact: Path, triton: LaunchedServer, tmp_path: Path
) -> None:
    write_repository(managed_artifact, tmp_path / "models", encoder_threads=1)
    with Client(str(managed_artifact)) as here, Client(str(tiny_artifact)) as stored_here:
        managed, stored = here.embed_images(P3), stored_here.embed_images(P3)
    assert not np.allclose(managed, stored, atol=1e-3)
    with Client(triton.grpc_url) as client:
        np.testing.assert_allclose(client.embed_images(P3), stored, atol=1e-6)
    with TritonServer(tmp_path / "models") as server, Client(server.grpc_url) as client:
        np.testing.assert_allclose(client.embed_images(P3), managed, atol=1e-6)
        np.testing.assert_allclose(client.embed_images(Image.open(io.BytesIO(P3))), managed, atol=1e-6)
        with pytest.raises(ItemError, match=r"the picture's colour profile is damaged .*: save it anew in sRGB"):
            client.embed_images(with_profile(b"no profile at all" * 20))
        np.testing.assert_allclose(client.embed_images(P3), managed, atol=1e-6)
