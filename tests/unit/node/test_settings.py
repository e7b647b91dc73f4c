"""Settings: environment over file over default, and no name that is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.errors import SettingsError
from yilian.node.settings import Settings, fields, load, to_toml


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path / "node.toml", {}) == Settings()


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[api]\nport = 1000\nhost = "::1"\n[peer]\ntimeout_s = 5\n')
    settings = load(file, {"YILIAN_API__PORT": "2000", "YILIAN_PASSPHRASE_FILE": "p", "HOME": "x"})
    assert (settings.api.port, settings.api.host, settings.peer.timeout_s, settings.passphrase_file) == (
        2000, "::1", 5, "p",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        pytest.param("[api]\nprot = 1\n", {}, r"api\.prot.*api\.port", id="unknown-in-the-file"),
        pytest.param("[ap]\nport = 1\n", {}, r"ap\.port.*api\.port", id="unknown-section"),
        pytest.param("api = 3\n", {}, "sets api", id="section-as-a-value"),
        pytest.param("", {"YILIAN_API__PROT": "1"}, r"YILIAN_API__PROT.*api\.port", id="unknown-variable"),
        pytest.param("", {"YILIAN_API__PORT": "70000"}, "65535", id="out-of-range"),
        pytest.param("", {"YILIAN_API__PORT": "many"}, "port", id="no-number"),
        pytest.param("[api\n", {}, "not readable TOML", id="no-toml"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_nearest_name(
    tmp_path: Path, text: str, environment: dict[str, str], said: str
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        load(file, environment)


def test_every_setting_has_a_unit_a_meaning_and_a_variable() -> None:
    listed = fields()
    assert all(field.unit and field.doc.endswith(".") for field in listed)
    assert {field.name: field.variable for field in listed}["peer.base_port"] == "YILIAN_PEER__BASE_PORT"


def test_settings_that_are_written_read_back(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    settings = load(None, {"YILIAN_API__PORT": "0", "YILIAN_PEER__BASE_PORT": "0", "YILIAN_PASSPHRASE_FILE": "p"})
    file.write_text(to_toml(settings))
    assert load(file, {}) == settings
    assert to_toml(Settings()) == ""
