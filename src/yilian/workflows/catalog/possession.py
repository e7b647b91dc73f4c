"""Challenges off the ledger: the custodian shows one ciphertext segment an entry, the challenger checks it.

The value of the challenge picks the segment; neither side could choose it. The signed message holds
headers, paths and the hash of each segment; its digest is the answer on the ledger. The segments travel beside it.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.blob import (
    MAX_HEADER,
    SEGMENT_SIZE,
    TAG_SIZE,
    BlobReader,
    SegmentProof,
    parse_header,
    segment_with_proof,
    verify_segment,
)
from yilian.crypto.suite import SuiteId, tagged_hash
from yilian.engine.gateway import Gateway
from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.cases import Found
from yilian.ledger.members import Key, Role
from yilian.storage.port import Blobs
from yilian.values import CaseId, Digest, EntryId, InstitutionId, KeyId, Natural, case_id
from yilian.workflows.catalog.model import Challenge, Entry

VERSION: Final = 1
ANSWER_TAG: Final = "yilian/challenge-answer/v1"
SEGMENT_TAG: Final = "yilian/challenge-segment/v1"
MAX_ANSWER: Final = 36 << 20

_Paths = Annotated[tuple[Digest, ...], Meta(max_length=33)]
_Segment = Annotated[bytes, Meta(max_length=SEGMENT_SIZE + TAG_SIZE)]


class Holder(Protocol):
    """What answering and asking need of an institution."""

    @property
    def id(self) -> InstitutionId:
        """Its id."""
        ...

    @property
    def gateway(self) -> Gateway:
        """Its hand on the ledger."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Its sealed records."""
        ...


class Shown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What is signed of one entry: where its segment stands under the root, and the segment's leaf hash."""

    entry: EntryId
    header: Annotated[bytes, Meta(max_length=MAX_HEADER)]
    header_path: _Paths
    index: Natural
    leaf: Digest
    segment_path: _Paths


class ChallengeMessage(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The payload that the custodian signs; entries that it no longer holds are missing."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    chain: Digest
    signer: KeyId
    challenge: CaseId
    shown: Annotated[tuple[Shown, ...], Meta(max_length=32)]


class ChallengeAnswerFile(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What goes to the challenger: the signed message, and the segments in its order."""

    signed: Annotated[bytes, Meta(max_length=1 << 20)]
    segments: Annotated[tuple[_Segment, ...], Meta(max_length=32)]


def picked_segment(value: Digest, entry: EntryId, segments: int) -> int:
    """Give the number of the segment that the value of a challenge picks of one entry, from 0."""
    return int.from_bytes(tagged_hash(SEGMENT_TAG, value, entry), "big") % segments


def answer_digest(signed: bytes) -> Digest:
    """Name a signed message: what `challenge.answer` puts on the ledger."""
    return tagged_hash(ANSWER_TAG, signed)


def make_answer(custodian: Holder, challenge: Found[Challenge]) -> tuple[Digest, bytes]:
    """Make the signed segment message: (its digest, the bytes for the challenger). The same each time while held."""
    shown: list[Shown] = []
    segments: list[bytes] = []
    for entry_id in challenge.fields.entries:
        proof = _proof(custodian, entry_id, challenge.fields.value)
        if proof is None:
            continue
        segments.append(proof.segment)
        shown.append(
            Shown(
                entry=entry_id,
                header=proof.header,
                header_path=proof.header_path,
                index=proof.index,
                leaf=merkle.leaf_hash(proof.segment),
                segment_path=proof.segment_path,
            )
        )
    message = ChallengeMessage(
        version=VERSION,
        chain=custodian.gateway.engine.chain,
        signer=custodian.gateway.key_id,
        challenge=challenge.header.id,
        shown=tuple(shown),
    )
    signed = custodian.gateway.sign_document(canonical.encode(message), ANSWER_TAG)
    return answer_digest(signed), canonical.encode(ChallengeAnswerFile(signed=signed, segments=tuple(segments)))


def failed_entries(challenger: Holder, challenge: Found[Challenge], answer: bytes) -> tuple[EntryId, ...]:
    """Check every segment against the root on the ledger, and give the entries whose segment is missing or wrong.

    Raises:
        VerificationError: this is not the message whose digest stands on the ledger: ask the custodian for that one.
    """
    if len(answer) > MAX_ANSWER:
        raise VerificationError(f"answer of {len(answer)} bytes, expected at most {MAX_ANSWER}: ask for the right one")
    file = canonical.decode(answer, ChallengeAnswerFile)
    found = answer_digest(file.signed)
    if found != challenge.fields.answer:
        raise VerificationError(
            f"the segment message has digest {found.hex()}, the ledger names another: ask the custodian for that one"
        )
    message = _signed_by(challenger, challenge, file.signed)
    if message is None or len(file.segments) != len(message.shown):
        return challenge.fields.entries
    shown = {one.entry: (one, segment) for one, segment in zip(message.shown, file.segments, strict=True)}
    return tuple(
        entry_id
        for entry_id in challenge.fields.entries
        if entry_id not in shown or not _holds(challenger, challenge.fields.value, *shown[entry_id])
    )


def _proof(custodian: Holder, entry_id: EntryId, value: Digest) -> SegmentProof | None:
    entry = custodian.gateway.find(Entry, entry_id)
    if entry is None:
        return None
    try:
        with custodian.blobs.open(entry.fields.root) as blob:
            index = picked_segment(value, entry_id, BlobReader(blob).segments)
            return segment_with_proof(blob, index)
    except (NotFoundError, VerificationError):
        return None


def _signed_by(challenger: Holder, challenge: Found[Challenge], signed: bytes) -> ChallengeMessage | None:
    sign1 = canonical.decode(signed, cose.Sign1)
    message = canonical.decode(sign1.payload, ChallengeMessage)
    key = challenger.gateway.find(Key, case_id(message.signer))
    if key is None or key.fields.owner != challenge.fields.custodian or key.fields.role != Role.NODE:
        return None
    holds = cose.verify1(sign1, ANSWER_TAG.encode(), SuiteId.INTL, key.fields.public_key)
    same = message.chain == challenger.gateway.engine.chain and message.challenge == challenge.header.id
    return message if holds and same else None


def _holds(challenger: Holder, value: Digest, shown: Shown, segment: bytes) -> bool:
    entry = challenger.gateway.find(Entry, shown.entry)
    if entry is None or merkle.leaf_hash(segment) != shown.leaf:
        return False
    proof = SegmentProof(
        header=shown.header,
        header_path=shown.header_path,
        index=shown.index,
        segment=segment,
        segment_path=shown.segment_path,
    )
    try:
        segments = parse_header(shown.header).segments
        verify_segment(proof, picked_segment(value, shown.entry, segments), entry.fields.root)
    except VerificationError:
        return False
    return True
