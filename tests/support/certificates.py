"""Authorities, and certificates that they gave, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate:
    """`pem` and `key` are files; `issue` makes further ones that this one's owner vouches for."""

    def __init__(
        self, folder: Path, name: str, issuer: Certificate | None = None, address: str = "127.0.0.1"
    ) -> None:
        self._folder = folder
        self._secret = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by = issuer or self
        now = datetime.datetime.now(datetime.UTC)
        host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = (
            x509.CertificateBuilder(by._name, self._name, self._secret.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(host, critical=False)
        )
        signed = builder.sign(by._secret, hashes.SHA256())
        self.pem = folder / f"{name}.pem"
        self.pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.key = folder / f"{name}.key"
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.key.write_bytes(self._secret.private_bytes(*form))

    def issue(self, name: str, address: str = "127.0.0.1") -> Certificate:
        """A certificate for `name` at `address`."""
        return Certificate(self._folder, name, self, address)

    def server_context(self, client_authority: Certificate | None = None) -> ssl.SSLContext:
        """For a server with this certificate; with an authority, it wants a certificate of its clients too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem, self.key)
        if client_authority is not None:
            context.load_verify_locations(client_authority.pem)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
