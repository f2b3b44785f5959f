"""TLS, client certificates, tokens, headers and paths, through gateways before a real Triton."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from certificates import Certificate
from gateway import gateway

from protoclip.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InMemoryTransport,
    MemoryModel,
    NotAuthorized,
    Unavailable,
    tls,
)
from protoclip.client.connection import connect
from protoclip.client.options import ConnectionOptions, make_options
from protoclip.client.tls import grpc_credentials, http_context
from protoclip.contract.errors import ConfigError, ServerError
from serving.triton.launcher import LaunchedServer

TOKEN = "s3cret-t0ken"
SCHEMES = ["grpc", "http"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(params=SCHEMES)
def target(request: pytest.FixtureRequest, triton: LaunchedServer) -> str:
    return triton.grpc_url if request.param == "grpc" else triton.http_url


class TestTls:
    def test_a_server_of_the_named_authority_is_trusted(self, target: str, authority: Certificate) -> None:
        with Client(target) as client:
            expected = client.embed_texts(["a", "b"])
        with (
            gateway(target, certificate=authority.issue("server")) as before,
            Client(before.url, ca_file=authority.pem) as client,
        ):
            assert client.url.startswith(("grpcs://", "https://"))
            np.testing.assert_allclose(client.embed_texts(["a", "b"]), expected, atol=1e-6)

    def test_the_machines_own_authorities_may_be_a_file(
        self, target: str, authority: Certificate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
        with gateway(target, certificate=authority.issue("server")) as before, Client(before.url) as client:
            assert client.embed_texts("a").shape == (16,)

    @pytest.mark.parametrize("problem", ["authority", "machine", "host"])
    def test_another_is_not(
        self, target: str, problem: str, authority: Certificate, stranger: Certificate
    ) -> None:
        trusted = {"authority": stranger.pem, "machine": None, "host": authority.pem}[problem]
        certificate = authority.issue("elsewhere", "127.0.0.9" if problem == "host" else "127.0.0.1")
        with (
            gateway(target, certificate=certificate) as before,
            Client(before.url, ca_file=trusted, timeout_s=None) as client,
            pytest.raises(
                ServerError, match=r"certificate is not trusted .*: name the certificate of its authority"
            ),
        ):
            client.embed_texts("a")
        assert before.seen == []

    def test_a_client_certificate_lets_in(
        self, target: str, authority: Certificate, stranger: Certificate
    ) -> None:
        own = stranger.issue("client")
        both = own.pem.with_name("both.pem")
        both.write_bytes(own.key.read_bytes() + own.pem.read_bytes())
        with gateway(target, certificate=authority.issue("server"), client_authority=stranger) as before:
            for named in ({"client_cert": own.pem, "client_key": own.key}, {"client_cert": str(both)}):
                with Client(before.url, ca_file=authority.pem, **named) as client:
                    assert client.embed_texts("a").shape == (16,)
            # Over HTTP some attempts see a closed connection alone, before one sees why.
            budget_s = 60 if before.url.startswith("https") else 3
            with (
                Client(before.url, ca_file=authority.pem, timeout_s=budget_s) as client,
                pytest.raises((NotAuthorized, Unavailable, DeadlineExceeded), match="client_cert="),
            ):
                client.embed_texts("a")

    def test_a_server_without_tls_is_told(self, target: str, authority: Certificate) -> None:
        secure = target.replace("://", "s://")
        with (
            Client(secure, ca_file=authority.pem, timeout_s=None) as client,
            pytest.raises(ServerError, match=f"no TLS with this server .*: does it speak {target}"),
        ):
            client.embed_texts("a")

    @pytest.mark.parametrize("scheme", ["grpcs", "https"])
    def test_files_that_can_not_be_used(self, scheme: str, authority: Certificate, tmp_path: Path) -> None:
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        url, other = f"{scheme}://localhost", authority.issue("another")
        for options, message in [
            ({"ca_file": broken}, "ca_file=.* holds no certificate in PEM"),
            ({"ca_file": tmp_path / "none.pem"}, "ca_file=.* is no file"),
            ({"client_cert": broken}, "client_cert=.* and its key can't be used"),
            ({"client_cert": authority.pem, "client_key": other.key}, "its own key without a password"),
            ({"client_key": other.key}, "client_key is given without client_cert"),
        ]:
            with pytest.raises(ConfigError, match=message):
                Client(url, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="certificates are for TLS: use http"):
            Client("http://localhost", ca_file=authority.pem)

    @pytest.mark.parametrize("name", ["ca_file", "client_cert", "client_key"])
    @pytest.mark.parametrize("make", [http_context, grpc_credentials])
    def test_files_that_can_not_be_read(
        self, make: Callable[[ConnectionOptions], object], name: str, authority: Certificate, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone.pem"
        files = {"client_cert": authority.pem, name: gone}
        with pytest.raises(ConfigError, match=f"{name}=.*gone.* can't be read: No such file"):
            make(ConnectionOptions(**files))  # type: ignore[arg-type]

    def test_the_machines_own_may_be_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "_machine_roots", lambda: tmp_path)
        with pytest.raises(ConfigError, match=r"own certificates=.* can't be read: Is a directory"):
            grpc_credentials(ConnectionOptions())


class TestTokens:
    @pytest.mark.parametrize("source", ["argument", "environment", "header"])
    def test_let_in(self, target: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        options: dict[str, object] = {}
        if source == "environment":
            monkeypatch.setenv("PROTOCLIP_TOKEN", TOKEN)
        elif source == "argument":
            monkeypatch.setenv("PROTOCLIP_TOKEN", "another")
            options = {"token": TOKEN}
        else:
            options = {"headers": {"Authorization": f"Bearer {TOKEN}"}}
        with gateway(target, token=TOKEN) as before, Client(before.url, **options) as client:  # type: ignore[arg-type]
            assert client.embed_texts(["a", "b"]).shape == (2, 16)

    @pytest.mark.parametrize("token", [None, "wr0ng"])
    def test_without_the_right_one_is_told_at_once(self, target: str, token: str | None) -> None:
        with (
            gateway(target, token=TOKEN) as before,
            Client(before.url, token=token, timeout_s=None) as client,
            pytest.raises(NotAuthorized, match=r"who are you\?: give token=, or set PROTOCLIP_TOKEN") as caught,
        ):
            client.embed_texts("a")
        assert len(before.seen) == 1
        assert token is None or token not in str(caught.value)

    def test_a_single_picture_is_not_blamed(self, target: str) -> None:
        with gateway(target, token=TOKEN) as before:
            with Client(target) as client:
                model = client.model.image_model
            transport = connect(before.url)
            with pytest.raises(NotAuthorized):
                transport.infer(model, "image", [b"a"], 20)
            transport.close()

    def test_stand_in_no_repr(self, tmp_path: Path) -> None:
        options = make_options(TOKEN, {"X-Key": "hidden"}, None, None, None)
        client = Client("http://localhost:1", token=TOKEN, headers={"X-Key": "hidden"})
        shown = [repr(options), repr(client), str(vars(client)), repr(connect("grpc://localhost:1", options))]
        assert not [text for text in shown if TOKEN in text or "hidden" in text]
        client.close()


class TestHeaders:
    def test_arrive(self, target: str) -> None:
        with (
            gateway(target) as before,
            Client(before.url, headers={"X-Team": "search", "x-api-key": "k"}) as client,
        ):
            client.embed_texts("a")
        assert all(headers["x-team"] == "search" and headers["x-api-key"] == "k" for headers in before.seen)
        assert len(before.seen) == 4

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ({"a b": "c"}, "'a b' is no name of a header"),
            ({"x\r\ny": "c"}, "is no name of a header"),
            ({"x!y": "c"}, "'x!y' is no name of a header"),
            ({"x": "hidden\r\nhost: y"}, "the value of x is no text of one line in ASCII"),
            ({"Content-Length": "3"}, "content-length belongs to the protocol itself"),
            ({"grpc-timeout": "3"}, "grpc-timeout belongs to the protocol itself"),
            ({"A": "1", "a": "2"}, "a is given twice"),
        ],
    )
    def test_that_can_not_be_sent(self, headers: dict[str, str], message: str) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            Client("http://localhost:1", headers=headers)
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize("token", ["", " a", "a\nb", "ä"])
    def test_tokens_that_can_not_be_sent(self, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="token is empty, or has characters"):
            Client("http://localhost:1", token=token)
        monkeypatch.setenv("PROTOCLIP_TOKEN", token)
        with pytest.raises(ConfigError, match="PROTOCLIP_TOKEN is empty, or has characters"):
            Client("http://localhost:1")

    @pytest.mark.parametrize("make", [Client, AsyncClient])
    def test_are_for_addresses_alone(
        self, make: Callable[..., object], memory_model: MemoryModel, tiny_artifact: Path
    ) -> None:
        with pytest.raises(ConfigError, match="token and transport are both given"):
            make(transport=InMemoryTransport(memory_model), token=TOKEN)
        with pytest.raises(ConfigError, match=r"headers is for a server, and .* is a folder"):
            make(str(tiny_artifact), headers={"a": "b"})
        with pytest.raises(ConfigError, match="token and the header authorization"):
            make("http://localhost:1", token=TOKEN, headers={"authorization": "b"})


class TestPaths:
    def test_stand_before_the_servers_own(self, triton: LaunchedServer) -> None:
        with gateway(triton.http_url, prefix="/models/clip") as before:
            with Client(before.url + "/") as client:
                assert client.url == before.url
                assert client.embed_texts(["a"]).shape == (1, 16)
            with (
                Client(before.url.removesuffix("/clip")) as client,
                pytest.raises(ServerError, match="no such path"),
            ):
                client.embed_texts("a")

    def test_are_not_for_grpc(self) -> None:
        with pytest.raises(ConfigError, match="gRPC has no paths: use http:// or https:// for /models"):
            Client("grpc://localhost:8001/models")
