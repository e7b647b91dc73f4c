"""COSE receipts: one leaf of an RFC 6962 log and its inclusion proof under a signature over the root. Pure.

Source: RFC 9942 (COSE Receipts), sections 4 and 5.2, with the verifiable data structure RFC9162_SHA256; issuer and
subject as RFC 9943 section 6 asks. The leaf's bytes travel along under a label of our own, so that the file is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.suite import SuiteId, key_id_of, verify
from yilian.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yilian.crypto.suite import Signer
    from yilian.values import PublicKey

MAX_RECEIPT: Final = 64 << 10

_TAG: Final = b"\xd2"
"""CBOR tag 18: COSE_Sign1 (RFC 9052 section 2)."""
_ALG, _KID, _CWT_CLAIMS, _VDS, _VDP = 1, 4, 15, 395, 396
_ISS, _SUB = 1, 2
_EDDSA = -8
_RFC9162_SHA256 = 1
_INCLUSION = -1
_LEAF = -65_540
"""Private use (RFC 9052 section 3.1): the leaf's bytes, which the inclusion proof authenticates."""
_TREE_SIZE = -65_541
"""Private use, protected: the tree's size. A path alone does not fix it: trees of several sizes may share its shape."""


class Inclusion(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf with its place in a tree."""

    leaf: bytes
    index: int
    tree_size: int
    path: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """The root that leaf and path lead to (RFC 9162 section 2.1.3.2).

        Raises:
            VerificationError: the path is not one of a tree of this size.
        """
        found, node, last = bytes(merkle.leaf_hash(self.leaf)), self.index, self.tree_size - 1
        for beside in self.path:
            if node & 1 or node == last:
                found = bytes(merkle.node_hash(beside, found))
                while not node & 1 and node:
                    node, last = node >> 1, last >> 1
            else:
                found = bytes(merkle.node_hash(found, beside))
            node, last = node >> 1, last >> 1
        if not merkle.verify_inclusion(merkle.leaf_hash(self.leaf), self.index, self.tree_size, self.path, found):
            raise VerificationError(
                f"a path of {len(self.path)} hashes fits no leaf {self.index} of {self.tree_size}: refuse the receipt"
            )
        return found


class CoseReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a COSE receipt says. `issuer` names the log, `subject` what the leaf is about."""

    key_id: bytes
    issuer: str
    subject: str
    inclusion: Inclusion


def sign_receipt(inclusion: Inclusion, signer: Signer, *, issuer: str, subject: str) -> bytes:
    """Make a receipt, signed over the root that leaf and path lead to."""
    claims = {_ISS: issuer, _SUB: subject}
    header = {_ALG: _EDDSA, _KID: signer.key_id, _CWT_CLAIMS: claims, _VDS: _RFC9162_SHA256}
    protected = cbor2.dumps({**header, _TREE_SIZE: inclusion.tree_size})
    signature = signer.sign(cose.to_be_signed(protected, inclusion.root, b""))
    proof = cbor2.dumps([inclusion.tree_size, inclusion.index, list(inclusion.path)])
    unprotected = {_VDP: {_INCLUSION: [proof]}, _LEAF: inclusion.leaf}
    return _TAG + cbor2.dumps([protected, unprotected, None, signature])


def parse_receipt(data: bytes) -> tuple[CoseReceipt, bytes]:
    """Decode a receipt strictly: the only encoding of what it says. Gives it and its signature, not yet verified.

    Raises:
        VerificationError: no such receipt, or another encoding of one.
    """
    if len(data) > MAX_RECEIPT or data[:1] != _TAG:
        raise VerificationError(f"{len(data)} bytes are no COSE receipt of at most {MAX_RECEIPT}: ask for it again")
    raw = canonical.decode_builtins(data[1:])
    try:
        protected, unprotected, payload, signature = raw
        header = canonical.decode_builtins(protected)
        (proof,) = unprotected[_VDP][_INCLUSION]
        tree_size, index, path = canonical.decode_builtins(proof)
        receipt = CoseReceipt(
            key_id=_of(bytes, header[_KID]),
            issuer=_of(str, header[_CWT_CLAIMS][_ISS]),
            subject=_of(str, header[_CWT_CLAIMS][_SUB]),
            inclusion=Inclusion(
                leaf=_of(bytes, unprotected[_LEAF]),
                index=_of(int, index),
                tree_size=_of(int, tree_size),
                path=tuple(_of(bytes, node) for node in path),
            ),
        )
        _exactly(header, {_ALG: _EDDSA, _VDS: _RFC9162_SHA256, _TREE_SIZE: tree_size}, also=(_KID, _CWT_CLAIMS))
        _exactly(header[_CWT_CLAIMS], {}, also=(_ISS, _SUB))
        _exactly(unprotected, {}, also=(_VDP, _LEAF))
        _exactly(unprotected[_VDP], {}, also=(_INCLUSION,))
        if payload is not None or len(_of(bytes, signature)) != 64 or any(len(node) != 32 for node in path):
            raise ValueError("an attached payload, or a hash or signature of another length")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(
            f"{len(data)} bytes are no COSE receipt of an RFC 9162 log ({type(error).__name__}): ask for it again"
        ) from error
    return receipt, signature


def verify_cose_receipt(data: bytes, public_key: PublicKey) -> CoseReceipt:
    """Check a receipt with the Ed25519 key of who signed it, and give what it says.

    Raises:
        VerificationError: no receipt, a key that it does not name, a path of another tree, or a false signature.
    """
    receipt, signature = parse_receipt(data)
    if receipt.key_id != key_id_of(SuiteId.INTL, public_key):
        raise VerificationError(
            f"the receipt is signed with key {receipt.key_id.hex()}, given is another: look up the key that it names"
        )
    protected = canonical.decode_builtins(data[1:])[0]
    message = cose.to_be_signed(protected, receipt.inclusion.root, b"")
    if not verify(SuiteId.INTL, public_key, message, signature):
        raise VerificationError(f"the signature of key {receipt.key_id.hex()} does not hold for the root: refuse it")
    return receipt


def _of(kind: type[Any], value: Any) -> Any:  # noqa: ANN401 - a builtin
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__}, expected {kind.__name__}")
    return value


def _exactly(found: Mapping[int, object], values: Mapping[int, object], *, also: Sequence[int]) -> None:
    if set(found) != {*values, *also} or any(found[label] != value for label, value in values.items()):
        raise ValueError("other header fields")
