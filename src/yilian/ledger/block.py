"""Blocks and the genesis: what the engines order, and from what a chain starts.

block   = [COSE_Sign1 over the header, [transaction bytes …]]
genesis = everything that precedes block 1; the chain's id is its digest, which every founding CA signs
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.suite import Signer, SuiteId, key_id_of, tagged_hash
from yilian.errors import VerificationError
from yilian.ledger.cases import Case, Found, Header, Part
from yilian.ledger.members import (
    Constitution,
    Key,
    KeyState,
    Member,
    MemberState,
    Parameters,
    Roster,
)
from yilian.ledger.state import GOVERNANCE, encode_case, encode_register, register_key
from yilian.values import CaseId, Digest, InstitutionId, KeyId, Natural, UnixMillis, Word, case_id, institution_id

VERSION = 1
BLOCK_TAG = b"yilian/block/v1"
DEFAULT_DEPTH = 20


class BlockHeader(Part, frozen=True, kw_only=True):
    """What the proposer of a block signs. `app_hash` is the one before the block."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    chain: Digest
    height: Natural
    time: UnixMillis
    parent: Digest
    """Digest of the header before; the chain's id for block 1."""
    transactions_root: Digest
    app_hash: Digest
    proposer: InstitutionId
    key_id: KeyId

    @property
    def digest(self) -> Digest:
        """Digest of the header: the next block's parent."""
        return tagged_hash("yilian/block-header/v1", canonical.encode(self))


class Block(Part, frozen=True, kw_only=True):
    """A block as it stands in the segments."""

    sign1: cose.Sign1
    transactions: Annotated[tuple[bytes, ...], Meta(max_length=10_000)]


class Founder(Part, frozen=True, kw_only=True):
    """A founding member with its keys (at least a gateway key and an OFFICER key)."""

    member: Member
    keys: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=64)]


class Genesis(Part, frozen=True, kw_only=True):
    """The start of a chain."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    name: Word
    time: UnixMillis
    suites: Annotated[tuple[Natural, ...], Meta(min_length=1, max_length=4)]
    tree_depth: Annotated[int, Meta(ge=8, le=24)]
    workflows: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=64)]
    founders: Annotated[tuple[Founder, ...], Meta(min_length=1, max_length=256)]
    constitution: Constitution
    parameters: Parameters

    @property
    def chain(self) -> Digest:
        """Id of the chain."""
        return tagged_hash("yilian/genesis/v1", canonical.encode(self))

    def rows(self) -> list[tuple[bytes, bytes]]:
        """Give the rows of the state before block 1: (natural key, row bytes)."""
        rows: list[tuple[bytes, bytes]] = []

        def put_case(word: str, id_: CaseId, state: str, fields: Case) -> None:
            header = Header(
                id=id_,
                version=1,
                state=state,
                flags=(),
                opened_height=0,
                opened_time=self.time,
                changed_height=0,
                changed_time=self.time,
                patient=None,
            )
            rows.append((b"case/" + id_, encode_case(word, 1, Found(header, fields))))

        for founder in self.founders:
            put_case("member", case_id(member_id(founder.member.ca_fingerprint)), MemberState.ACTIVE, founder.member)
            for key in founder.keys:
                put_case("key", case_id(key_id_of(SuiteId(key.suite), key.public_key)), KeyState.ACTIVE, key)
        roster = Roster(members=tuple(member_id(founder.member.ca_fingerprint) for founder in self.founders))
        for register in (self.constitution, self.parameters, roster):
            natural_key = register_key(GOVERNANCE, register.word)
            rows.append((natural_key, encode_register(natural_key, register)))
        return rows


def member_id(ca_fingerprint: Digest) -> InstitutionId:
    """Derive an institution's id from the fingerprint of its first CA certificate."""
    return institution_id(tagged_hash("yilian/member/v1", ca_fingerprint))


def seal_block(header: BlockHeader, transactions: tuple[bytes, ...], proposer: Signer) -> bytes:
    """Sign a header and encode the block."""
    sign1 = cose.sign1(canonical.encode(header), BLOCK_TAG, proposer)
    return canonical.encode(Block(sign1=sign1, transactions=transactions))


def parse_block(data: bytes) -> tuple[BlockHeader, Block]:
    """Decode a block and check that its transactions are those that the header names; its signature is not checked.

    Raises:
        VerificationError: malformed, or other transactions than the header's root says.
    """
    block = canonical.decode(data, Block)
    cose.check_header(block.sign1, SuiteId.INTL)
    header = canonical.decode(block.sign1.payload, BlockHeader)
    root = transactions_root(block.transactions)
    if root != header.transactions_root:
        raise VerificationError(
            f"block {header.height} holds transactions of root {root.hex()}, its header says "
            f"{header.transactions_root.hex()}: fetch the block from another member"
        )
    return header, block


def verify_block(block: Block, public_key: bytes) -> bool:
    """Say whether the proposer's signature over the header holds."""
    return cose.verify1(block.sign1, BLOCK_TAG, SuiteId.INTL, public_key)


def transactions_root(transactions: tuple[bytes, ...]) -> Digest:
    """Give the RFC 6962 root over the bytes of transactions."""
    return merkle.root([merkle.leaf_hash(transaction) for transaction in transactions])
