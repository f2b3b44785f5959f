"""What a gateway is started with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from protoclip.contract.errors import ConfigError
from protoclip.search.stores.addresses import is_store_address, store_address

KIB = 1024
MIB = 1024 * KIB
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


def _http_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("is no address: use http://host:port or https://host:port")
    return url.rstrip("/")


def _host_name(given: str) -> str:
    if given != "*" and not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", given):
        raise ValueError(f"{given[:100]!r} is no host: give the name alone, without scheme and port: shop.example")
    return given.lower()


def _index_place(given: object) -> Path | str:
    """An index's folder, or the address of a store, which only the operator gives."""
    if isinstance(given, str) and is_store_address(given):
        try:
            store_address(given)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return given
    if not isinstance(given, str | Path):
        raise ValueError("is neither a folder nor an address of a store")
    return Path(given)


Name = Annotated[str, Field(pattern=f"^{NAME}$")]
IndexPlace = Annotated[Path | str, PlainValidator(_index_place)]
HostName = Annotated[str, AfterValidator(_host_name)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]


class GatewaySettings(BaseModel):
    """Addresses, keys, indexes and bounds of a gateway; read once, when it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field("grpc://localhost:8001", description="the server that is asked, or an artifact's folder")
    model: str | None = Field(None, description="which of the server's models; None: its only one")
    kserve_url: HttpAddress | None = Field(
        None, description="the same server over HTTP, for /v2; None: `url` where that is HTTP, else no /v2"
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(8080, ge=0, le=65_535, description="port to listen on; 0 picks a free one")
    tls_cert: Path | None = Field(None, description="certificate in PEM, for HTTPS instead of HTTP")
    tls_key: Path | None = Field(None, description="its key in PEM, unless it is in `tls_cert`")
    keys_file: Path | None = Field(
        None, description="API keys, one `name key` a line, one of which every request has to show; None: no keys"
    )
    indexes: dict[Name, IndexPlace] = Field(
        default_factory=dict,
        description="search indexes, by the name in requests: folders, or addresses of PostgreSQL or Milvus",
    )
    pictures: dict[Name, tuple[Path, ...]] = Field(
        default_factory=dict, description="by index, folders below which its pictures may be shown"
    )
    class_banks: dict[Name, Path] = Field(
        default_factory=dict, description="files of `protoclip classes build`, by the name in requests"
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="pages of other origins that may ask from a browser, as https://shop.example; none by default",
    )
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="names under which clients ask, besides addresses and localhost, as shop.example; * for all. "
        "None: on a loopback address no others, elsewhere all",
    )
    forward: dict[Name, HttpAddress] = Field(
        default_factory=dict, description="by dialect, the service that gets what is not ours"
    )
    requests_per_s: float | None = Field(
        None,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="most requests of a client a second, by its key or else its address; those of ten seconds at "
        "once; None: as many as it sends",
    )
    log_json: bool = Field(False, description="logs as JSON, an object a line")

    timeout_s: float = Field(30.0, gt=0, description="budget in seconds of what a request asks of the server")
    concurrency: int = Field(64, ge=1, description="most requests to the server at once; more wait for their turn")
    connections: int = Field(
        1000, ge=1, description="most connections of clients at once; beyond, the answer is 503"
    )
    head_bytes: int = Field(16 * KIB, ge=1 * KIB, description="most bytes of request line and headers")
    head_s: float = Field(10.0, gt=0, description="seconds that request line and headers may take")
    body_bytes: int = Field(72 * MIB, ge=1 * KIB, description="most bytes of a request's body")
    body_s: float = Field(20.0, gt=0, description="seconds for a body, beyond what its pace allows for its size")
    body_bytes_per_s: int = Field(64 * KIB, ge=1, description="least pace of a body")
    held_bytes: int = Field(512 * MIB, ge=1 * KIB, description="most bytes of all bodies in memory together")
    idle_s: float = Field(120.0, gt=0, description="an idle connection is closed after so many seconds")
    write_s: float = Field(30.0, gt=0, description="a client that does not read its answer is cut off after these")
    max_items: int = Field(2048, ge=1, description="most pictures or texts in a request")
    max_hits: int = Field(1000, ge=1, description="most hits of a search, those that are passed over included")
    health_s: float = Field(5.0, ge=0, description="how long /healthz repeats its last answer, in seconds")
    pictures_as_built: bool = Field(
        False, description="also show pictures from where an index says that they were: for indexes of your own"
    )
    thumbnail_edge: int = Field(320, ge=16, le=2048, description="longest side of a thumbnail, in pixels")
    thumbnail_cache_bytes: int = Field(64 * MIB, ge=0, description="most bytes of thumbnails kept in memory")

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.pictures) - set(self.indexes))
        if unknown:
            raise ValueError(f"pictures names {unknown[0]!r}, which is none of indexes: {sorted(self.indexes)}")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key is given without tls_cert: give both, or tls_cert with the key in it")
        if "*" in self.cors_origins:
            raise ValueError("cors_origins='*' would let every page on the web ask: name the origins")
        return self

    @property
    def http_url(self) -> str | None:
        """Where /v2 is passed on to; None: nowhere."""
        if self.kserve_url is not None:
            return self.kserve_url
        return self.url.rstrip("/") if self.url.startswith(("http://", "https://")) else None


def make_settings(**values: object) -> GatewaySettings:
    """The settings; raises ConfigError in one line that names the field."""
    try:
        return GatewaySettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "gateway"
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
