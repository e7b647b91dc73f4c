"""State, cases, exchanges and claims of a receipt bent in one place: each refused, the failing step named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.client.proof_stand import (
    Receipts,
    Stand,
    edited,
    failing,
    noted,
    replace,
    restated,
    swapped,
    with_operation,
)
from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.ledger.envelope import TX_TAG, encode_operation, sign_core
from yilian.ledger.members import Role
from yilian.ledger.receipt import Kind, LoggedOperation, Receipt, open_operation, open_row, parse_receipt
from yilian.ledger.state import case_key, encode_case
from yilian.values import digest, unix_millis


@pytest.mark.parametrize(
    ("change", "step"),
    [
        pytest.param({"depth": 11}, "app_hash", id="one-level-more"),
        pytest.param({"depth": 9}, "state", id="one-level-less"),
        pytest.param({"siblings": b""}, "state", id="no-siblings"),
        pytest.param({"present": ()}, "state", id="no-rows"),
    ],
)
def test_a_state_of_another_form_is_refused(
    stand: Stand, receipts: Receipts, change: dict[str, object], step: str
) -> None:
    def changed(receipt: Receipt) -> Receipt:
        siblings = receipt.state.siblings + (bytes(32) if step == "app_hash" else b"")
        return replace(receipt, state=replace(receipt.state, **{"siblings": siblings, **change}))

    assert failing(stand, edited(receipts[Kind.STATE], changed)) == step


def test_an_exchange_names_its_use_by_the_natural_key_alone(stand: Stand, receipts: Receipts) -> None:
    def shortened(receipt: Receipt) -> Receipt:
        return replace(receipt, subject=receipt.subject.removeprefix(b"case/"))

    assert failing(stand, edited(receipts[Kind.EXCHANGE], shortened)) == "exchange"


def test_rows_out_of_order_or_twice_are_refused(stand: Stand, receipts: Receipts) -> None:
    def reversed_rows(receipt: Receipt) -> Receipt:
        return replace(receipt, state=replace(receipt.state, present=receipt.state.present[::-1]))

    def doubled(receipt: Receipt) -> Receipt:
        return replace(receipt, state=replace(receipt.state, present=receipt.state.present[:1] * 2))

    assert failing(stand, edited(receipts[Kind.OPERATION], reversed_rows)) == "state"
    assert failing(stand, edited(receipts[Kind.STATE], doubled)) == "state"


def test_state_siblings_in_another_order_are_refused(stand: Stand, receipts: Receipts) -> None:
    def reordered(receipt: Receipt) -> Receipt:
        return replace(receipt, state=replace(receipt.state, siblings=swapped(receipt.state.siblings)))

    assert failing(stand, edited(receipts[Kind.STATE], reordered)) == "app_hash"


def test_the_absence_of_what_is_there_cannot_be_shown(stand: Stand, receipts: Receipts) -> None:
    present = case_key(stand.agreed)

    def claimed(receipt: Receipt) -> Receipt:
        (absent,) = receipt.state.absent
        state = replace(receipt.state, absent=(replace(absent, natural_key=present),))
        return replace(receipt, subject=present, state=state)

    assert failing(stand, edited(receipts[Kind.ABSENCE], claimed)) in {"state", "app_hash"}


def test_an_absence_is_of_what_the_file_is_about(stand: Stand, receipts: Receipts) -> None:
    data = edited(receipts[Kind.ABSENCE], lambda receipt: replace(receipt, subject=b"case/other"))
    assert failing(stand, data) == "subject"


@pytest.mark.parametrize("kind", list(Kind))
def test_a_receipt_under_the_name_of_another_kind_is_refused(stand: Stand, receipts: Receipts, kind: Kind) -> None:
    bent = {
        other: edited(receipts[kind], lambda receipt, other=other: replace(receipt, kind=other))  # type: ignore[misc]  # bound now
        for other in Kind
        if other != kind
    }
    assert {other: failing(stand, data) for other, data in bent.items() if not _alike(kind, other)} == {
        other: "parts" for other in bent if not _alike(kind, other)
    }


def _alike(kind: Kind, other: Kind) -> bool:
    """Say whether two kinds have equal parts, so that their subjects must tell them apart."""
    return {kind, other} == {Kind.CASE, Kind.EXCHANGE}


def test_a_case_with_an_operation_left_out_is_refused(stand: Stand, receipts: Receipts) -> None:
    def without(place: int) -> Callable[[Receipt], Receipt]:
        def cut(receipt: Receipt) -> Receipt:
            operations, changes = list(receipt.operations), list(receipt.changes)
            del operations[place], changes[place]
            return replace(receipt, operations=tuple(operations), changes=tuple(changes))

        return cut

    assert [failing(stand, edited(receipts[Kind.CASE], without(place))) for place in range(3)] == [
        "changes",
        "changes",
        "subject",
    ]


def test_a_case_out_of_order_or_with_other_rows_is_refused(stand: Stand, receipts: Receipts) -> None:
    def turned(receipt: Receipt) -> Receipt:
        return replace(receipt, operations=receipt.operations[::-1], changes=receipt.changes[::-1])

    def other_row(receipt: Receipt) -> Receipt:
        first = replace(receipt.changes[0], row=receipt.changes[1].row)
        return replace(receipt, changes=(first, *receipt.changes[1:]))

    def other_digests(receipt: Receipt) -> Receipt:
        first = replace(receipt.changes[0], digests=receipt.changes[0].digests[:-1])
        return replace(receipt, changes=(first, *receipt.changes[1:]))

    def another_case(receipt: Receipt) -> Receipt:
        return replace(receipt, subject=case_key(stand.agreed))

    data = receipts[Kind.CASE]
    assert failing(stand, edited(data, turned)) == "changes"
    assert failing(stand, edited(data, other_row)) == "changes"
    assert failing(stand, edited(data, other_digests)) == "changes"
    assert failing(stand, edited(data, another_case)) == "changes"


def test_an_exchange_with_steps_swapped_is_refused(stand: Stand, receipts: Receipts) -> None:
    def turned(receipt: Receipt) -> Receipt:
        return replace(receipt, operations=receipt.operations[::-1])

    def of_the_grant(receipt: Receipt) -> Receipt:
        return replace(receipt, subject=case_key(stand.granted))

    assert failing(stand, edited(receipts[Kind.EXCHANGE], turned)) == "exchange"
    assert failing(stand, edited(receipts[Kind.EXCHANGE], of_the_grant)) == "exchange"


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        pytest.param("use", {"grant": digest(bytes(32))}, id="use-of-another-grant"),
        pytest.param("use", {"first_number": 0}, id="not-delivered"),
        pytest.param("use", {"delivered": unix_millis(1)}, id="delivered-at-another-time"),
        pytest.param("use", {"entries": (digest(bytes(32)),)}, id="entry-beyond-the-grant"),
        pytest.param("grant", {"recipient": digest(bytes(32))}, id="grant-to-another"),
        pytest.param("grant", {"covered_by": digest(bytes(32))}, id="grant-on-another-consent"),
        pytest.param("grant", {"covered_by": None}, id="grant-without-consent"),
        pytest.param("disclosure", {"use": digest(bytes(32))}, id="disclosure-of-another-use"),
        pytest.param("disclosure", {"source": digest(bytes(32))}, id="disclosure-from-another"),
    ],
)
def test_an_exchange_whose_rows_do_not_belong_together_is_refused(
    stand: Stand, receipts: Receipts, word: str, fields: dict[str, object]
) -> None:
    receipt = parse_receipt(receipts[Kind.EXCHANGE])
    rows = []
    for shown in receipt.state.present:
        found = stand.engine.find_case(digest(open_row(shown.row).natural_key.removeprefix(b"case/")))
        assert found is not None
        same = found[0] == word
        changed = replace(found[1], fields=replace(found[1].fields, **fields)) if same else found[1]
        rows.append(encode_case(found[0], 1, changed))
    assert failing(stand, restated(stand, receipt, rows)) in {"exchange", "rows"}


def test_a_claim_bent_anywhere_is_refused(stand: Stand, receipts: Receipts) -> None:
    def claiming(**fields: object) -> Callable[[Receipt], Receipt]:
        def changed(receipt: Receipt) -> Receipt:
            assert receipt.claim is not None
            return replace(receipt, claim=replace(receipt.claim, **fields))

        return changed

    claim = parse_receipt(receipts[Kind.CLAIM]).claim
    assert claim is not None
    bent = [
        claiming(index=0),
        *(claiming(count=count) for count in range(1, 33) if count != claim.count),
        claiming(path=claim.path[::-1]),
        claiming(claim=replace(claim.claim, value="m")),
        claiming(claim=replace(claim.claim, salt=bytes(32))),
        claiming(claim=replace(claim.claim, name="year")),
    ]
    assert {failing(stand, edited(receipts[Kind.CLAIM], change)) for change in bent} == {"claim"}


def test_a_person_who_did_not_sign_this_core_is_refused(stand: Stand, receipts: Receipts) -> None:
    def other_core(one: LoggedOperation) -> LoggedOperation:
        """Sign the core anew as another person would, under the first one's key id."""
        opened = open_operation(one)
        officer = stand.story["centre"].person(Role.DATA_OFFICER, 1)
        signed = sign_core(
            opened.core_bytes,
            officer,
            Role.DATA_OFFICER,
            chain=stand.engine.chain,
            actor=opened.payload.actor,
            valid_until=opened.persons[0].valid_until,
        )
        operation = encode_operation(opened.core_bytes, [replace(signed, key_id=opened.persons[0].key_id)])
        payload = replace(opened.payload, op_count=1, ops_root=merkle.leaf_hash(operation))
        sign1 = cose.sign1(canonical.encode(payload), TX_TAG, stand.story["centre"].gateway)
        leaf = replace(one.leaf, operation=merkle.leaf_hash(operation))
        return replace(one, operation=operation, index=0, siblings=b"", sign1=sign1, leaf=leaf, leaf_index=0, path=b"")

    bent = parse_receipt(with_operation(receipts[Kind.OPERATION], other_core))
    root = merkle.leaf_hash(canonical.encode(bent.operations[0].leaf))
    one_leaf = noted(
        canonical.encode(bent),
        lambda note: replace(note, checkpoint=replace(note.checkpoint, log_size=1, log_root=root)),
    )
    rows = [shown.row for shown in bent.state.present]
    assert failing(stand, restated(stand, parse_receipt(one_leaf), rows)) == "persons"
