"""Witnesses: what they sign, what they refuse, and how a sequencer that does not keep the rules is exposed by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.unit.node.witness_stand import Seat, Stand
from yilian import canonical
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.merkle import verify_consistency
from yilian.crypto.suite import sha256
from yilian.engine.follower import FORK, NOT_THE_SEQUENCER, OTHER_STATE
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import Note, SignatureKind, cosign, parse_note, verify_line
from yilian.ledger.trust import believe
from yilian.node.alerts import AlertKind, MisbehaviourError
from yilian.node.checkpoints import may_release
from yilian.node.promises import INCLUDED_WITHIN
from yilian.node.witness import Witness
from yilian.storage.checkpoints import CheckpointStore
from yilian.storage.memory import MemoryBlocks
from yilian.values import HOUR, MINUTE, UnixMillis, unix_millis


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    opened = Stand(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Stand]:
    """Give a stand whose policy asks for two witnesses."""
    opened = Stand(tmp_path, witnesses=2)
    yield opened
    opened.close()


def _kinds(seat: Seat, note: Note) -> dict[str, SignatureKind | None]:
    """Say what each witness's line says, by institution."""
    lines = note.lines[1:]
    return {_name(seat, line.name): seat.checkpoints.signers.kind_of(note.checkpoint, line) for line in lines}


def _name(seat: Seat, institution: str) -> str:
    return next(name for name, party in seat.stand.founded.parties.items() if party.id.hex() == institution)


# ------------------------------------------------------------------------------------------------------------- signing


def test_the_sequencer_signs_a_checkpoint_of_every_block(stand: Stand) -> None:
    sequencer = stand.sequencer()
    for _ in range(3):
        stand.block(sequencer)
    notes = [sequencer.checkpoints.note(height) for height in (1, 2, 3)]
    assert [note.checkpoint.log_size for note in notes] == [1, 2, 3]
    assert (
        notes[2].checkpoint == sequencer.checkpoints.newest().checkpoint == sequencer.checkpoints.history.checkpoint()
    )
    assert all(believe(note, sequencer.checkpoints.signers.trust(), executed=True) for note in notes)


def test_a_follower_that_executed_a_block_in_time_says_executed(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    follower.round()
    note = sequencer.checkpoints.note(1)
    assert _kinds(sequencer, note) == {"centre": SignatureKind.EXECUTED}
    assert follower.checkpoints.newest_seen().checkpoint == note.checkpoint


def test_a_note_carries_exactly_the_lines_of_the_policy(strict: Stand) -> None:
    sequencer = strict.sequencer()
    followers = [strict.follower(name, sequencer) for name in ("centre", "laboratory", "clinic")]
    strict.block(sequencer)
    followers[0].round()
    with pytest.raises(UnavailableError):
        sequencer.checkpoints.newest()
    followers[1].round()
    followers[2].round()
    newest = sequencer.checkpoints.newest()
    assert len(sequencer.checkpoints.note(1).lines) == 4
    believed = believe(newest, sequencer.checkpoints.signers.trust(), executed=True)
    assert {one.key.operator for one in believed.cosigners} == {
        strict.party("centre").id.hex(),
        strict.party("laboratory").id.hex(),
    }
    followers[0].round()
    assert followers[0].checkpoints.newest() == newest


def test_two_institutions_of_one_operator_count_once(strict: Stand) -> None:
    sequencer = strict.sequencer()
    strict.block(sequencer)
    for name in ("laboratory", "clinic"):
        strict.follower(name, sequencer).round()
    with pytest.raises(UnavailableError, match="2 operators"):
        sequencer.checkpoints.newest()


def test_a_custodian_releases_only_on_a_block_that_the_policy_has_cosigned(strict: Stand) -> None:
    sequencer = strict.sequencer()
    centre, laboratory = (strict.follower(name, sequencer) for name in ("centre", "laboratory"))
    strict.block(sequencer)
    nodes = [cast("Any", seat) for seat in (sequencer, centre)]
    centre.round()
    assert [may_release(node, 1) for node in nodes] == [False, False]
    laboratory.round()
    centre.round()
    assert [may_release(node, 1) for node in nodes] == [True, True]
    assert not may_release(nodes[0], 2)


def test_without_a_policy_nothing_waits(stand: Stand) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    assert may_release(cast("Any", sequencer), 1)
    assert sequencer.checkpoints.store.newest() == []


def test_a_witness_that_has_seen_only_the_log_says_so(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    follower.round()
    assert follower.line is not None
    follower.line.is_up = False
    follower.engine.close()
    stand.block(sequencer)
    stand.block(sequencer)
    follower.round()
    assert follower.engine.head().height == 1
    assert _kinds(sequencer, sequencer.checkpoints.note(3)) == {"centre": SignatureKind.LOG}


def test_an_old_block_that_is_caught_up_on_is_witnessed_for_the_log_alone(stand: Stand) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    stand.time += 10 * MINUTE
    follower = stand.follower("centre", sequencer)
    follower.round()
    assert _kinds(sequencer, sequencer.checkpoints.note(1)) == {"centre": SignatureKind.LOG}
    assert follower.alerts() == []
    stand.block(sequencer)
    follower.round()
    assert _kinds(sequencer, sequencer.checkpoints.note(2)) == {"centre": SignatureKind.EXECUTED}


def test_a_witness_signs_again_each_hour_though_nothing_happened(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    follower.round()
    first = sequencer.checkpoints.note(1).lines[1]
    stand.time += HOUR - 1_000
    follower.round()
    assert sequencer.checkpoints.note(1).lines[1] == first
    stand.time += 2_000
    follower.round()
    (again,) = sequencer.checkpoints.note(1).lines[1:]
    assert again != first
    assert _kinds(sequencer, sequencer.checkpoints.note(1)) == {"centre": SignatureKind.EXECUTED}


# ------------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(2, 2, id="of-one-size"), pytest.param(1, 3, id="small-first"), pytest.param(3, 1, id="large-first")],
)
def test_two_histories_shown_to_two_followers_are_exposed_by_one_exchange(
    stand: Stand, first: int, second: int
) -> None:
    one, two = stand.sequencer(), stand.sequencer()
    left, right = stand.follower("centre", one), stand.follower("laboratory", two)
    stand.meet(left, right)
    for number in range(first):
        stand.block(one, number=100 + number)
    for number in range(second):
        stand.block(two, number=200 + number)
    left.round()
    right.round()
    shown = {left.checkpoints.newest_seen().checkpoint, right.checkpoints.newest_seen().checkpoint}

    left.checkpoints.rounds.gossip()
    right.checkpoints.rounds._look_at_shown()  # noqa: SLF001 - what its thread does next

    assert (left.alerts(), right.alerts()) == (["SPLIT_VIEW"], ["SPLIT_VIEW"])
    for seat in (left, right):
        (alert,) = seat.checkpoints.alerts.all()
        assert {parse_note(alert.first).checkpoint, parse_note(alert.second).checkpoint} == shown
        assert all(f"size {one.log_size} with log root {one.log_root.hex()}" in alert.text for one in shown)


def test_a_witness_that_saw_two_histories_signs_nothing_more(stand: Stand) -> None:
    one, two = stand.sequencer(), stand.sequencer()
    left, right = stand.follower("centre", one), stand.follower("laboratory", two)
    stand.meet(left, right)
    stand.block(one, number=100)
    stand.block(two, number=200)
    left.round()
    right.round()
    left.checkpoints.rounds.gossip()
    stand.block(one, number=101)
    left.round()
    assert one.checkpoints.note(2).lines[1:] == ()
    assert left.checkpoints.store.seen(left.party.id) is not None


def test_a_members_bad_proof_accuses_no_sequencer_that_is_out_of_reach(stand: Stand) -> None:
    sequencer = stand.sequencer()
    left, right = stand.follower("centre", sequencer), stand.follower("laboratory", sequencer)
    stand.meet(left, right)
    stand.block(sequencer)
    left.round()
    assert left.line is not None
    left.line.is_up = False
    del left.lines[sequencer.party.id]
    stand.block(sequencer)
    right.round()
    right.told["consistency"] = canonical.encode([[sha256(b"no node of the tree")]])

    left.checkpoints.receive_note(right.party.id, right.checkpoints.newest_seen())
    left.checkpoints.rounds._look_at_shown()  # noqa: SLF001 - what its thread does next

    assert (left.alerts(), left.checkpoints.watch.halted()) == ([], False)
    left.lines[sequencer.party.id] = sequencer
    left.checkpoints.rounds._look_at_shown()  # noqa: SLF001 - as above
    assert left.alerts() == []


def test_a_second_note_of_one_height_is_a_split_view_for_the_sequencer_too(stand: Stand) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    sequencer.round()
    forged = msgspec.structs.replace(sequencer.checkpoints.note(1).checkpoint, log_root=sha256(b"another"))
    answered = sequencer.checkpoints.receive_note(stand.party("centre").id, stand.signed(forged))
    assert (answered.checkpoint.height, sequencer.alerts()) == (1, ["SPLIT_VIEW"])


def test_a_sequencer_that_goes_back_is_told_of_as_rollback(stand: Stand) -> None:
    blocks = MemoryBlocks()
    sequencer = stand.sequencer(blocks)
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    stand.block(sequencer)
    follower.round()
    assert follower.line is not None
    follower.line.is_up = False
    older = MemoryBlocks()
    older.append(1, blocks.read(1))
    restored = stand.sequencer(older)
    follower.lines[restored.party.id] = restored
    with pytest.raises(MisbehaviourError, match="ROLLBACK"):
        follower.checkpoints.rounds.round()
    (alert,) = follower.checkpoints.alerts.all()
    assert (alert.kind, parse_note(alert.first).checkpoint.height) == ("ROLLBACK", 2)
    assert parse_note(alert.second).checkpoint.height == 1


def test_a_restored_sequencer_asks_its_followers_before_it_signs(stand: Stand) -> None:
    blocks = MemoryBlocks()
    sequencer = stand.sequencer(blocks)
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    stand.block(sequencer)
    follower.round()
    older = MemoryBlocks()
    older.append(1, blocks.read(1))
    restored = stand.sequencer(older)
    restored.checkpoints.asked.clear()
    stand.meet(restored, follower)
    restored.checkpoints.rounds.ask_first()
    with pytest.raises(MisbehaviourError, match="fetch the missing blocks from a follower"):
        restored.checkpoints.newest()
    assert restored.alerts() == ["ROLLBACK"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        pytest.param({"log_size": 1, "height": 9}, AlertKind.TRUNCATED_LOG, id="fewer-leaves-at-a-later-height"),
        pytest.param({"app_hash": sha256(b"other"), "height": 3, "log_size": 3}, AlertKind.STATE_DIFFERS, id="state"),
    ],
)
def test_what_the_sequencer_signs_of_its_newest_is_held_against_what_was_executed(
    stand: Stand, change: dict[str, Any], kind: AlertKind
) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    stand.block(sequencer)
    follower.round()
    stand.block(sequencer)
    assert follower.engine.wait_height(3, 30) == 3
    base = sequencer.checkpoints.history.checkpoint(change["log_size"])
    sequencer.told["checkpoint"] = stand.signed(msgspec.structs.replace(base, **change)).encode()
    with pytest.raises(MisbehaviourError) as caught:
        follower.round()
    assert (caught.value.kind, follower.alerts()) == (kind, [str(kind)])
    seen = follower.checkpoints.store.seen(follower.party.id)
    assert seen is not None
    assert seen.height == 2


def test_a_log_that_does_not_hold_what_its_checkpoint_counts_is_truncated(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    follower.round()
    newest = sequencer.checkpoints.newest().checkpoint
    claimed = msgspec.structs.replace(newest, log_size=7, height=7, log_root=sha256(b"claimed"))
    sequencer.told["checkpoint"] = stand.signed(claimed).encode()
    with pytest.raises(MisbehaviourError, match="TRUNCATED_LOG"):
        follower.round()


@pytest.mark.parametrize("offset", [pytest.param(31_000, id="ahead"), pytest.param(-61_000, id="behind")])
def test_a_block_time_that_is_off_is_told_of_and_not_signed(stand: Stand, offset: int) -> None:
    stand.time += 5 * MINUTE
    sequencer = stand.sequencer(offset=offset)
    follower = stand.follower("centre", sequencer)
    follower.round()
    stand.block(sequencer)
    follower.round()
    assert follower.alerts() == ["BLOCK_TIME_OFF"]
    assert sequencer.checkpoints.note(1).lines[1:] == ()


def test_a_block_time_within_half_a_minute_is_right(stand: Stand) -> None:
    stand.time += 5 * MINUTE
    sequencer = stand.sequencer(offset=29_000)
    follower = stand.follower("centre", sequencer)
    follower.round()
    stand.block(sequencer)
    follower.round()
    assert follower.alerts() == []
    assert _kinds(sequencer, sequencer.checkpoints.note(1)) == {"centre": SignatureKind.EXECUTED}


def test_what_a_replaced_sequencer_signed_binds_nobody(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    ahead = msgspec.structs.replace(
        sequencer.checkpoints.history.checkpoint(), height=9, log_size=9, log_root=sha256(b"nobody else has it")
    )
    for seat in (sequencer, follower):
        seat.checkpoints.store.keep(stand.signed(ahead, stand.party("laboratory").gateway))
    follower.round()
    assert (sequencer.alerts(), follower.alerts()) == ([], [])
    assert _kinds(sequencer, sequencer.checkpoints.note(1)) == {"centre": SignatureKind.EXECUTED}


# ------------------------------------------------------------------------------------------------------------ promises


def test_an_operation_that_was_promised_and_withheld_is_told_of(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    transaction = stand.transaction()
    promise = sequencer.checkpoints.promise(transaction, sequencer.clock())
    follower.checkpoints.promises.keep(promise, transaction, since=0)
    stand.block(sequencer)
    follower.round()
    assert follower.alerts() == []
    stand.time += INCLUDED_WITHIN + MINUTE
    follower.round()
    follower.round()
    (alert,) = follower.checkpoints.alerts.all()
    assert (alert.kind, sha256(transaction).hex() in alert.text) == ("WITHHELD", True)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "seen-in-a-block"])
def test_a_promise_that_was_kept_is_forgotten(stand: Stand, answered: bool) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    transaction = stand.block(sequencer)
    promise = sequencer.checkpoints.promise(transaction, sequencer.clock())
    follower.checkpoints.promises.keep(promise, transaction, since=0)
    if answered:
        follower.checkpoints.promises.settle(transaction)
    follower.round()
    assert follower.checkpoints.store.promises() == []
    stand.time += INCLUDED_WITHIN + MINUTE
    follower.round()
    assert follower.alerts() == []


def test_a_promise_of_nobody_or_about_something_else_is_refused(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    transaction = stand.transaction()
    promise = sequencer.checkpoints.promise(transaction, sequencer.clock())
    with pytest.raises(VerificationError, match="about transaction"):
        follower.checkpoints.promises.keep(promise, stand.transaction(), since=0)
    with pytest.raises(VerificationError, match="no key of the sequencer"):
        follower.checkpoints.promises.keep(promise[:-1] + bytes([promise[-1] ^ 1]), transaction, since=0)
    with pytest.raises(NotFoundError):
        follower.checkpoints.promise(transaction, follower.clock())


# -------------------------------------------------------------------------------------------------------- cosignatures


def _pushed(
    stand: Stand, sequencer: Seat, name: str, *, signer: Ed25519Signer | None = None, now: UnixMillis | None = None
) -> Note:
    """Make what a member pushes: the sequencer's note and its own line, perhaps by another key or at another time."""
    note = sequencer.checkpoints.newest_seen()
    party = stand.party(name)
    line = cosign(
        note.checkpoint,
        SignatureKind.EXECUTED,
        signer or party.gateway,
        institution=party.id,
        now=stand.time if now is None else now,  # type: ignore[arg-type]  # a time
    )
    return Note(note.checkpoint, (note.lines[0], line))


def test_only_cosignatures_that_count_are_taken(stand: Stand) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    receive = sequencer.checkpoints.receive_cosignature
    centre = stand.party("centre").id
    stranger = Ed25519Signer.generate()
    refused = {
        "a key that is not registered": (centre, _pushed(stand, sequencer, "centre", signer=stranger)),
        "the sequencer itself": (stand.party("hospital").id, _pushed(stand, sequencer, "hospital")),
        "the sequencer's operator": (stand.party("annex").id, _pushed(stand, sequencer, "annex")),
        "another member's line": (centre, _pushed(stand, sequencer, "laboratory")),
        "old": (centre, _pushed(stand, sequencer, "centre", now=unix_millis(stand.time - 11 * MINUTE))),
        "of tomorrow": (centre, _pushed(stand, sequencer, "centre", now=unix_millis(stand.time + HOUR))),
        "before the block": (centre, _pushed(stand, sequencer, "centre", now=unix_millis(stand.time - 2 * MINUTE))),
    }
    taken = []
    for name, (peer, note) in refused.items():
        try:
            receive(peer, note)
        except VerificationError:
            continue
        taken.append(name)
    assert (taken, sequencer.checkpoints.note(1).lines[1:]) == ([], ())
    receive(centre, _pushed(stand, sequencer, "centre"))
    assert _kinds(sequencer, sequencer.checkpoints.note(1)) == {"centre": SignatureKind.EXECUTED}


def test_a_cosignature_under_another_checkpoint_is_a_split_view(stand: Stand) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    sequencer.round()
    forged = msgspec.structs.replace(sequencer.checkpoints.note(1).checkpoint, app_hash=sha256(b"other"))
    note = stand.signed(forged)
    centre = stand.party("centre")
    line = cosign(forged, SignatureKind.LOG, centre.gateway, institution=centre.id, now=sequencer.clock())
    with pytest.raises(MisbehaviourError, match="SPLIT_VIEW"):
        sequencer.checkpoints.receive_cosignature(centre.id, Note(forged, (*note.lines, line)))


def test_notes_of_other_chains_and_of_other_keys_are_refused(stand: Stand, tmp_path: Path) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    stand.block(sequencer)
    follower.round()
    checkpoint = follower.checkpoints.newest_seen().checkpoint
    check = follower.checkpoints.watch.check
    with pytest.raises(VerificationError, match="is of chain"):
        check(stand.signed(msgspec.structs.replace(checkpoint, chain=sha256(b"other chain"))))
    with pytest.raises(VerificationError, match="no key of the sequencer"):
        check(stand.signed(checkpoint, stand.party("laboratory").gateway))
    with pytest.raises(VerificationError, match="does not begin with"):
        check(Note(checkpoint, ()))
    assert follower.alerts() == []


def test_a_witness_never_goes_back_and_never_to_another_history(stand: Stand, tmp_path: Path) -> None:
    sequencer = stand.sequencer()
    stand.block(sequencer)
    stand.block(sequencer)
    centre = stand.party("centre")
    store = CheckpointStore(tmp_path / "witness.db")
    note = sequencer.checkpoints.note(2)
    signed = Witness(centre.id, centre.gateway, store).sign(
        note, SignatureKind.EXECUTED, sequencer.clock(), extends=lambda _: True
    )
    assert signed is not None
    assert verify_line(note.checkpoint, signed[0], centre.gateway.public_key) == SignatureKind.EXECUTED
    store.keep_signed(note, [], [signed[1]])
    store.close()

    again = Witness(centre.id, centre.gateway, CheckpointStore(tmp_path / "witness.db"))
    with pytest.raises(VerificationError, match="never goes back"):
        again.sign(sequencer.checkpoints.note(1), SignatureKind.LOG, sequencer.clock(), extends=lambda _: True)
    stand.block(sequencer)
    with pytest.raises(VerificationError, match="do not extend"):
        again.sign(sequencer.checkpoints.note(3), SignatureKind.LOG, sequencer.clock(), extends=lambda _: False)
    again._store.close()  # noqa: SLF001 - opened by this test


# ------------------------------------------------------------------------------------------------- history and alerts


def test_a_nodes_past_proves_itself_and_ends_where_its_log_ends(stand: Stand) -> None:
    sequencer = stand.sequencer()
    for _ in range(5):
        stand.block(sequencer)
    history = sequencer.checkpoints.history
    older, newest = history.checkpoint(2), history.checkpoint()
    proof = history.consistency(2, 5)
    assert verify_consistency(2, 5, proof, older.log_root, newest.log_root)
    assert (history.consistency(0, 5), history.size_at(3), history.size_at(0)) == ((), 3, 0)
    assert history.tile(0, 0, 5)[:64] == history.tile(0, 0, 2)
    refused = [
        lambda: history.checkpoint(6),
        lambda: history.checkpoint(0),
        lambda: history.root(6),
        lambda: history.consistency(4, 3),
        lambda: history.tile(0, 0, 6),
        lambda: history.tile(8, 0, 1),
        lambda: history.entries(0, 6),
        lambda: history.entries(1, 1),
    ]
    for ask in refused:
        with pytest.raises(NotFoundError):
            ask()


def test_what_the_follower_engine_finds_becomes_an_alert_with_its_bytes(stand: Stand) -> None:
    sequencer = stand.sequencer()
    follower = stand.follower("centre", sequencer)
    for name in (FORK, OTHER_STATE, NOT_THE_SEQUENCER):
        follower.checkpoints.take_problem(name, "found", name.encode())
        follower.checkpoints.take_problem(name, "found", name.encode())
    alerts = follower.checkpoints.alerts.all()
    assert [alert.kind for alert in alerts] == ["SPLIT_VIEW", "STATE_DIFFERS", "BLOCK_REFUSED"]
    assert [alert.first for alert in alerts] == [name.encode() for name in (FORK, OTHER_STATE, NOT_THE_SEQUENCER)]


def test_who_waits_for_witnesses_is_told_when_they_do_not_come(strict: Stand) -> None:
    sequencer = strict.sequencer()
    strict.block(sequencer)
    assert not sequencer.checkpoints.wait_covers(1, 0.05)
    follower = strict.follower("centre", sequencer)
    with pytest.raises(UnavailableError, match="has seen no checkpoint"):
        follower.checkpoints.newest_seen()
    with pytest.raises(NotFoundError, match="ask the sequencer"):
        follower.checkpoints.note(1)
    with pytest.raises(NotFoundError, match="gathered by the sequencer"):
        follower.checkpoints.receive_cosignature(strict.party("laboratory").id, sequencer.checkpoints.newest_seen())


def test_the_thread_signs_witnesses_and_shows_by_itself(strict: Stand) -> None:
    sequencer = strict.sequencer()
    followers = [strict.follower(name, sequencer) for name in ("centre", "laboratory")]
    strict.meet(*followers)
    for seat in (sequencer, *followers):
        seat.checkpoints.start()
    strict.block(sequencer)
    covered = [seat.checkpoints.wait_covers(1, 20) for seat in (sequencer, *followers)]
    for seat in (sequencer, *followers):
        seat.checkpoints.rounds.stop()
    assert covered == [True, True, True]
    assert [seat.alerts() for seat in (sequencer, *followers)] == [[], [], []]
