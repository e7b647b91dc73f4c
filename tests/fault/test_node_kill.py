"""kill −9 of a whole node under load over HTTP: nothing acknowledged is lost, the home opens, the check is clean."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.conftest import RecordCount
from yilian.client.http import Client
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import UnavailableError
from yilian.node.check import Counts
from yilian.node.checking import check_all
from yilian.node.compose import now, read_ledger
from yilian.node.home import Home
from yilian.node.network import found_demo
from yilian.testing.served import NETWORK, SETTINGS
from yilian.values import HOUR, case_id
from yilian.workflows.consent.model import Consent

ROUNDS_SHARE = 3
"""The engine alone is killed as often as `--kill-rounds` says, a whole node a third as often."""
SEED = 20260403
THREADS = 4
ALONE = msgspec.structs.replace(NETWORK, institutions=NETWORK.institutions[:1])
ENVIRONMENT = os.environ | {
    "YILIAN_API__PORT": "0",
    "YILIAN_PEER__BASE_PORT": "0",
    "YILIAN_ENGINE__SECOND_CORE": "false",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("node") / "home")
    found_demo(home, SETTINGS, ALONE, now())
    return home


@contextmanager
def node(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Start the node of a home; it must be killed, or is at the end."""
    command = [sys.executable, "-m", "yilian.cli.main", "node", "start", "--home", str(home.path), "--json"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline() or "{}").get("ready")
            yield process
        finally:
            process.kill()


def proposal(time: int) -> dict[str, object]:
    """Make the consent of a patient nobody knows: a step that the gateway signs alone."""
    base = {
        "effect": "permit", "recipients": [], "recipient_kinds": ["hospital"], "roles": [], "custodians": [],
        "purposes": ["TREAT"], "kinds": [], "level_from": 1, "level_to": 4, "month_from": 22_800,
        "month_to": 119_999, "begins": 0, "ends": time + 9 * HOUR,
    }  # fmt: skip
    policy = {
        "begins": time, "ends": time + 9 * HOUR, "maximum": 5, "depth": 0, "access": "view", "erase_by": None,
        "base": base, "exceptions": [],
    }  # fmt: skip
    text = secrets.token_hex(32)
    patient = {"key": Ed25519Signer.generate().public_key.hex(), "home": None}
    return {
        "patient": patient, "text": text, "language": "zh", "policy_uri": text, "policy": policy, "replaces": None,
    }  # fmt: skip


class Load:
    """Threads that propose consents until nobody answers, and count what is acknowledged."""

    def __init__(self, access: Path) -> None:
        self._access = access
        self._moved = threading.Condition()
        self.acknowledged: list[bytes] = []
        self.problems: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def wait(self, number: int) -> None:
        """Return once so many are acknowledged."""
        with self._moved:
            assert self._moved.wait_for(lambda: len(self.acknowledged) >= number or self.problems, 60)

    def end(self) -> list[bytes]:
        """Wait until all threads have noticed, and give the cases that were acknowledged."""
        for thread in self._threads:
            thread.join()
        assert self.problems == []
        return self.acknowledged

    def _run(self) -> None:
        try:
            with Client.from_file(self._access) as client:
                time = client.get("/v1/ledger")["time"]
                while True:
                    answer = client.act("consent", "consent.propose", proposal(time))
                    with self._moved:
                        self.acknowledged.append(bytes.fromhex(answer["case_id"]))
                        self._moved.notify_all()
        except UnavailableError:
            return
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self.problems.append(error)


def test_no_acknowledged_operation_is_lost_over_many_kills(
    home: Home, kill_rounds: int, record_count: RecordCount
) -> None:
    chance = random.Random(SEED)
    acknowledged: list[bytes] = []
    for _ in range(max(1, kill_rounds // ROUNDS_SHARE)):
        with node(home) as process:
            load = Load(home.clients / "centre-data-officer.toml")
            load.wait(chance.randrange(1, 60))
            process.kill()
            process.wait()
            acknowledged += load.end()
        with read_ledger(home) as ledger:
            lost = [case.hex() for case in acknowledged if ledger.reads.case(Consent, case_id(case)) is None]
        assert lost == []
        record_count("kills of a whole node", "rounds", 1)
    assert list(check_all(home, SETTINGS, Counts(), lambda *_: None)) == []
    record_count("kills of a whole node", "operations acknowledged", len(acknowledged))
