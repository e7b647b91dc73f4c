"""Transactions and operations: their bytes, their strict decoding, and how they are built and signed.

    transaction = [COSE_Sign1, [operation bytes …]]
    payload     = [version, chain, actor, key_id, valid_until, op_count, ops_root]   signed by the gateway key
    operation   = [core bytes, persons]
    core        = [op_id, workflow, command, case_id, case_version, refs, body, claims_root]

Signatures and hashes cover the bytes as received. What fails here never enters a block: the sender gets a
`TransactionCode`, and nothing is recorded. Nothing here draws a random number: `op_id` comes from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Annotated

import cbor2
import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose, merkle
from yilian.crypto.suite import SIGNATURE_SIZE, Signer, SuiteId, sha256
from yilian.errors import VerificationError
from yilian.ledger.cases import Command
from yilian.ledger.members import Role
from yilian.values import CaseId, Digest, InstitutionId, KeyId, Natural, OpId, Signature, UnixMillis, Word

VERSION = 1
TX_TAG = b"yilian/tx/v1"
PERSON_TAG = "yilian/person/v1"
MAX_TRANSACTION_BYTES = 1_000_000
MAX_OPERATIONS = 1_000
MAX_OPERATION_BYTES = 20_000
MAX_BODY_BYTES = 16_384
MAX_REFS = 32
MAX_PERSONS = 3

_PROTECTED = cose.PROTECTED[SuiteId.INTL]
_START = b"\x82\x84" + canonical.byte_string(_PROTECTED) + b"\xa0"
"""A transaction's first bytes: array of two, COSE_Sign1 of four, protected header, no unprotected one."""

CommandTypes = Mapping[tuple[str, str], type[Command]]


class TransactionCode(IntEnum):
    """Why a transaction is not taken into a block; frozen numbers."""

    OK = 0
    TOO_LARGE = 1
    MALFORMED = 2
    WRONG_CHAIN = 3
    EXPIRED = 4
    TOO_FAR_AHEAD = 5
    OPS_ROOT_DIFFERS = 6
    UNKNOWN_COMMAND = 7
    SCHEMA = 8
    KEY_NOT_VALID = 9
    BAD_SIGNATURE = 10
    NEWCOMER_LIMIT = 11


class InvalidTransaction(VerificationError):  # noqa: N818 - a state of the transaction, named as CometBFT does
    """A transaction that cannot enter a block: correct what the message says and send it anew."""

    def __init__(self, code: TransactionCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Wire(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    pass


class Payload(_Wire, frozen=True, kw_only=True):
    """What the institution signs."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    chain: Digest
    actor: InstitutionId
    key_id: KeyId
    valid_until: UnixMillis
    """Last block time at which it may be included."""
    op_count: Annotated[int, Meta(ge=1, le=MAX_OPERATIONS)]
    ops_root: Digest
    """RFC 6962 root over the operations' bytes."""


class PersonSignature(_Wire, frozen=True, kw_only=True):
    """A person's signature over the core, with chain, actor, key, role and validity."""

    key_id: KeyId
    role: Role
    valid_until: UnixMillis
    signature: Signature


class Core(_Wire, frozen=True, kw_only=True):
    """What an operation asks for."""

    op_id: OpId
    workflow: Word
    command: Word
    case_id: CaseId
    case_version: Natural
    refs: Annotated[tuple[CaseId, ...], Meta(max_length=MAX_REFS)]
    body: Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
    claims_root: Digest | None


class _Operation(_Wire, frozen=True, kw_only=True):
    core: bytes
    persons: Annotated[tuple[PersonSignature, ...], Meta(max_length=MAX_PERSONS)]


class _Transaction(_Wire, frozen=True, kw_only=True):
    sign1: cose.Sign1
    operations: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One decoded operation. `digest` is the RFC 6962 leaf hash of its bytes."""

    digest: Digest
    core_bytes: bytes
    core: Core
    persons: tuple[PersonSignature, ...]
    command: Command


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A decoded transaction; its signature is not checked yet."""

    payload: Payload
    sign1: cose.Sign1
    operations: tuple[Operation, ...]


def parse(data: bytes, commands: CommandTypes) -> Envelope:
    """Decode a transaction strictly: everything that needs neither state nor signature.

    Raises:
        InvalidTransaction: size, CBOR, COSE header, operations root, or the schema of an operation.
    """
    if len(data) > MAX_TRANSACTION_BYTES:
        raise InvalidTransaction(
            TransactionCode.TOO_LARGE, f"{len(data)} bytes, at most {MAX_TRANSACTION_BYTES}: send several transactions"
        )
    try:
        wire = _split_transaction(data)
        payload = canonical.decode(wire.sign1.payload, Payload)
    except VerificationError as error:
        raise InvalidTransaction(TransactionCode.MALFORMED, f"the transaction is malformed: {error}") from error
    digests = [sha256(b"\x00" + operation) for operation in wire.operations]
    if len(digests) != payload.op_count or merkle.root(digests) != payload.ops_root:
        raise InvalidTransaction(
            TransactionCode.OPS_ROOT_DIFFERS,
            f"{len(digests)} operations do not have the signed root over {payload.op_count}: sign what you send",
        )
    operations = tuple(
        parse_operation(operation, digest, commands) for operation, digest in zip(wire.operations, digests, strict=True)
    )
    return Envelope(payload, wire.sign1, operations)


def parse_operation(data: bytes, digest: Digest, commands: CommandTypes) -> Operation:
    """Decode one operation strictly; `digest` is its RFC 6962 leaf hash."""
    if len(data) > MAX_OPERATION_BYTES:
        raise InvalidTransaction(TransactionCode.TOO_LARGE, f"operation of {len(data)} bytes: at most 20000")
    try:
        wire = _split_operation(data)
        core = canonical.decode(wire.core, Core)
    except VerificationError as error:
        raise InvalidTransaction(TransactionCode.MALFORMED, f"an operation is malformed: {error}") from error
    kind = commands.get((core.workflow, core.command))
    if kind is None:
        raise InvalidTransaction(
            TransactionCode.UNKNOWN_COMMAND,
            f"{core.workflow} has no command {core.command} on this chain: see the chain's workflows",
        )
    try:
        command = canonical.decode(core.body, kind)
    except VerificationError as error:
        raise InvalidTransaction(TransactionCode.SCHEMA, f"{core.command}: {error}") from error
    return Operation(digest, wire.core, core, wire.persons, command)


def _split_transaction(data: bytes) -> _Transaction:
    """Take the outer arrays apart by their bytes; whatever is not plainly canonical goes the long way, to its error."""
    try:
        if data.startswith(_START):
            payload, at = canonical.split_byte_string(data, len(_START))
            signature, at = canonical.split_byte_string(data, at)
            count, at = canonical.split_array(data, at)
            operations = []
            for _ in range(count):
                operation, at = canonical.split_byte_string(data, at)
                operations.append(operation)
            if at == len(data) and len(signature) == SIGNATURE_SIZE and 1 <= count <= MAX_OPERATIONS:
                sign1 = cose.Sign1(protected=_PROTECTED, unprotected={}, payload=payload, signature=signature)
                return _Transaction(sign1=sign1, operations=tuple(operations))
    except VerificationError:
        pass
    wire = canonical.decode(data, _Transaction)
    cose.check_header(wire.sign1, SuiteId.INTL)
    return wire


def _split_operation(data: bytes) -> _Operation:
    """Take an operation without persons apart by its bytes, any other as a whole."""
    if data[:1] == b"\x82" and data[-1:] == b"\x80":
        try:
            core, at = canonical.split_byte_string(data, 1)
        except VerificationError:
            return canonical.decode(data, _Operation)
        if at == len(data) - 1:
            return _Operation(core=core, persons=())
    return canonical.decode(data, _Operation)


def has_persons(transaction: bytes) -> bool:
    """Say whether an operation of a transaction from a block carries a person's signature; quicker than `parse`."""
    return any(_split_operation(operation).persons for operation in _split_transaction(transaction).operations)


def parse_checked(data: bytes, commands: CommandTypes) -> Envelope:
    """Decode a transaction that `parse` has accepted before, without checking its form again."""
    (protected, unprotected, payload, signature), raw_operations = cbor2.loads(data)
    sign1 = cose.Sign1(protected=protected, unprotected=unprotected, payload=payload, signature=signature)
    operations = []
    for raw in raw_operations:
        core_bytes, persons = cbor2.loads(raw)
        core = canonical.decode_trusted(core_bytes, Core)
        command = canonical.decode_trusted(core.body, commands[core.workflow, core.command])
        signatures = (
            tuple(msgspec.convert(item, PersonSignature, builtin_types=(bytes,)) for item in persons) if persons else ()
        )
        operations.append(Operation(sha256(b"\x00" + raw), core_bytes, core, signatures, command))
    return Envelope(canonical.decode_trusted(payload, Payload), sign1, tuple(operations))


def person_message(core: bytes, chain: Digest, actor: InstitutionId, person: PersonSignature) -> bytes:
    """Give the bytes that a person signs; the signature inside `person` is not looked at."""
    return cbor2.dumps([PERSON_TAG, chain, actor, person.key_id, person.role.value, person.valid_until, core])


def encode_core(core: Core) -> bytes:
    """Encode a core; these are the bytes that persons sign."""
    return canonical.encode(core)


def sign_core(
    core: bytes, signer: Signer, role: Role, *, chain: Digest, actor: InstitutionId, valid_until: UnixMillis
) -> PersonSignature:
    """Sign a core as a person; `actor` is the institution whose envelope will carry it."""
    unsigned = PersonSignature(key_id=signer.key_id, role=role, valid_until=valid_until, signature=b"\0" * 64)
    signature = signer.sign(person_message(core, chain, actor, unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def encode_operation(core: bytes, persons: Sequence[PersonSignature] = ()) -> bytes:
    """Encode an operation from its core and the persons' signatures."""
    return canonical.encode(_Operation(core=core, persons=tuple(persons)))


def sign_transaction(
    operations: Sequence[bytes], gateway: Signer, *, chain: Digest, actor: InstitutionId, valid_until: UnixMillis
) -> bytes:
    """Sign 1 to 1,000 encoded operations with an institution's gateway key.

    Raises:
        ValueError: no operation, or more than 1,000.
    """
    if not 1 <= len(operations) <= MAX_OPERATIONS:
        raise ValueError(f"{len(operations)} operations in an envelope, expected 1 to {MAX_OPERATIONS}")
    payload = Payload(
        version=VERSION,
        chain=chain,
        actor=actor,
        key_id=gateway.key_id,
        valid_until=valid_until,
        op_count=len(operations),
        ops_root=merkle.root([merkle.leaf_hash(operation) for operation in operations]),
    )
    sign1 = cose.sign1(canonical.encode(payload), TX_TAG, gateway)
    return canonical.encode(_Transaction(sign1=sign1, operations=tuple(operations)))
