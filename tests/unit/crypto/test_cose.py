from __future__ import annotations

import msgspec
import pytest

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.cose import Sign1
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import SuiteId
from yilian.errors import VerificationError

SIGNER = Ed25519Signer.from_seed(b"\x07" * 32)
AAD = b"yilian/tx/v1"
SIGNED = cose.sign1(b"payload", AAD, SIGNER)


def changed(**fields: object) -> Sign1:
    return msgspec.structs.replace(SIGNED, **fields)


def test_a_signed_payload_verifies_after_the_wire() -> None:
    received = canonical.decode(canonical.encode(SIGNED), Sign1)

    assert received == SIGNED
    assert cose.verify1(received, AAD, SuiteId.INTL, SIGNER.public_key)


def test_the_wire_form_is_an_untagged_array_of_four() -> None:
    assert canonical.decode_builtins(canonical.encode(SIGNED)) == [
        b"\xa1\x01\x27",
        {},
        b"payload",
        SIGNED.signature,
    ]


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(changed(payload=b"Payload"), id="payload"),
        pytest.param(changed(signature=bytes(64)), id="signature"),
        pytest.param(changed(protected=b""), id="no-header"),
        pytest.param(changed(protected=b"\xa1\x01\x26"), id="other-algorithm"),
        pytest.param(changed(unprotected={"kid": 1}), id="unprotected"),
    ],
)
def test_a_changed_message_does_not_verify(received: Sign1) -> None:
    assert not cose.verify1(received, AAD, SuiteId.INTL, SIGNER.public_key)


def test_a_signature_under_one_domain_tag_holds_under_no_other() -> None:
    assert not cose.verify1(SIGNED, b"yilian/person/v1", SuiteId.INTL, SIGNER.public_key)


def test_the_header_of_its_suite_passes() -> None:
    cose.check_header(SIGNED, SuiteId.INTL)


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(changed(protected=b"\xa1\x01\x26"), id="other-algorithm"),
        pytest.param(changed(unprotected={"kid": 1}), id="unprotected"),
    ],
)
def test_another_header_is_refused(received: Sign1) -> None:
    with pytest.raises(VerificationError, match="expected a10127 of suite INTL"):
        cose.check_header(received, SuiteId.INTL)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param([b"\xa1\x01\x27", {"kid": 1}, b"p", bytes(64)], id="unprotected-field"),
        pytest.param([b"\xa1\x01\x27", {}, b"p", bytes(63)], id="signature-of-63-bytes"),
        pytest.param([b"\xa1\x01\x27", {}, b"p", bytes(64), 0], id="fifth-field"),
        pytest.param([b"\xa1\x01\x27", {}, bytes(cose.MAX_PAYLOAD + 1), bytes(64)], id="payload-too-long"),
    ],
)
def test_another_wire_form_does_not_decode(wire: list[object]) -> None:
    with pytest.raises(VerificationError, match="are no Sign1"):
        canonical.decode(canonical.encode(wire), Sign1)
