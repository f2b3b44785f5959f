"""A plugin of pytest: a real object store on the loopback: moto's S3 in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BUCKET = "pairs"
START_S = 60


class ObjectStore:
    """Its address, and what is in the bucket `pairs`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.url, self._log = process, f"http://127.0.0.1:{port}", log

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which s3fs finds it, as a user would set them."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def put(self, key: str, content: bytes) -> str:
        """Stores an object and returns its address."""
        self._client().put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Stores all files below a folder and returns the address of it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def requests(self) -> list[str]:
        """What it was asked and how it answered, `GET /pairs/0.tar HTTP/1.1" 206 -` say."""
        return [line.partition('"')[2] for line in self._log.read_text().splitlines() if '"' in line]

    def delete(self, key: str) -> None:
        """Removes an object."""
        self._client().delete_object(Bucket=BUCKET, Key=key)

    def make_bucket(self) -> None:
        """Makes the bucket `pairs`."""
        self._client().create_bucket(Bucket=BUCKET)

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="key", aws_secret_access_key="secret",
            region_name="us-east-1",
        )  # fmt: skip


@pytest.fixture(scope="session")
def running_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One store for all tests of a process."""
    with object_store(tmp_path_factory.mktemp("store") / "log") as store:
        yield store


@pytest.fixture(scope="module")
def store(running_store: ObjectStore) -> Iterator[ObjectStore]:
    """The store, which s3fs finds in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_store.environment.items():
            patch.setenv(name, value)
        yield running_store


@contextmanager
def object_store(log: Path) -> Iterator[ObjectStore]:
    """Starts a store on a free port, and stops it by its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    try:
        _wait(process, port, log)
        store = ObjectStore(process, port, log)
        store.make_bucket()
        yield store
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the object store did not start: {log.read_text(errors='replace')[-2000:]}")
