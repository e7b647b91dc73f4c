"""A member on a node of its own witnesses: the policy that asks for it is satisfied over real lines, and only then."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.follower import apart as stand
from tests.e2e.follower.apart import Apart, founded, wait
from yilian.client.auditing import audit
from yilian.ledger.checkpoint import Note, SignatureKind, parse_note, verify_line
from yilian.ledger.trust import believe, parse_trust
from yilian.values import public_key


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with pytest.MonkeyPatch.context() as patch:
        # hospital and bureau are in the sequencer's process; the third operator is the follower
        patch.setattr(stand, "NETWORK", stand.NETWORK + '\n[parameters]\n"governance.witnesses" = 3\n')
        running = founded(tmp_path_factory.mktemp("witnesses"))
    yield running
    running.close()


def _newest(apart: Apart, home: str, access: str) -> Note | None:
    """Give the newest checkpoint that satisfies the policy, None while there is none."""
    folder = apart.folder / f"tiles-{home}"
    code, _, _ = apart.run("log", "export", str(folder), "--as", access, home=home)
    return parse_note((folder / "checkpoint").read_bytes()) if code == 0 else None


def test_a_follower_witnesses_and_both_nodes_show_the_policys_checkpoint(apart: Apart) -> None:
    height = apart.wait_level()

    def covers(home: str, access: str) -> bool:
        note = _newest(apart, home, access)
        return note is not None and note.checkpoint.height >= height

    wait(lambda: covers("h", "bureau-inspector"))
    wait(lambda: covers("h2", "township-officer"))
    apart.json("network", "trust", "-o", "lake.trust", "--as", "bureau-inspector")
    trust = parse_trust((apart.folder / "lake.trust").read_bytes())
    note = _newest(apart, "h", "bureau-inspector")
    assert note is not None
    believed = believe(note, trust, executed=True)
    assert (trust.needed, len(believed.cosigners)) == (3, 3)
    township = apart.joined["id"]
    key = next(one for one in trust.witnesses if one.institution == township)
    line = next(one for one in note.lines if one.name == township)
    assert verify_line(note.checkpoint, line, public_key(bytes.fromhex(key.public_key))) == SignatureKind.EXECUTED


def test_the_followers_own_tiles_audit_to_the_same_log(apart: Apart) -> None:
    apart.json("network", "trust", "-o", "own.trust", "--as", "township-officer", home="h2")
    trust = parse_trust((apart.folder / "own.trust").read_bytes())
    wait(lambda: _newest(apart, "h2", "township-officer") is not None)
    found = audit(apart.folder / "tiles-h2", seen=apart.folder / "seen", trust=trust)
    assert found.note.checkpoint.log_size > 0
    assert trust.chain == str(apart.status("h")["chain"])


def test_nobody_was_caught_at_anything(apart: Apart) -> None:
    assert apart.json("log", "alerts", "--as", "bureau-inspector") == []
    assert apart.json("log", "alerts", "--as", "township-officer", home="h2") == []


def test_without_the_follower_new_blocks_are_not_covered(apart: Apart) -> None:
    apart.stop("h2")
    before = _newest(apart, "h", "bureau-inspector")
    opened = {
        "institutions": [apart.joined["id"]],
        "period_from": 20_000,
        "period_to": 20_010,
        "legal_basis": "law",
        "question": "00" * 32,
    }
    apart.json("audit", "step", "inspection.open", "--body", json.dumps(opened), "--as", "bureau-inspector")
    assert _newest(apart, "h", "bureau-inspector") == before
    apart.start("h2")
    height = apart.wait_level()
    wait(lambda: (note := _newest(apart, "h", "bureau-inspector")) is not None and note.checkpoint.height >= height)
