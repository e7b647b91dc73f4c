"""Receipts of a real chain: what holds, what is printed, and every way to bend one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.conftest import RecordCount
from tests.unit.client.proof_stand import (
    CLAIMS,
    Receipts,
    Stand,
    checked,
    edited,
    failing,
    replace,
)
from yilian import canonical
from yilian.client.verify import verify_receipt
from yilian.ledger.checkpoint import parse_note
from yilian.ledger.receipt import Kind, Receipt, parse_receipt
from yilian.ledger.state import case_key

# ---------------------------------------------------------------------------------------------------------------- holds


@pytest.mark.parametrize("kind", list(Kind))
def test_a_receipt_of_a_real_chain_holds(stand: Stand, receipts: Receipts, kind: Kind) -> None:
    report = checked(stand, receipts[kind])
    assert report.ok, report.steps[-1]
    assert (report.kind, report.chain, report.failed) == (kind.value, stand.engine.chain.hex(), "")
    assert [step.number for step in report.steps] == list(range(1, len(report.steps) + 1))
    assert canonical.encode(parse_receipt(receipts[kind])) == receipts[kind]


def test_a_report_names_who_stands_behind_the_checkpoint_and_how_keys_are_held(
    stand: Stand, receipts: Receipts
) -> None:
    report = checked(stand, receipts[Kind.OPERATION])
    centre = stand.story["centre"]
    assert report.sequencer is not None
    assert (report.sequencer.institution, report.sequencer.held_by) == (centre.id.hex(), "node")
    assert [witness.kind for witness in report.witnesses] == ["EXECUTED", "EXECUTED"]
    assert report.split_view_excluded
    (operation,) = report.operations
    assert (operation.command, operation.result, operation.mode) == ("catalog.restrict", (), "person")
    assert [(signer.role, signer.held_by, signer.operator) for signer in operation.signers] == [
        ("node", "node", centre.operator.hex()),
        ("data_officer", "device", centre.operator.hex()),
    ]


def test_a_consent_says_whether_the_patient_or_a_home_signed(stand: Stand) -> None:
    own = checked(stand, stand.prover.case(stand.agreed))
    home = checked(stand, stand.prover.case(stand.custodial))
    assert [operation.mode for operation in own.operations] == ["institution", "patient"]
    assert [operation.mode for operation in home.operations] == ["institution", "custodial"]
    assert own.operations[1].signers[1].held_by == "wallet"
    assert own.rows[0].patient == "key"
    assert home.rows[0].patient == f"home {stand.story['centre'].id.hex()}"


def test_a_refused_operation_is_proven_with_its_number(stand: Stand) -> None:
    report = checked(stand, stand.prover.operation(stand.refused))
    assert report.ok
    assert report.operations[0].result == (("kernel", 2),)


def test_a_state_shows_the_fields_by_name(stand: Stand, receipts: Receipts) -> None:
    (row,) = checked(stand, receipts[Kind.STATE]).rows
    assert (row.word, row.case_id, row.state, row.version) == ("consent", stand.agreed.hex(), "active", 2)
    assert row.fields["institution"] == stand.story["centre"].id.hex()


def test_a_register_is_proven_by_its_natural_key(stand: Stand) -> None:
    report = checked(stand, stand.prover.row(b"reg/governance/roster"))
    assert report.ok, report.steps[-1]
    assert len(report.rows[0].fields["members"]) == len(stand.story.consortium.parties)


def test_an_absence_names_what_is_absent(stand: Stand, receipts: Receipts) -> None:
    assert checked(stand, receipts[Kind.ABSENCE]).absent == case_key(stand.missing).hex()


def test_a_case_shows_every_operation_that_changed_it(stand: Stand, receipts: Receipts) -> None:
    report = checked(stand, receipts[Kind.CASE])
    assert [operation.command for operation in report.operations] == ["use.reserve", "use.deliver", "use.confirm"]
    assert report.rows[0].version == 3


def test_an_exchange_says_which_deliveries_it_was(stand: Stand, receipts: Receipts) -> None:
    report = checked(stand, receipts[Kind.EXCHANGE])
    assert report.delivery is not None
    assert (report.delivery.first, report.delivery.last, report.delivery.allowed) == (2, 3, 10)
    assert {row.word for row in report.rows} == {"use", "grant", "consent", "disclosure"}


def test_a_claim_is_shown_without_its_neighbours(stand: Stand, receipts: Receipts) -> None:
    data = receipts[Kind.CLAIM]
    assert checked(stand, data).claim == ("sex", "f")
    assert all(claim.salt not in data for claim in CLAIMS if claim.name != "sex")


def test_without_a_witness_a_split_view_is_not_excluded(stand: Stand, receipts: Receipts) -> None:
    def alone(receipt: Receipt) -> Receipt:
        note = parse_note(receipt.checkpoint)
        return replace(receipt, checkpoint=replace(note, lines=note.lines[:1]).encode())

    report = checked(stand, edited(receipts[Kind.STATE], alone), stand.trust(needed=0))
    assert report.ok
    assert not report.split_view_excluded


def test_without_a_trust_file_it_says_what_would_have_to_be_believed(stand: Stand, receipts: Receipts) -> None:
    report = verify_receipt(receipts[Kind.STATE], None, now=stand.now)
    assert (report.ok, report.failed, report.chain) == (False, "trust", stand.engine.chain.hex())
    assert stand.engine.chain.hex() in report.steps[-1].expected


# ------------------------------------------------------------------------------------------------------- tamper matrix


@pytest.mark.parametrize("kind", list(Kind))
def test_each_byte_of_a_file_is_bound(stand: Stand, receipts: Receipts, kind: Kind, record_count: RecordCount) -> None:
    data = receipts[kind]
    trust, taken, unnamed = stand.trust(), [], []
    bits = 8 if len(data) < 2_000 else 1  # every bit of small files, one of each byte of long ones
    for number in range(bits * len(data)):
        place, bit = divmod(number, bits)
        bent = data[:place] + bytes((data[place] ^ 1 << (bit + place) % 8,)) + data[place + 1 :]
        report = verify_receipt(bent, trust, now=stand.now)
        taken += [place] if report.ok else []
        unnamed += [place] if not report.failed else []
    record_count("tampered receipts", kind.value, bits * len(data))
    assert (taken, unnamed) == ([], [])


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_cut_anywhere_or_with_more_behind_it_is_refused(stand: Stand, receipts: Receipts, kind: Kind) -> None:
    data = receipts[kind]
    assert {failing(stand, data[:length]) for length in range(0, len(data), 7)} == {"file"}
    assert failing(stand, data + b"\x00") == "file"


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda data: b"\x99\x00\x09" + data[1:], id="length-not-shortest"),
        pytest.param(lambda data: b"\x9f" + data[1:] + b"\xff", id="indefinite-length"),
        pytest.param(lambda data: data[:1] + b"\x18\x01" + data[2:], id="integer-not-shortest"),
        pytest.param(lambda data: b"\xd9\xd9\xf7" + data, id="tag"),
        pytest.param(lambda data: data[:1] + b"\xf9\x3c\x00" + data[2:], id="float"),
    ],
)
def test_another_encoding_of_the_same_is_refused(
    stand: Stand, receipts: Receipts, bend: Callable[[bytes], bytes]
) -> None:
    assert failing(stand, bend(receipts[Kind.STATE])) == "file"


def test_two_receipts_spliced_anywhere_are_refused(stand: Stand, receipts: Receipts) -> None:
    drawn = random.Random(7)
    files = list(receipts.values())
    held = []
    for _ in range(2_000):
        first, second = drawn.choice(files), drawn.choice(files)
        at, on = drawn.randrange(1, len(first)), drawn.randrange(1, len(second))
        spliced = first[:at] + second[on:]
        held += [spliced] if spliced not in files and checked(stand, spliced).ok else []
    assert held == []


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 9, bytes(100), b"\x89" + b"\x00" * 8])
def test_what_is_no_receipt_is_refused(stand: Stand, data: bytes) -> None:
    assert failing(stand, data) == "file"


def test_a_file_too_long_is_refused(stand: Stand) -> None:
    assert failing(stand, bytes((16 << 20) + 1)) == "file"
