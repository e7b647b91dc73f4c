"""A network as an operator meets it: found by the command line, started as a process, asked, checked, stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.follower.apart import NETWORK
from yilian.node.home import VAULT, Home
from yilian.node.settings import Settings
from yilian.storage.vault import Vault

ENVIRONMENT = os.environ | {
    "YILIAN_API__PORT": "0",
    "YILIAN_PEER__BASE_PORT": "0",
    "YILIAN_ENGINE__SECOND_CORE": "false",
    "YILIAN_LANG": "en",
}


class Place:
    """A folder to run command lines in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "h"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command line."""
        return subprocess.run(
            _command(*arguments), cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - what it prints
        """Run one command line that must succeed, and give its result."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def node(self) -> Iterator[dict[str, Any]]:
        """Run the node of the home; gives what it says when it is ready."""
        command = _command("node", "start", "--home", "h", "--json")
        with subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield json.loads(process.stdout.readline() or "{}")
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        assert process.returncode == 0


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "yilian.cli.main", *arguments]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded")
    (folder / "network.toml").write_text(NETWORK)
    Place(folder).json("network", "found", "network.toml", "--home", "h", "--demo")
    return folder


@pytest.fixture
def place(founded: Path, tmp_path: Path) -> Place:
    shutil.copytree(founded, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


def test_a_node_starts_answers_and_stops(place: Place) -> None:
    with place.node() as ready:
        status = place.json("node", "status", "--home", "h")
        members = place.json("network", "members", "--home", "h")
        checking = place.run("node", "check", "--home", "h")
    stopped = place.run("node", "status", "--home", "h")

    assert (status["url"], status["chain"], status["height"]) == (ready["ready"], ready["chain"], 0)
    assert status["operators"] == "declared, one process"
    assert [(item["slug"], item["state"]) for item in members] == [
        ("centre", "active"), ("hospital", "active"), ("bureau", "active"),
    ]  # fmt: skip
    assert (checking.returncode, stopped.returncode) == (6, 7)
    assert not (place.home / "node.json").exists()


def test_a_home_that_is_not_there_is_named_as_such(place: Place) -> None:
    started = place.run("node", "start", "--home", "elsewhere")

    assert started.returncode == 2
    assert "there is no home" in started.stderr


def test_a_newcomer_asks_is_voted_in_joins_and_registers_its_physician(place: Place) -> None:
    with place.node():
        asked = place.json(
            "node", "init", "--home", "h", "--slug", "township", "--name", "Township Centre",
            "--kind", "community_centre", "--officer", "node",
        )  # fmt: skip
        invited = place.json(
            "network", "invite", "--home", "h", "--request", asked["request"], "--as", "centre-officer"
        )
        early = place.run(
            "network", "join", "--home", "h", "--institution", "township", "--invitation", invited["invitation"]
        )
        for officer in ("centre-officer", "hospital-officer"):
            place.json("network", "vote", invited["proposal"], "--home", "h", "--as", officer)
        place.json("network", "apply", invited["proposal"], "--home", "h", "--as", "centre-officer")
        joined = place.json(
            "network", "join", "--home", "h", "--institution", "township", "--invitation", invited["invitation"]
        )
        for label, held_by in (("physician", "node"), ("nurse", "device")):
            place.json(
                "network", "key", "register", "--home", "h", "--label", label, "--role", label,
                "--held-by", held_by, "--as", "township-officer",
            )  # fmt: skip
        members = place.json("network", "members", "--home", "h")
    checked = place.json("node", "check", "--home", "h")

    assert early.returncode == 5
    assert (joined["state"], members[-1]["slug"], members[-1]["state"]) == ("active", "township", "active")
    assert joined["address"].startswith("https://127.0.0.1:")
    assert (checked["ok"], checked["operations"]) == (True, 7)


def test_who_shows_no_certificate_at_a_door_is_turned_away_and_on_record(place: Place) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received = b""
    with place.node() as ready:
        port = int(ready["doors"]["hospital"].rpartition(":")[2])
        with (
            suppress(OSError),  # an alert, or the line is cut before it
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain) as line,
        ):
            received = line.recv(1)
    home = Home(place.home)
    key = home.keystore("hospital", home.passphrase(Settings())).load(VAULT)
    vault = Vault(home.folder("hospital") / "vault.db", key)
    counts = vault.audit.refusal_counts()
    vault.close()

    assert (received, counts) == (b"", {"TLS_NON_MEMBER": 1})


def test_an_officer_whose_key_is_on_a_device_proposes_and_votes_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "network.toml").write_text(NETWORK)
    found = place.json("network", "found", "network.toml", "--home", "h")
    with place.node():
        proposed = place.json(
            "network", "propose", "parameter", "--home", "h", "--name", "consent.lease", "--number", "600000",
            "--as", "centre-officer",
        )  # fmt: skip
        voted = place.json("network", "vote", proposed["case_id"], "--home", "h", "--as", "bureau-officer")

    assert all(file.startswith(str(tmp_path / "h.people")) for file in found["access_files"])
    assert voted["case_id"] == proposed["case_id"]


def test_a_changed_byte_of_a_key_file_is_named_and_the_exit_code_is_5(place: Place) -> None:
    file = place.home / "institutions" / "hospital" / "keys" / "gateway.key"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    checked = place.run("node", "check", "--home", "h")

    assert checked.returncode == 5
    assert "gateway.key" in checked.stdout
    assert "Traceback" not in checked.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("node", "status", "--home", "none"), 7, "no node runs", id="nothing-runs"),
        pytest.param(("node", "check", "--home", "none"), 3, "no home", id="no-home"),
        pytest.param(("network", "found", "none.toml", "--home", "x"), 2, "none.toml", id="no-description"),
        pytest.param(("network", "found", "network.toml", "--home", "h"), 6, "already", id="found-twice"),
        pytest.param(("network", "propose", "holiday", "--home", "h"), 2, "cannot be proposed", id="unknown-action"),
        pytest.param(("node", "stat"), 2, "No such command", id="unknown-verb"),
        pytest.param(("node", "status", "--lang", "fr"), 2, "--lang", id="unknown-language"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    place: Place, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = place.run(*arguments)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_errors_are_json_where_results_are(place: Place) -> None:
    done = place.run("node", "status", "--home", "none", "--json")
    assert json.loads(done.stderr)["exit_code"] == done.returncode == 7


def test_chinese_is_spoken_where_it_is_asked_for(place: Place) -> None:
    done = place.run("node", "status", "--home", "none", "--lang", "zh")
    assert done.stderr.startswith("暂时不可用：")
