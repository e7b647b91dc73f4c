"""Receipts as a node makes them: found by id or place, of one state though the chain goes on, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import pytest

from tests.unit.client.proof_stand import CLAIMS, Stand, checked
from yilian.crypto.suite import sha256
from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import Note
from yilian.ledger.claims import make_claims
from yilian.ledger.members import Role
from yilian.node.proofs import Prover
from yilian.values import case_id, digest, op_id
from yilian.workflows.consent.model import Amend, Revoke


@pytest.fixture
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("stand"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("lasting"))
    yield made
    made.close()


def test_every_operation_of_the_log_is_proven_by_its_place(lasting: Stand) -> None:
    size = lasting.engine.head().log_size
    reports = [checked(lasting, lasting.prover.operation(leaf)) for leaf in range(size)]
    assert [report.failed for report in reports] == [""] * size
    assert [report.operations[0].leaf_index for report in reports] == list(range(size))
    assert {report.operations[0].mode for report in reports} == {"institution", "person", "patient", "custodial"}


def test_an_operation_is_found_by_its_id_and_actor(lasting: Stand) -> None:
    centre, hospital = lasting.story["centre"].id, lasting.story["hospital"].id
    by_id = checked(lasting, lasting.prover.operation(lasting.claimed, actor=centre))
    assert by_id.operations[0].op_id == lasting.claimed.hex()
    with pytest.raises(NotFoundError, match="check the id"):
        lasting.prover.operation(lasting.claimed, actor=hospital)
    with pytest.raises(NotFoundError, match="check the id"):
        lasting.prover.operation(op_id(bytes(16)))


@pytest.mark.parametrize("leaf", [-1, 10_000])
def test_there_is_no_operation_beyond_the_log(lasting: Stand, leaf: int) -> None:
    with pytest.raises(NotFoundError, match="leaves count from 0"):
        lasting.prover.operation(leaf)


def test_an_id_that_two_members_chose_needs_an_actor(stand: Stand) -> None:
    for name in ("centre", "hospital"):
        stand.story.act(name, Revoke(paper=None), stand.agreed, operation=b"the same op id!!")
    stand.follow()
    chosen = op_id(b"the same op id!!")
    with pytest.raises(ConflictError, match="say whose"):
        stand.prover.operation(chosen)
    report = checked(stand, stand.prover.operation(chosen, actor=stand.story["hospital"].id))
    assert report.operations[0].actor == stand.story["hospital"].id.hex()


def test_a_case_changed_as_a_consequence_is_proven_whole(stand: Stand) -> None:
    stand.story.do("centre", Revoke(paper=None), stand.agreed, stand.story.patient)
    stand.follow()
    grant = checked(stand, stand.prover.case(stand.granted))
    assert [operation.command for operation in grant.operations] == ["grant.issue", "consent.revoke"]
    assert (grant.rows[0].state, grant.rows[0].version) == ("revoked", 2)
    consent = checked(stand, stand.prover.state(stand.agreed))
    assert consent.rows[0].state == "revoked"


def test_what_is_not_there_is_not_proven_and_what_is_there_is_not_absent(lasting: Stand) -> None:
    with pytest.raises(NotFoundError):
        lasting.prover.state(lasting.missing)
    with pytest.raises(NotFoundError):
        lasting.prover.case(lasting.missing)
    with pytest.raises(ConflictError, match="prove its state"):
        lasting.prover.absence(lasting.agreed)
    with pytest.raises(NotFoundError, match="founded with the chain"):
        lasting.prover.case(case_id(lasting.story["centre"].id))


def test_an_exchange_is_proven_once_both_sides_are_done(stand: Stand) -> None:
    with pytest.raises(NotFoundError, match="no use"):
        stand.prover.exchange(stand.missing)
    entry = stand.story.entry()
    grant = stand.story.grant((entry,), stand.agreed)
    use = stand.story.reserve(grant, (entry,))
    stand.story.deliver(use)
    stand.follow()
    with pytest.raises(NotFoundError, match=r"has no use\.confirm"):
        stand.prover.exchange(use)


def test_claims_that_the_operation_did_not_make_are_refused(lasting: Stand) -> None:
    other = make_claims({"sex": "m"}, [sha256(b"salt")])
    with pytest.raises(VerificationError, match="made other claims"):
        lasting.prover.claim(lasting.claimed, "sex", other)
    with pytest.raises(VerificationError, match="made other claims"):
        lasting.prover.claim(0, "sex", CLAIMS)
    with pytest.raises(NotFoundError, match="no claim name"):
        lasting.prover.claim(lasting.claimed, "name", CLAIMS)
    values = [checked(lasting, lasting.prover.claim(lasting.claimed, one.name, CLAIMS)).claim for one in CLAIMS]
    assert values == [(one.name, one.value) for one in CLAIMS]


def test_the_state_of_a_checkpoint_is_proven_though_the_chain_goes_on(stand: Stand) -> None:
    def late() -> Note:
        """Give a checkpoint, and let the chain go on before it arrives."""
        note = stand.note()
        stand.story.entries(3)
        narrower = msgspec.structs.replace(policy, maximum=next(maxima))
        stand.story.do("centre", Amend(policy=narrower, paper=None), consent, stand.story.patient)
        stand.follow()
        return note

    policy, maxima = stand.story.policy(), iter(range(99, 0, -1))
    consent = stand.story.consent(policy)
    stand.follow()
    before = stand.engine.head().height
    prover = Prover(stand.engine, stand.index, late, wait_s=0)
    report = checked(stand, prover.state(consent))
    assert (report.failed, report.height, report.rows[0].version) == ("", before, 2)
    assert stand.engine.head().height == before + 4
    absent = checked(stand, prover.absence(stand.missing))
    assert (absent.ok, absent.height) == (True, before + 4)
    operation = checked(stand, prover.operation(0))
    assert (operation.ok, operation.height) == (True, before + 8)


def test_receipts_made_while_blocks_are_committed_all_hold(stand: Stand) -> None:
    stand.story.entries(300)
    following = threading.Thread(target=stand.follow)
    following.start()
    failed, heights = [], []
    while following.is_alive():
        for data in (stand.prover.state(stand.agreed), stand.prover.absence(stand.missing), stand.prover.operation(3)):
            report = checked(stand, data)
            failed += [report.failed] if report.failed else []
            heights.append(report.height)
    following.join()
    assert failed == []
    assert heights == sorted(heights)


def test_a_case_that_goes_on_changing_is_not_proven_half(stand: Stand) -> None:
    policy, maxima = stand.story.policy(), iter(range(99, 0, -1))
    consent = stand.story.consent(policy)
    stand.follow()

    def amended() -> Note:
        narrower = msgspec.structs.replace(policy, maximum=next(maxima))
        stand.story.do("centre", Amend(policy=narrower, paper=None), consent, stand.story.patient)
        stand.follow()
        return stand.note()

    prover = Prover(stand.engine, stand.index, amended, wait_s=0)
    with pytest.raises(UnavailableError, match="changed 8 times"):
        prover.case(consent)
    assert checked(stand, stand.prover.case(consent)).rows[0].version == 10


def test_a_checkpoint_that_lags_is_waited_for_and_then_missed(stand: Stand) -> None:
    old = stand.note()
    stand.story.entry()
    stand.follow()
    notes = iter([old, old, stand.note()])
    assert checked(stand, Prover(stand.engine, stand.index, lambda: next(notes)).state(stand.agreed)).ok
    with pytest.raises(UnavailableError, match="wait until the witnesses have"):
        Prover(stand.engine, stand.index, lambda: old, wait_s=0).state(stand.agreed)


def test_the_witnesses_are_hurried_to_the_newest_block(lasting: Stand) -> None:
    asked: list[tuple[int, float]] = []
    prover = Prover(lasting.engine, lasting.index, lasting.note, wait=lambda *wanted: asked.append(wanted), wait_s=2.0)
    assert checked(lasting, prover.state(lasting.agreed)).ok
    assert asked == [(lasting.engine.head().height, 2.0)]


def test_a_checkpoint_of_another_history_is_refused(lasting: Stand) -> None:
    other = msgspec.structs.replace(lasting.checkpoint(), app_hash=digest(bytes(32)))
    with pytest.raises(VerificationError, match="another history"):
        Prover(lasting.engine, lasting.index, lambda: lasting.signed(other)).state(lasting.agreed)


def test_an_officers_operation_shows_how_the_key_is_held(lasting: Stand) -> None:
    (operation,) = checked(lasting, lasting.prover.operation(lasting.claimed)).operations
    assert [(signer.role, signer.held_by) for signer in operation.signers] == [
        (Role.NODE.value, "node"),
        (Role.DATA_OFFICER.value, "device"),
    ]


def test_every_case_that_an_operation_opened_is_proven_whole(lasting: Stand) -> None:
    opened = [one for one in lasting.index.ids_between(bytes(32), b"\xff" * 32, limit=100) if one]
    reports = [checked(lasting, lasting.prover.case(case_id(case))) for case in opened]
    assert [report.failed for report in reports] == [""] * len(opened)
    assert all(report.rows[0].version == len(report.operations) for report in reports)
