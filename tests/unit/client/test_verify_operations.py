"""Operations, keys and checkpoints of a receipt bent in one place: each refused, the failing step named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.client.proof_stand import (
    Receipts,
    Stand,
    checked,
    edited,
    failing,
    later,
    noted,
    replace,
    restated,
    swapped,
    with_operation,
)
from yilian import canonical
from yilian.client.verify import verify_receipt
from yilian.crypto import cose
from yilian.ledger.checkpoint import Note, SignatureKind, cosign, sign
from yilian.ledger.envelope import TX_TAG, Payload
from yilian.ledger.members import Key, Role
from yilian.ledger.receipt import Kind, LoggedOperation, Receipt, open_row, parse_receipt
from yilian.ledger.state import encode_case
from yilian.values import DAY, HOUR, digest, unix_millis


def _shorter(one: LoggedOperation) -> LoggedOperation:
    """Pass the parent of two leaves as a leaf."""
    return replace(one, leaf_index=one.leaf_index >> 1, path=one.path[32:])


_BENT: list[tuple[str, Callable[[LoggedOperation], LoggedOperation], str]] = [
    ("other-index-in-the-log", lambda one: replace(one, leaf_index=one.leaf_index + 1), "log"),
    ("index-beyond-the-log", lambda one: replace(one, leaf_index=1 << 40), "log"),
    ("path-reordered", lambda one: replace(one, path=swapped(one.path)), "log"),
    ("path-longer", lambda one: replace(one, path=one.path + bytes(32)), "log"),
    ("path-shorter", lambda one: replace(one, path=one.path[:-32]), "log"),
    ("path-with-half-a-hash", lambda one: replace(one, path=one.path[:-16]), "log"),
    ("node-passed-as-leaf", _shorter, "log"),
    ("other-index-in-the-envelope", lambda one: replace(one, index=one.index + 1), "envelope"),
    ("siblings-reordered", lambda one: replace(one, siblings=swapped(one.siblings)), "envelope"),
    ("sibling-dropped", lambda one: replace(one, siblings=one.siblings[32:]), "envelope"),
    ("node-passed-as-operation", lambda one: replace(one, operation=one.siblings), "operation"),
    ("another-result", lambda one: replace(one, leaf=replace(one.leaf, result=(("consent", 1),))), "log"),
    ("another-time", lambda one: replace(one, leaf=replace(one.leaf, time=unix_millis(one.leaf.time - 1))), "log"),
    ("a-height-to-come", lambda one: replace(one, leaf=replace(one.leaf, height=1_000)), "leaf"),
    ("another-actor", lambda one: replace(one, leaf=replace(one.leaf, actor=digest(bytes(32)))), "leaf"),
    ("other-claims", lambda one: replace(one, leaf=replace(one.leaf, claims_root=None)), "leaf"),
    ("another-operation-id", lambda one: replace(one, leaf=replace(one.leaf, op_id=bytes(16))), "leaf"),
    ("signature-of-nobody", lambda one: replace(one, sign1=replace(one.sign1, signature=bytes(64))), "signature"),
    ("unprotected-byte", lambda one: replace(one, sign1=replace(one.sign1, protected=b"\xa0")), "signature"),
    ("a-patient-too-many", lambda one: replace(one, patients=(bytes(32),)), "persons"),
]


@pytest.mark.parametrize(("bend", "step"), [pytest.param(bend, step, id=name) for name, bend, step in _BENT])
def test_an_operation_bent_in_one_place_is_refused(
    stand: Stand, receipts: Receipts, bend: Callable[[LoggedOperation], LoggedOperation], step: str
) -> None:
    assert failing(stand, with_operation(receipts[Kind.OPERATION], bend)) == step


def test_an_operation_of_another_envelope_is_refused(stand: Stand, receipts: Receipts) -> None:
    other = parse_receipt(stand.prover.operation(0)).operations[0]

    def with_its_envelope(one: LoggedOperation) -> LoggedOperation:
        return replace(one, sign1=other.sign1)

    def with_its_leaf(one: LoggedOperation) -> LoggedOperation:
        return replace(one, leaf=other.leaf, leaf_index=other.leaf_index, path=other.path)

    assert failing(stand, with_operation(receipts[Kind.OPERATION], with_its_envelope)) == "envelope"
    assert failing(stand, with_operation(receipts[Kind.OPERATION], with_its_leaf)) == "leaf"


@pytest.mark.parametrize(
    ("change", "step"),
    [
        pytest.param({"chain": digest(bytes(32))}, "envelope", id="signed-for-another-chain"),
        pytest.param({"valid_until": unix_millis(1)}, "leaf", id="expired-before-the-block"),
        pytest.param({"valid_until": unix_millis(2**50)}, "leaf", id="valid-too-long"),
        pytest.param({"op_count": 2}, "envelope", id="fewer-operations"),
        pytest.param({"key_id": digest(bytes(32))}, "signature", id="key-without-a-row"),
    ],
)
def test_an_envelope_that_says_something_else_is_refused(
    stand: Stand, receipts: Receipts, change: dict[str, object], step: str
) -> None:
    def signed_again(one: LoggedOperation) -> LoggedOperation:
        payload = replace(canonical.decode(one.sign1.payload, Payload), **change)
        return replace(one, sign1=cose.sign1(canonical.encode(payload), TX_TAG, stand.story["centre"].gateway))

    assert failing(stand, with_operation(receipts[Kind.OPERATION], signed_again)) == step


def _key_row(stand: Stand, receipt: Receipt, role: Role, header: dict[str, object], fields: dict[str, object]) -> bytes:
    """Write the rows of a receipt with one key's changed, in a state that everybody has signed."""
    rows = []
    for shown in receipt.state.present:
        row = open_row(shown.row)
        found = stand.engine.find_case(digest(row.natural_key.removeprefix(b"case/")))
        assert found is not None
        word, case = found
        if isinstance(case.fields, Key) and case.fields.role == role:
            changed = replace(case, header=replace(case.header, **header), fields=replace(case.fields, **fields))
            rows.append(encode_case(word, 1, changed))
        else:
            rows.append(shown.row)
    return restated(stand, receipt, rows)


def test_a_state_written_anew_by_all_signers_holds(stand: Stand, receipts: Receipts) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    assert checked(stand, _key_row(stand, receipt, Role.NODE, {}, {})).ok


def test_a_key_revoked_after_the_block_is_shown_as_such(stand: Stand, receipts: Receipts) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    revoked: dict[str, object] = {"state": "revoked", "changed_height": receipt.operations[0].leaf.height}
    report = checked(stand, _key_row(stand, receipt, Role.NODE, revoked, {"compromised_since": unix_millis(5)}))
    signer = report.operations[0].signers[0]
    assert report.ok
    assert (signer.state, signer.compromised_since) == ("revoked", 5)


@pytest.mark.parametrize(
    ("role", "step"), [pytest.param(Role.NODE, "signature", id="gateway"), (Role.DATA_OFFICER, "persons")]
)
@pytest.mark.parametrize(
    ("header", "fields"),
    [
        pytest.param({"state": "revoked", "changed_height": 1}, {}, id="revoked-before-the-block"),
        pytest.param({"state": "suspended", "changed_height": 1}, {}, id="suspended-before-the-block"),
        pytest.param({"opened_height": 18}, {}, id="registered-in-the-block"),
        pytest.param({}, {"valid_until": unix_millis(5)}, id="expired"),
        pytest.param({}, {"valid_from": unix_millis(2**50)}, id="not-valid-yet"),
        pytest.param({}, {"role": Role.PHYSICIAN}, id="of-another-role"),
        pytest.param({}, {"public_key": digest(bytes(32))}, id="another-public-key"),
        pytest.param({}, {"suite": 2}, id="another-suite"),
    ],
)
def test_a_key_that_was_not_valid_at_the_block_is_refused(
    stand: Stand, receipts: Receipts, header: dict[str, object], fields: dict[str, object], role: Role, step: str
) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    assert failing(stand, _key_row(stand, receipt, role, header, fields)) == step


def test_a_gateway_key_of_another_member_is_refused(stand: Stand, receipts: Receipts) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    owner = {"owner": stand.story["hospital"].id}
    assert failing(stand, _key_row(stand, receipt, Role.NODE, {}, owner)) == "signature"


@pytest.mark.parametrize("drop", [0, 1, 2])
def test_a_receipt_without_a_row_that_it_needs_is_refused(stand: Stand, receipts: Receipts, drop: int) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    rows = [shown.row for place, shown in enumerate(receipt.state.present) if place != drop]
    assert failing(stand, restated(stand, receipt, rows)) in {"signature", "persons"}


def test_a_row_that_nothing_needs_is_refused(stand: Stand, receipts: Receipts) -> None:
    receipt = parse_receipt(receipts[Kind.OPERATION])
    other = parse_receipt(receipts[Kind.STATE]).state.present[0].row
    rows = [*(shown.row for shown in receipt.state.present), other]
    assert failing(stand, restated(stand, receipt, rows)) == "rows"


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_lines_that_the_policy_does_not_ask_for_are_refused(stand: Stand, receipts: Receipts) -> None:
    data, story = receipts[Kind.STATE], stand.story

    def line(name: str, kind: SignatureKind = SignatureKind.EXECUTED) -> Callable[[Note], Note]:
        party, checkpoint = story[name], stand.checkpoint()
        added = cosign(checkpoint, kind, party.gateway, institution=party.id, now=checkpoint.time)
        return lambda note: replace(note, lines=(*note.lines, added))

    bent = {
        "unknown witness": line("regulator"),
        "a witness twice": line("hospital"),
        "the sequencer too": line("centre"),
        "one less": lambda note: replace(note, lines=note.lines[:-1]),
        "no sequencer": lambda note: replace(note, lines=note.lines[1:]),
        "sequencer last": lambda note: replace(note, lines=(*note.lines[1:], note.lines[0])),
        "sequencer twice": lambda note: replace(note, lines=(note.lines[0], *note.lines)),
        "log where executed is due": lambda note: stand.signed(note.checkpoint, kind=SignatureKind.LOG),
        "kind swapped": lambda note: replace(
            note, lines=(*note.lines[:-1], replace(note.lines[-1], key_hash=note.lines[0].key_hash))
        ),
        "name swapped": lambda note: replace(
            note, lines=(*note.lines[:-1], replace(note.lines[-1], name=note.lines[-2].name))
        ),
    }
    assert {name: failing(stand, noted(data, change)) for name, change in bent.items()} == dict.fromkeys(bent, "trust")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"log_size": 1}, id="other-size"),
        pytest.param({"log_root": digest(bytes(32))}, id="other-log-root"),
        pytest.param({"app_hash": digest(bytes(32))}, id="other-app-hash"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_preimage_is_refused(
    stand: Stand, receipts: Receipts, change: dict[str, object]
) -> None:
    data = noted(receipts[Kind.STATE], lambda note: stand.signed(replace(note.checkpoint, **change)))
    assert failing(stand, data) == "app_hash"


def test_other_roots_are_refused(stand: Stand, receipts: Receipts) -> None:
    data = edited(receipts[Kind.STATE], lambda receipt: replace(receipt, parameters_root=digest(bytes(32))))
    assert failing(stand, data) == "app_hash"


def test_a_checkpoint_of_another_chain_is_refused(stand: Stand, receipts: Receipts) -> None:
    other = replace(stand.trust(), chain=bytes(32).hex())
    assert checked(stand, receipts[Kind.STATE], other).failed == "trust"
    foreign = noted(receipts[Kind.STATE], lambda note: stand.signed(replace(note.checkpoint, chain=digest(bytes(32)))))
    assert failing(stand, foreign) == "trust"


def test_a_checkpoint_signed_by_another_key_is_refused(stand: Stand, receipts: Receipts) -> None:
    def forged(note: Note) -> Note:
        return replace(note, lines=(sign(note.checkpoint, stand.story["regulator"].gateway), *note.lines[1:]))

    assert failing(stand, noted(receipts[Kind.STATE], forged)) == "trust"


def test_an_old_checkpoint_is_refused_where_an_age_is_asked_for(stand: Stand, receipts: Receipts) -> None:
    data, trust = receipts[Kind.STATE], stand.trust()
    assert verify_receipt(data, trust, now=later(stand.now, HOUR), max_age=HOUR + 1_000).ok
    assert verify_receipt(data, trust, now=later(stand.now, HOUR + 1_001), max_age=HOUR).failed == "age"
    assert verify_receipt(data, trust, now=later(stand.now, DAY)).ok


def test_a_checkpoint_of_the_future_is_refused(stand: Stand, receipts: Receipts) -> None:
    assert verify_receipt(receipts[Kind.STATE], stand.trust(), now=unix_millis(stand.now - HOUR)).failed == "age"
