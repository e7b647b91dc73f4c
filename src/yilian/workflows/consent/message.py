"""The signed message M of a release: form, making, and every check of a recipient (spec/release.md).

M is a COSE_Sign1 by the custodian's gateway key over who, to whom, under which grant and for which one-time key, and
for each entry a masked data key and a slip. The slip (salt, true level, content type, true size) opens with the data
key alone, so M says nothing before the ledger has published the mask.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.keyfile import open_with_key, seal_with_key
from yilian.crypto.mask import MaskedKey, ReleaseContext, unwrap_masked, wrap_masked
from yilian.crypto.suite import SuiteId, derive_key, framed, tagged_hash
from yilian.errors import VerificationError
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId, Natural, PublicKey, Word

VERSION: Final = 1
MESSAGE_TAG: Final = "yilian/message/v1"
SLIP_TAG: Final = "yilian/slip/v1"
MAX_MESSAGE: Final = 64 << 10


class Slip(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What goes with a record and is as secret as the record."""

    salt: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Salt of the commitment on the ledger."""
    level: Annotated[int, Meta(ge=1, le=5)]
    """The true level; 5 shows as 4 on the ledger."""
    sensitivity: Annotated[tuple[Word, ...], Meta(max_length=16)]
    """Why it is sensitive (HIV, PSY, ETH ...): as good as a diagnosis, so never on the ledger."""
    content_type: Annotated[str, Meta(min_length=1, max_length=128)]
    true_size: Natural
    """Bytes before padding."""


class Item(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One entry of a message: its masked key, and its slip sealed under the data key."""

    key: MaskedKey
    slip: Annotated[bytes, Meta(min_length=1, max_length=512)]


class Message(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The payload of M: one message and one mask for exactly the entries of one reservation."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    chain: Digest
    custodian: InstitutionId
    signer: KeyId
    """The custodian's gateway key that signed it, to be found on the ledger."""
    recipient: InstitutionId
    person: KeyId
    grant: CaseId
    one_time_key: PublicKey
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=32)]

    def context(self, key: MaskedKey) -> ReleaseContext:
        """Give what the wrap of one of its keys binds."""
        return ReleaseContext(
            chain=self.chain,
            custodian=self.custodian,
            recipient=self.recipient,
            person=self.person,
            grant=self.grant,
            entry=key.entry,
            root=key.root,
            commitment=key.commitment,
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """To whom, under what and for which key a message is made, or was asked for."""

    chain: Digest
    custodian: InstitutionId
    recipient: InstitutionId
    person: KeyId
    grant: CaseId
    one_time_key: PublicKey


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of an entry: which blob, and which plaintext."""

    entry: EntryId
    root: Digest
    commitment: Digest


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What one item gives once the mask is public. `data_key` is not yet compared with the blob's key check."""

    data_key: bytes
    slip: Slip


def make_item(terms: Terms, listed: Listed, data_key: bytes, slip: Slip, *, mask: bytes) -> Item:
    """Mask the key of one record and seal its slip.

    Raises:
        VerificationError: the one-time key is no usable X25519 key.
    """
    bare = MaskedKey(entry=listed.entry, root=listed.root, commitment=listed.commitment, wrapped=bytes(80))
    context = _context(terms, bare)
    wrapped = wrap_masked(terms.one_time_key, data_key, mask, context)
    sealed = seal_with_key(_slip_key(data_key, context), canonical.encode(slip), context.info())
    return Item(key=msgspec.structs.replace(bare, wrapped=wrapped), slip=sealed)


def encode_message(terms: Terms, signer: KeyId, items: tuple[Item, ...]) -> bytes:
    """Give the payload of a message: what the custodian's gateway signs under `MESSAGE_TAG`."""
    return canonical.encode(
        Message(
            version=VERSION,
            chain=terms.chain,
            custodian=terms.custodian,
            signer=signer,
            recipient=terms.recipient,
            person=terms.person,
            grant=terms.grant,
            one_time_key=terms.one_time_key,
            items=items,
        )
    )


def message_hash(signed: bytes) -> Digest:
    """Give H(M), over the signed bytes as sent: what `use.reserve` names."""
    return tagged_hash(MESSAGE_TAG, signed)


def parse_message(signed: bytes) -> tuple[cose.Sign1, Message]:
    """Decode a signed message strictly; who signed it is not checked.

    Raises:
        VerificationError: too long, or not exactly this form.
    """
    if len(signed) > MAX_MESSAGE:
        raise VerificationError(f"message of {len(signed)} bytes, expected at most {MAX_MESSAGE}: refuse it")
    sign1 = canonical.decode(signed, cose.Sign1)
    return sign1, canonical.decode(sign1.payload, Message)


def check_message(signed: bytes, public_key: bytes, terms: Terms, listed: tuple[Listed, ...]) -> Message:
    """Make sure that a message is the one that was asked for, before anything is reserved.

    1. Its form is strict. 2. The custodian's gateway key signed it. 3. It names this chain, custodian, recipient,
    person, grant and one-time key. 4. It holds exactly the entries asked for, in their order, with the roots and
    commitments that the ledger shows.

    Raises:
        VerificationError: any of these.
    """
    sign1, message = parse_message(signed)
    if not cose.verify1(sign1, MESSAGE_TAG.encode(), SuiteId.INTL, public_key):
        raise VerificationError(
            f"the message under grant {terms.grant.hex()} is not signed by the custodian's key: ask the custodian again"
        )
    if _terms(message) != terms:
        raise VerificationError(
            f"the message names other parties, another grant or key than was asked under grant {terms.grant.hex()}: "
            "ask the custodian again"
        )
    found = tuple((item.key.entry, item.key.root, item.key.commitment) for item in message.items)
    expected = tuple((one.entry, one.root, one.commitment) for one in listed)
    if found != expected:
        raise VerificationError(
            f"the message holds {len(found)} entries that differ from the {len(expected)} asked for as the ledger has "
            "them: ask the custodian again"
        )
    return message


def open_item(message: Message, item: Item, one_time_private: bytes, mask: bytes) -> Opened:
    """Unmask the data key of one item and open its slip.

    Raises:
        VerificationError: the wrap or the slip does not open: dispute it with the code for a key that differs.
    """
    context = message.context(item.key)
    data_key = unwrap_masked(one_time_private, item.key.wrapped, mask, context)
    plain = open_with_key(_slip_key(data_key, context), item.slip, context.info())
    return Opened(data_key=data_key, slip=canonical.decode(plain, Slip))


def _terms(message: Message) -> Terms:
    return Terms(
        chain=message.chain,
        custodian=message.custodian,
        recipient=message.recipient,
        person=message.person,
        grant=message.grant,
        one_time_key=message.one_time_key,
    )


def _context(terms: Terms, key: MaskedKey) -> ReleaseContext:
    return ReleaseContext(
        chain=terms.chain,
        custodian=terms.custodian,
        recipient=terms.recipient,
        person=terms.person,
        grant=terms.grant,
        entry=key.entry,
        root=key.root,
        commitment=key.commitment,
    )


def _slip_key(data_key: bytes, context: ReleaseContext) -> bytes:
    # The data key itself seals the segments; a slip gets a key of its own, so that no nonce can meet another's.
    return derive_key(data_key, framed(SLIP_TAG, context.info()))
