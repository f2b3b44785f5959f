"""The npm packages that the corpus is made of, at pinned versions, and how they are fetched."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Package:
    """One npm package.

    `sha256` is of the tarball, so that a package which was replaced under its version is refused.
    """

    name: str
    version: str
    sha256: str

    @property
    def tarball(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True)
class Style:
    """One house that drew emoji.

    `license` is an SPDX id. `published_in` is a package of the same house: where it is given, only
    concepts that it holds too are taken, because `package` mixes in drawings from elsewhere.
    """

    name: str
    package: Package
    license: str
    published_in: Package | None = None


NOTO = Package("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad")
TWEMOJI = Package(
    "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
)
OPENMOJI = Package(
    "@iconify-json/openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"
)
FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
)
FLUENT_3D = Package(
    "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
)
EMOJIONE = Package(
    "@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"
)
FXEMOJI = Package(
    "@iconify-json/fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"
)
EMOJIBASE = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
EMOJI_DATASOURCE = Package(
    "emoji-datasource", "16.0.0", "2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9"
)
STYLES = (
    Style("noto", NOTO, "Apache-2.0"),
    Style("twemoji", TWEMOJI, "CC-BY-4.0"),
    Style("openmoji", OPENMOJI, "CC-BY-SA-4.0"),
    Style("fluent_flat", FLUENT_FLAT, "MIT"),
    Style("fluent_3d", FLUENT_3D, "MIT", published_in=FLUENT_FLAT),
    Style("emojione", EMOJIONE, "CC-BY-4.0"),
    Style("fxemoji", FXEMOJI, "Apache-2.0"),
)


class SourceError(Exception):
    """A package can't be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Archive:
    """An open tarball; `name` is for messages."""

    name: str
    tar: tarfile.TarFile

    def read(self, path: str) -> bytes:
        """The bytes of `path` inside the package; SourceError where there is no such file."""
        try:
            member = self.tar.extractfile(f"package/{path}")
        except KeyError as error:
            raise SourceError(f"{self.name}: no file {path} in it") from error
        if member is None:
            raise SourceError(f"{self.name}: {path} is not a file")
        return member.read()

    def read_json(self, path: str) -> Any:
        return json.loads(self.read(path))

    def names(self, folder: str) -> list[str]:
        """File names, sorted, below `folder`."""
        prefix = f"package/{folder}/"
        return sorted(name.removeprefix(prefix) for name in self.tar.getnames() if name.startswith(prefix))


def fetch(package: Package, cache: Path) -> Path:
    """Path of the package's tarball in `cache`; fetched with `npm pack` where it is missing.

    Raises:
        SourceError: npm is missing or fails, or the tarball's SHA-256 is not the pinned one.
    """
    path = cache / package.tarball
    if not path.exists():
        _npm_pack(package, cache)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SourceError(f"{path}: SHA-256 is {found}, pinned is {package.sha256}: delete it and fetch again")
    return path


def _npm_pack(package: Package, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not on PATH: install Node.js, it fetches the packages")
    command = [npm, "pack", "--silent", "--pack-destination", str(cache), f"{package.name}@{package.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SourceError(f"{package.name}@{package.version}: npm pack failed: {done.stderr.strip()}")


@contextmanager
def opened(package: Package, cache: Path) -> Iterator[Archive]:
    """The package's contents; raises as `fetch`."""
    with tarfile.open(fetch(package, cache)) as tar:
        yield Archive(package.tarball, tar)
