"""The signed message M: its form, every check before a reservation, and what opens with the mask alone."""

from __future__ import annotations

import msgspec
import pytest

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.intl import Ed25519Signer, generate_x25519
from yilian.crypto.mask import new_mask
from yilian.crypto.seal import new_data_key, new_salt
from yilian.crypto.suite import sha256, tagged_hash
from yilian.errors import VerificationError
from yilian.values import case_id, institution_id, key_id
from yilian.workflows.consent.message import (
    MAX_MESSAGE,
    MESSAGE_TAG,
    Listed,
    Message,
    Slip,
    Terms,
    check_message,
    encode_message,
    make_item,
    message_hash,
    open_item,
    parse_message,
)

GATEWAY = Ed25519Signer.from_seed(sha256(b"gateway"))
ONE_TIME = generate_x25519()
MASK = new_mask()
KEYS = (new_data_key(), new_data_key())
SLIPS = tuple(
    Slip(salt=new_salt(), level=level, sensitivity=("PSY",), content_type="application/fhir+json", true_size=level)
    for level in (3, 5)
)
LISTED = tuple(
    Listed(entry=case_id(sha256(b"entry", name)), root=sha256(b"root", name), commitment=sha256(b"commitment", name))
    for name in (b"1", b"2")
)
TERMS = Terms(
    chain=sha256(b"chain"),
    custodian=institution_id(sha256(b"custodian")),
    recipient=institution_id(sha256(b"recipient")),
    person=key_id(sha256(b"person")),
    grant=case_id(sha256(b"grant")),
    one_time_key=ONE_TIME.public_key,
)


def _signed(terms: Terms = TERMS, signer: Ed25519Signer = GATEWAY, tag: str = MESSAGE_TAG) -> bytes:
    items = tuple(
        make_item(terms, listed, key, slip, mask=MASK) for listed, key, slip in zip(LISTED, KEYS, SLIPS, strict=True)
    )
    payload = encode_message(terms, signer.key_id, items)
    return canonical.encode(cose.sign1(payload, tag.encode(), signer))


def test_a_message_passes_all_checks_and_opens_with_mask_and_one_time_key() -> None:
    message = check_message(_signed(), GATEWAY.public_key, TERMS, LISTED)
    opened = [open_item(message, item, ONE_TIME.private_key, MASK) for item in message.items]
    assert tuple(one.data_key for one in opened) == KEYS
    assert tuple(one.slip for one in opened) == SLIPS


def test_a_message_without_the_mask_or_with_another_opens_nothing() -> None:
    message = check_message(_signed(), GATEWAY.public_key, TERMS, LISTED)
    with pytest.raises(VerificationError):
        open_item(message, message.items[0], ONE_TIME.private_key, new_mask())
    with pytest.raises(VerificationError):
        open_item(message, message.items[0], generate_x25519().private_key, MASK)


def test_an_item_does_not_open_in_a_message_to_somebody_else() -> None:
    message = check_message(_signed(), GATEWAY.public_key, TERMS, LISTED)
    moved = msgspec.structs.replace(message, recipient=institution_id(sha256(b"another")))
    with pytest.raises(VerificationError):
        open_item(moved, moved.items[0], ONE_TIME.private_key, MASK)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"chain": sha256(b"another")}, id="chain"),
        pytest.param({"custodian": institution_id(sha256(b"another"))}, id="custodian"),
        pytest.param({"recipient": institution_id(sha256(b"another"))}, id="recipient"),
        pytest.param({"person": key_id(sha256(b"another"))}, id="person"),
        pytest.param({"grant": case_id(sha256(b"another"))}, id="grant"),
        pytest.param({"one_time_key": generate_x25519().public_key}, id="one-time-key"),
    ],
)
def test_a_message_on_other_terms_than_asked_is_refused(changed: dict[str, bytes]) -> None:
    with pytest.raises(VerificationError, match="ask the custodian again"):
        check_message(_signed(msgspec.structs.replace(TERMS, **changed)), GATEWAY.public_key, TERMS, LISTED)


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(LISTED[:1], id="fewer"),
        pytest.param(LISTED[::-1], id="another-order"),
        pytest.param((LISTED[0], msgspec.structs.replace(LISTED[1], root=sha256(b"x"))), id="another-root"),
        pytest.param((LISTED[0], msgspec.structs.replace(LISTED[1], commitment=sha256(b"x"))), id="another-commitment"),
    ],
)
def test_a_message_over_other_entries_than_the_ledger_shows_is_refused(listed: tuple[Listed, ...]) -> None:
    with pytest.raises(VerificationError, match="differ"):
        check_message(_signed(), GATEWAY.public_key, TERMS, listed)


def test_a_message_of_another_signer_or_under_another_tag_is_refused() -> None:
    with pytest.raises(VerificationError, match="not signed"):
        check_message(_signed(signer=Ed25519Signer.generate()), GATEWAY.public_key, TERMS, LISTED)
    with pytest.raises(VerificationError, match="not signed"):
        check_message(_signed(tag="yilian/challenge-answer/v1"), GATEWAY.public_key, TERMS, LISTED)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda signed: signed[:-1], id="truncated"),
        pytest.param(lambda signed: signed + b"\x00", id="trailing-bytes"),
        pytest.param(lambda signed: b"\xd2" + signed, id="tagged"),
        pytest.param(lambda _: bytes(MAX_MESSAGE + 1), id="too-long"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_a_message_in_another_form_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(VerificationError):
        parse_message(change(_signed()))


def test_a_changed_byte_anywhere_is_refused() -> None:
    signed = bytearray(_signed())
    signed[len(signed) // 2] ^= 1
    with pytest.raises(VerificationError):
        check_message(bytes(signed), GATEWAY.public_key, TERMS, LISTED)


def test_the_hash_of_a_message_is_over_the_signed_bytes() -> None:
    signed = _signed()
    assert message_hash(signed) == tagged_hash("yilian/message/v1", signed)
    assert parse_message(signed)[1].signer == GATEWAY.key_id


def test_a_message_holds_at_most_32_items() -> None:
    _, message = parse_message(_signed())
    many = msgspec.structs.replace(message, items=message.items * 17)
    with pytest.raises(VerificationError):
        canonical.decode(canonical.encode(many), Message)
