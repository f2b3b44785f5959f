"""Every setting says what it is and why its default is what it is, and the page in the documentation agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import runner

from protoclip.config.catalogue import is_known, known_names, nearest_name, settings_sections
from protoclip.config.schema import RunConfig
from protoclip.config.settings_page import settings_page
from protoclip.demo.run import demo_config

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_that_of_the_schema() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "stale: write it anew with `make settings-page`"


def test_every_setting_of_a_run_is_in_the_catalogue() -> None:
    """Against a configuration as it is saved, which knows nothing of the schema's descriptions."""

    def names(values: dict[str, object], prefix: str = "") -> set[str]:
        found: set[str] = set()
        for name, value in values.items():
            inner = isinstance(value, dict) and prefix + name != "evaluation.cells"
            found |= names(value, f"{prefix}{name}.") if inner else {prefix + name}  # type: ignore[arg-type]
        return found

    assert names(demo_config().model_dump()) - {"schema_version"} == known_names()


def test_every_setting_is_described_and_its_default_explained() -> None:
    for section in settings_sections():
        assert section.description, section.name
        for setting in section.settings:
            assert setting.description, setting.name
            assert setting.values, setting.name
            assert setting.reason or setting.default in ("", "none", "[]"), setting.name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("trian.steps", "train.steps"),
        ("train.learning_rate", "optim.learning_rate"),
        ("batch_size", "train.batch_size"),
        ("evaluation.batchsize", "evaluation.batch_size"),
        ("data.image", "data.image_column"),
        ("trian", "train"),
        ("something.else", None),
    ],
)
def test_the_nearest_name(name: str, near: str | None) -> None:
    assert nearest_name(name) == near
    assert not is_known(name)


def test_names_that_are_known() -> None:
    for name in ("train.steps", "model.head", "model.head.hidden_dim", "evaluation.cells.mine"):
        assert is_known(name)


def test_the_command_prints_every_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    shown = run("train", "--settings")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert [line.split(" = ")[0] for line in lines if " = " in line and line[0].isalpha()] == [
        setting.name for section in settings_sections() for setting in section.settings
    ]
    assert "train.checkpoint_every_minutes = 15.0" in lines
    listed = run("train", "--settings", "--json").json
    assert {setting["name"] for setting in listed} == known_names()
    assert all(RunConfig.model_fields[setting["name"].split(".")[0]] for setting in listed)
