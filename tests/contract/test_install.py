"""Commands that add an extra lead to where this copy came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protoclip.contract import install
from protoclip.contract.install import install_command


class Noted:
    """A distribution of which pip noted `text`."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def read_text(self, name: str) -> str | None:
        return self._text if name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        ({"url": "file://{folder}", "dir_info": {"editable": True}}, "pip install --editable '{folder}[cpu]'"),
        ({"url": "file://{folder}", "dir_info": {}}, "pip install '{folder}[cpu]'"),
        ({"url": "file:///not/there/any/more", "dir_info": {}}, "pip install 'protoclip[cpu]'"),
        (
            {"url": "https://example.com/x.git", "vcs_info": {"vcs": "git", "commit_id": "ab"}},
            "pip install 'protoclip[cpu] @ git+https://example.com/x.git'",
        ),
        (
            {"url": "https://example.com/protoclip-0.1.0.tar.gz", "archive_info": {}},
            "pip install 'protoclip[cpu] @ https://example.com/protoclip-0.1.0.tar.gz'",
        ),
        (None, "pip install 'protoclip[cpu]'"),
    ],
)
def test_every_way_to_install(
    noted: dict[str, Any] | None, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a check-out"
    folder.mkdir()
    text = None if noted is None else json.dumps(noted).replace("{folder}", str(folder).replace(" ", "%20"))
    monkeypatch.setattr(install, "distributions", lambda name: [Noted(None), Noted(text)])
    assert install_command("cpu") == command.replace("{folder}", str(folder))


def test_a_damaged_note_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "distributions", lambda name: [Noted("{")])
    assert install_command() == "pip install protoclip"


def test_this_copy_is_installed_again_from_its_checkout() -> None:
    root = Path(__file__).parents[2]
    assert install_command("quantize") == f"pip install --editable '{root}[quantize]'"
