"""COSE_Sign1 without its tag: one signature over a payload and a domain tag. Source: RFC 9052 section 4.

The protected header says the algorithm and nothing else, the unprotected header is empty: one signed thing has one
byte form. The algorithm is decided by the suite of the registered key, never by the header alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from yilian.crypto import suite as suites
from yilian.crypto.suite import SuiteId
from yilian.errors import VerificationError
from yilian.values import Natural, Signature, Word

if TYPE_CHECKING:
    from yilian.crypto.suite import Signer

MAX_PAYLOAD: Final = 1 << 20

# RFC 9053 section 2.2: {1 (alg): -8 (EdDSA)} as deterministic CBOR.
PROTECTED: Final = {SuiteId.INTL: b"\xa1\x01\x27"}
# CBOR: array of four, text of ten.
_CONTEXT: Final = b"\x84\x6aSignature1"


class Sign1(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A signed payload; (de)codes through `canonical` as [protected, {}, payload, signature]."""

    protected: Annotated[bytes, Meta(max_length=64)]
    unprotected: Annotated[dict[Word, Natural], Meta(max_length=0)]
    payload: Annotated[bytes, Meta(max_length=MAX_PAYLOAD)]
    signature: Signature


def sign1(payload: bytes, aad: bytes, signer: Signer) -> Sign1:
    """Sign a payload under a domain tag (`aad`), which the bytes do not carry: the verifier must know it."""
    protected = PROTECTED[signer.suite]
    signature = signer.sign(to_be_signed(protected, payload, aad))
    return Sign1(protected=protected, unprotected={}, payload=payload, signature=signature)


def to_be_signed(protected: bytes, payload: bytes, aad: bytes) -> bytes:
    """Give the bytes that are signed: Sig_structure ["Signature1", protected, aad, payload] (RFC 9052 section 4.4).

    Joined by hand, since this is on the path of every transaction.
    """
    return b"".join((_CONTEXT, _head(len(protected)), protected, _head(len(aad)), aad, _head(len(payload)), payload))


def check_header(sign1: Sign1, suite: SuiteId) -> None:
    """Make sure that a header names exactly the algorithm of a suite.

    Raises:
        VerificationError: another algorithm, another field, or an unprotected header.
    """
    if sign1.protected != PROTECTED[suite] or sign1.unprotected:
        raise VerificationError(
            f"COSE header {sign1.protected.hex()} with {len(sign1.unprotected)} unprotected fields, expected "
            f"{PROTECTED[suite].hex()} of suite {suite.name} and none: sign with the registered key's algorithm"
        )


def verify1(sign1: Sign1, aad: bytes, suite: SuiteId, public_key: bytes) -> bool:
    """Say whether header and signature hold for a key and a domain tag; over the bytes as received."""
    if sign1.protected != PROTECTED[suite] or sign1.unprotected:
        return False
    message = to_be_signed(sign1.protected, sign1.payload, aad)
    return suites.verify(suite, public_key, message, sign1.signature)


def _head(length: int) -> bytes:
    """Give the CBOR head of a byte string (RFC 8949 section 3) in its shortest form; below 24 it is one byte."""
    if length < 24:
        return bytes((0x40 | length,))
    if length < 1 << 8:
        return bytes((0x58, length))
    if length < 1 << 16:
        return b"\x59" + length.to_bytes(2, "big")
    return b"\x5a" + length.to_bytes(4, "big")
