"""The demonstration as a whole: the figures counted at its end, and that it goes on where it stopped."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.e2e.demo.conftest import RESIDENTS, SEED, InProcess, Played
from yilian.demo.stage import Options
from yilian.demo.story import play
from yilian.demo.telling import Teller

REPORT_FIELDS = {
    "institutions": int,
    "patients": int,
    "records": int,
    "bytes_sealed": int,
    "screened": int,
    "high_risk": int,
    "referrals": {"requested", "accepted", "completed", "closed"},
    "fetches": {"attempted", "verified"},
    "refused": {"stranger", "revoked", "exhausted", "expired", "wider_delegation", "tampered"},
    "audit": {"pairs", "one_sided", "questions_answered"},
    "ledger": {"height", "operations", "refused_operations", "app_hash", "log_size"},
    "followers": {"count", "app_hash_equal"},
    "proofs": {"absence", "claim", "consent-revoked", "exchange", "operation", "referral"},
    "seconds": {"import", "screen", "story", "total"},
    "peak_rss_mb": int,
}


def test_every_institution_resident_and_record_is_counted(played: Played) -> None:
    figures = played.figures
    assert (figures.institutions, figures.patients) == (7, RESIDENTS)
    assert figures.records >= 3 * RESIDENTS
    assert figures.bytes_sealed > 0
    assert figures.screened >= figures.high_risk > 0


def test_referrals_come_back_closed_and_every_delivery_is_verified_and_on_record_at_both_sides(
    played: Played,
) -> None:
    referrals, fetches, audit = played.figures.referrals, played.figures.fetches, played.figures.audit
    assert referrals.requested > referrals.accepted == referrals.completed == referrals.closed > 0
    assert fetches.attempted == fetches.verified == audit.pairs == audit.questions_answered > 0
    assert audit.one_sided == 0


def test_everything_that_must_be_refused_is_on_record_as_refused(played: Played) -> None:
    assert min(msgspec.structs.astuple(played.figures.refused)) >= 1
    # at the door without a grant, on the ledger by number, and at TLS
    assert played.figures.refused.stranger >= 3
    assert played.figures.ledger.refused_operations >= 5


def test_two_nodes_follow_to_the_same_app_hash(played: Played) -> None:
    followers = played.figures.followers
    assert (followers.count, followers.app_hash_equal) == (2, True)


@pytest.mark.parametrize("name", sorted(REPORT_FIELDS["proofs"]))  # type: ignore[arg-type]  # a set of names
def test_a_receipt_of_each_kind_holds_without_a_network_and_one_changed_byte_does_not(
    played: Played, name: str, tmp_path: Path
) -> None:
    file = played.home.path / "proofs" / f"{name}.yilian-proof"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    changed = tmp_path / file.name
    changed.write_bytes(content)

    assert [_verified(file, played), _verified(changed, played)] == [0, 5]
    assert set(played.figures.proofs[name]) == {"bytes", "make_ms", "verify_ms"}
    assert played.figures.proofs[name]["bytes"] == len(content)


def _verified(file: Path, played: Played) -> int:
    alone = ["unshare", "--map-root-user", "--net"]
    allowed = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    command = [sys.executable, "-m", "yilian.client.verify_cli", str(file), "--trust", str(played.home.path / "trust")]
    return subprocess.run([*(alone if allowed else []), *command], capture_output=True, check=False).returncode


def test_the_report_has_exactly_the_fields_that_were_agreed(played: Played) -> None:
    written = json.loads(msgspec.json.encode(played.figures))
    shape = {name: set(value) if isinstance(value, dict) else type(value) for name, value in written.items()}
    assert shape == REPORT_FIELDS


def test_a_home_that_has_the_story_goes_on_without_repeating_it(played: Played) -> None:
    out = io.StringIO()
    again = play(
        played.home.path,
        Teller("zh", out),
        Options(data=None, residents=RESIDENTS, seed=SEED),
        start=InProcess,
    )
    same = {"seconds": played.figures.seconds, "peak_rss_mb": 0, "proofs": {}}
    assert msgspec.structs.replace(again, **same) == msgspec.structs.replace(played.figures, **same)
    assert again.proofs.keys() == played.figures.proofs.keys()


@pytest.mark.parametrize(("hash_seed", "zone"), [("1", "Asia/Shanghai"), ("2", "America/Caracas")])
def test_the_chain_replays_to_one_app_hash_under_any_hash_seed_and_time_zone(
    played: Played, hash_seed: str, zone: str
) -> None:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "TZ": zone}
    done = subprocess.run(
        [sys.executable, "-m", "yilian.cli.main", "node", "check", "--json", "--home", str(played.home.path)],
        env=environment,
        capture_output=True,
        timeout=120,
        check=True,
    )
    checked = json.loads(done.stdout)
    assert checked["ok"] is True
    assert checked["app_hash"] == played.figures.ledger.app_hash


def test_the_command_ends_by_itself_writes_its_report_and_leaves_nothing(tmp_path: Path) -> None:
    report, temporary = tmp_path / "report.json", tmp_path / "tmp"
    temporary.mkdir()
    command = f"{sys.executable} -m yilian.cli.main demo --headless --lang en --residents 16 --seed 11 --report"
    done = subprocess.run(
        [*command.split(), str(report)],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(report.read_bytes())["fetches"]["verified"] > 0
    assert list(temporary.iterdir()) == []
