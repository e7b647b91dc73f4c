"""The state machine: executes blocks over a store; the same pure code behind every engine.

`execute` computes everything that a block changes without writing; `commit` writes it at once. Between the two the flat
state tree already holds the new hashes: `discard` puts it back where a commit fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import Annotated

import cbor2
import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.suite import SuiteId, tagged_hash, verify
from yilian.errors import Refused, UnavailableError, VerificationError
from yilian.ledger import envelope as envelopes
from yilian.ledger.block import Block, Genesis, parse_block
from yilian.ledger.cases import Case, Found, Part
from yilian.ledger.envelope import Envelope, InvalidTransaction, Operation, TransactionCode
from yilian.ledger.judge import Actor, Judge
from yilian.ledger.judge import Block as Circumstances
from yilian.ledger.log import Leaf, Log, changes_digest
from yilian.ledger.members import LIVING, Constitution, MemberState, Parameters, Role, is_valid
from yilian.ledger.ports import Batch, Blocks, State
from yilian.ledger.registry import Registry
from yilian.ledger.state import GOVERNANCE, Directory, Layer, decode_case, key_hash, register_key
from yilian.ledger.tree import Rows, StateTree
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import HOUR, CaseId, Digest, InstitutionId, Natural, OpId, UnixMillis, digest

ENVELOPE_VALIDITY = HOUR
WINDOW = HOUR
"""How long an (actor, op_id) is remembered, in block time: as long as an envelope can be valid."""


class Checked(IntEnum):
    """What of a transaction was checked before its block: nothing, its signatures and form, or its signatures alone.

    Signatures are checked with the public keys of the key ids that they name; a key id is a hash of its key.
    """

    NOTHING = 0
    ALL = 1
    SIGNATURES = 2


Verified = Callable[[bytes], int]
"""Says of a transaction's bytes what was checked, as `Checked`."""

Result = tuple[tuple[str, int], ...]
"""Empty: done; else (workflow, number) of the refusal, those of consequences behind it."""


class Head(Part, frozen=True, kw_only=True):
    """Where the chain stands after a block."""

    height: Natural
    time: UnixMillis
    block: Digest
    """Digest of the newest header; the chain's id before block 1."""
    app_hash: Digest
    log_size: Natural
    log_root: Digest
    state_root: Digest
    parameters_root: Digest


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one operation. `leaf` is its index in the log."""

    op_id: OpId
    case_id: CaseId
    command: str
    result: Result
    leaf: int
    height: int
    message: str = ""
    """Words for the sender, never on record."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return not self.result


class TransactionResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one transaction: a code, and an answer an operation where the code is OK."""

    code: TransactionCode
    answers: tuple[Answer, ...] = ()
    message: str = ""


class OperationRecord(Part, frozen=True, kw_only=True):
    """A leaf and the rows that its operation wrote, as stored with the block: what projections and audits read."""

    leaf: Leaf
    rows: Annotated[tuple[bytes, ...], Meta(max_length=512)]


class _BlockRecords(Part, frozen=True, kw_only=True):
    first: Natural
    """Index of the first leaf in the log."""
    records: tuple[OperationRecord, ...]


class Executed(msgspec.Struct, frozen=True, kw_only=True):
    """A block's effects, not yet written."""

    head: Head
    batch: Batch
    results: tuple[TransactionResult, ...]
    log: Log
    overwritten: Mapping[int, bytes]
    remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer]]


class Machine:
    """One chain over one store. Not thread-safe: one thread executes and commits."""

    def __init__(self, state: State, registry: Registry, genesis: Genesis) -> None:
        """Open a store, writing the genesis rows into an empty one, and rebuild the tree by one sorted scan.

        Raises:
            VerificationError: the store belongs to another chain, or its rows have not the root of its head.
        """
        self.registry = registry
        self.genesis = genesis
        self.chain = genesis.chain
        self._state = state
        if state.head() is None:
            self._write_genesis()
        stored = state.head()
        if stored is None:
            raise AssertionError("the genesis was just written")
        self.head = canonical.decode(stored, Head)
        scan = state.scan(b"\0" * 32, None)
        self._tree = StateTree.build(genesis.tree_depth, ((key, sha256(row).digest()) for key, row in scan))
        if self._tree.root != self.head.state_root:
            raise VerificationError(
                f"the state store has root {self._tree.root.hex()}, its head says {self.head.state_root.hex()}: "
                "run `yilian node check`, then restore from a backup or another member"
            )
        self._log = Log.load(self.head.log_size, state.tile)
        self._remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer, UnixMillis]] = {}
        self._ages: deque[tuple[UnixMillis, tuple[InstitutionId, OpId]]] = deque()

    def restore_window(self, blocks: Blocks) -> None:
        """Fill the memory of recent operation ids from the blocks and leaves of the last hour of block time."""
        heights = []
        for height in range(self.head.height, 0, -1):
            header, block = parse_block(blocks.read(height))
            if header.time < self.head.time - WINDOW:
                break
            heights.append((header, block))
        for header, block in heights:
            first = self.first_leaf(header.height)
            for index, (operation, record) in enumerate(self.operations(header.height, block)):
                answer = Answer(
                    op_id=record.leaf.op_id,
                    case_id=operation.core.case_id,
                    command=operation.core.command,
                    result=record.leaf.result,
                    leaf=first + index,
                    height=header.height,
                )
                key = (record.leaf.actor, record.leaf.op_id)
                if answer.result[:1] != ((KERNEL, KernelRefusal.OP_ID_REUSED),):
                    self._remembered[key] = (record.leaf.operation, answer, header.time)
        for key, (_, _, time) in sorted(self._remembered.items(), key=lambda item: item[1][2]):
            self._ages.append((time, key))

    def records(self, height: int) -> tuple[OperationRecord, ...]:
        """Give what the operations of a committed block did, in the order of their leaves."""
        stored = self._state.leaves(height)
        return canonical.decode_trusted(stored, _BlockRecords).records if stored else ()

    def first_leaf(self, height: int) -> int:
        """Give the index in the log of a block's first leaf; 0 where it added none."""
        stored = self._state.leaves(height)
        return canonical.decode_trusted(stored, _BlockRecords).first if stored else 0

    def operations(self, height: int, block: Block) -> Iterator[tuple[Operation, OperationRecord]]:
        """Pair the operations of a committed block that have a leaf with what they did, in order of leaves."""
        records = iter(self.records(height))
        record = next(records, None)
        for transaction in block.transactions:
            try:
                envelope = envelopes.parse(transaction, self.registry.command_types)
            except InvalidTransaction:
                continue
            for operation in envelope.operations:
                if (
                    record is not None
                    and record.leaf.actor == envelope.payload.actor
                    and record.leaf.operation == operation.digest
                ):
                    yield operation, record
                    record = next(records, None)

    def check(self, transaction: bytes, time: UnixMillis) -> Envelope:
        """Check all that keeps a transaction out of a block, against the state of the last commit; from any thread.

        Raises:
            InvalidTransaction: with its code.
        """
        envelope = envelopes.parse(transaction, self.registry.command_types)
        directory = self.directory()
        _check_actor(envelope, self.chain, directory, time)
        _check_signature(envelope, directory)
        return envelope

    def execute(  # noqa: PLR0917 - what a block is made of
        self, height: int, time: UnixMillis, block: Digest, transactions: Sequence[bytes], verified: Verified
    ) -> Executed:
        """Execute a block's transactions in order.

        `block` is the digest of its header. Call `commit` or `discard` before the next `execute`.
        """
        if height != self.head.height + 1 or time < self.head.time:
            raise VerificationError(
                f"block {height} at {time} does not follow block {self.head.height} at {self.head.time}"
            )
        circumstances = Circumstances(
            chain=self.chain,
            height=height,
            time=time,
            previous_app_hash=self.head.app_hash,
            directory=Directory(self._state),
        )
        run = _Execution(self, circumstances, Layer(self._state, self.registry.fields))
        results = tuple(run.transaction(transaction, verified) for transaction in transactions)
        overwritten = self._tree.update(run.changes, self._stored_bucket)
        log = self._log.copy()
        for record in run.leaves:
            log.append(sha256(b"\x00" + record).digest())
        log_root = log.root()
        parameters_root = self.head.parameters_root
        if run.parameters_changed:
            parameters_root = _parameters_root(run.layer)
        head = Head(
            height=height,
            time=time,
            block=block,
            app_hash=_app_hash(log.size, log_root, self._tree.root, parameters_root),
            log_size=log.size,
            log_root=log_root,
            state_root=self._tree.root,
            parameters_root=parameters_root,
        )
        batch = Batch(
            height=height,
            rows=run.rows,
            tiles={key: bytes(tile) for key, tile in log.touched.items()},
            leaves=run.records(),
            head=canonical.encode(head),
        )
        return Executed(
            head=head,
            batch=batch,
            results=results,
            log=log,
            overwritten=overwritten,
            remembered=run.remembered,
        )

    def commit(self, executed: Executed) -> None:
        """Write a block's effects, durably and as a whole.

        Raises:
            UnavailableError: the disk is full or failed; nothing was written and the machine is as before `execute`.
        """
        try:
            self._state.write(executed.batch)
        except UnavailableError:
            self.discard(executed)
            raise
        self.head = executed.head
        executed.log.touched.clear()
        self._log = executed.log
        self._remember(executed)

    @staticmethod
    def name(executed: Executed, block: Digest) -> Executed:
        """Give the same effects under another block digest: for a header that is signed after execution."""
        head = msgspec.structs.replace(executed.head, block=block)
        batch = msgspec.structs.replace(executed.batch, head=canonical.encode(head))
        return msgspec.structs.replace(executed, head=head, batch=batch)

    def discard(self, executed: Executed) -> None:
        """Forget a block that was executed and is not committed."""
        self._tree.undo(executed.overwritten)

    def find_case(self, case: CaseId) -> tuple[str, Found[Case]] | None:
        """Find a committed case of any type; from any thread."""
        row = self._state.get(key_hash(b"case/" + case))
        return None if row is None else decode_case(row, self.registry.fields)

    def directory(self) -> Directory:
        """Members, keys and parameters as of the last commit; from any thread, for short use."""
        return Directory(self._state)

    def answered(self, actor: InstitutionId, op: OpId, time: UnixMillis) -> tuple[Digest, Answer] | None:
        """Find what was answered to an operation id in the last hour of block time: its bytes' digest, the answer."""
        remembered = self._remembered.get((actor, op))
        if remembered is None or remembered[2] < time - WINDOW:
            return None
        return remembered[0], remembered[1]

    def _remember(self, executed: Executed) -> None:
        # at most 2 old entries an operation, so that no block pays for an hour of them
        budget = 2 * len(executed.remembered)
        while budget and self._ages and self._ages[0][0] < executed.head.time - WINDOW:
            time, key = self._ages.popleft()
            if key in self._remembered and self._remembered[key][2] == time:
                del self._remembered[key]
            budget -= 1
        for key, (operation_digest, answer) in executed.remembered.items():
            self._remembered[key] = (operation_digest, answer, executed.head.time)
            self._ages.append((executed.head.time, key))

    def _stored_bucket(self, index: int) -> Rows:
        start, stop = self._tree.bucket_range(index)
        return [(key, sha256(row).digest()) for key, row in self._state.scan(start, stop)]

    def _write_genesis(self) -> None:
        rows = {key_hash(key): row for key, row in self.genesis.rows()}
        tree = StateTree.build(
            self.genesis.tree_depth, ((key, sha256(row).digest()) for key, row in sorted(rows.items()))
        )
        layer = Layer(self._state, self.registry.fields)
        for register in (self.genesis.parameters, self.genesis.constitution):
            layer.put_register(register_key(GOVERNANCE, register.word), register)
        parameters_root = _parameters_root(layer)
        log_root = Log(0, []).root()
        head = Head(
            height=0,
            time=self.genesis.time,
            block=self.chain,
            app_hash=_app_hash(0, log_root, tree.root, parameters_root),
            log_size=0,
            log_root=log_root,
            state_root=tree.root,
            parameters_root=parameters_root,
        )
        self._state.write(Batch(height=0, rows=rows, tiles={}, leaves=b"", head=canonical.encode(head)))


class _Execution:
    """The execution of one block."""

    def __init__(self, machine: Machine, circumstances: Circumstances, layer: Layer) -> None:
        self._machine = machine
        self._circumstances = circumstances
        self._judge = Judge(machine.registry, circumstances)
        self._types = machine.registry.command_types
        self.layer = layer
        self.leaves: list[bytes] = []
        self.rows: dict[bytes, bytes] = {}
        """Key hash → row as the block leaves it."""
        self.changes: dict[bytes, bytes] = {}
        """Key hash → value hash of the same rows."""
        self._records: list[bytes] = []
        # a leaf's first two fields and head of the third, alike for all leaves of a block
        self._leaf_start = b"\x88" + cbor2.dumps(circumstances.height) + cbor2.dumps(circumstances.time) + _BYTES32
        self.remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer]] = {}

    @property
    def parameters_changed(self) -> bool:
        """Whether parameters or constitution changed in this block."""
        return any(key in self.layer.changed for key in _PARAMETER_KEYS)

    def records(self) -> bytes:
        """Give the block's `_BlockRecords`, encoded; empty where no leaf was added."""
        if not self._records:
            return b""
        return b"\x82" + cbor2.dumps(self._machine.head.log_size) + canonical.array(self._records)

    def transaction(self, data: bytes, verified: Verified) -> TransactionResult:
        """Execute one transaction; what cannot enter a block leaves no trace but its code."""
        directory, time = self._circumstances.directory, self._circumstances.time
        try:
            checked = verified(data)
            holds = checked != Checked.NOTHING
            parse = envelopes.parse_checked if checked == Checked.ALL else envelopes.parse
            envelope = parse(data, self._types)
            actor = _check_actor(envelope, self._machine.chain, directory, time)
            if not holds:
                _check_signature(envelope, directory)
        except InvalidTransaction as invalid:
            return TransactionResult(code=invalid.code, message=str(invalid))
        answers = tuple(self._operation(operation, actor, holds=holds) for operation in envelope.operations)
        return TransactionResult(code=TransactionCode.OK, answers=answers)

    def _operation(self, operation: Operation, actor: Actor, *, holds: bool) -> Answer:
        core = operation.core
        key = (actor.institution, core.op_id)
        # 1. (actor, op_id) unused
        before = self.remembered.get(key) or self._machine.answered(*key, self._circumstances.time)
        if before is not None and before[0] == operation.digest:
            return before[1]
        result: Result = ()
        message = ""
        rows: dict[bytes, bytes] = {}
        if before is not None:
            result = ((KERNEL, int(KernelRefusal.OP_ID_REUSED)),)
            message = f"operation id {core.op_id.hex()} stands for other bytes: draw a new one"
        else:
            layer = self.layer.child()
            try:
                self._judge.run(operation, actor, layer, signatures_hold=holds)
            except Refused as refused:
                result, message = ((refused.workflow, refused.number), *refused.inner)[:4], str(refused)
            else:
                self.layer.merge(layer)
                rows = layer.changed
        answer = Answer(
            op_id=core.op_id,
            case_id=core.case_id,
            command=core.command,
            result=result,
            leaf=self._machine.head.log_size + len(self.leaves),
            height=self._circumstances.height,
            message=message,
        )
        self._add_leaf(operation, actor, result, rows)
        if before is None:
            self.remembered[key] = (operation.digest, answer)
        return answer

    def _add_leaf(self, operation: Operation, actor: Actor, result: Result, rows: dict[bytes, bytes]) -> None:
        changes = []
        for natural_key, row in rows.items():
            key, value = sha256(natural_key).digest(), sha256(row).digest()
            self.rows[key] = row
            self.changes[key] = value
            changes.append((key, value))
        if len(changes) > 1:
            changes.sort()
        # the fields of `Leaf`, in its order, encoded by hand, since this is on the path of every operation
        claims_root = operation.core.claims_root
        leaf = b"".join(
            (
                self._leaf_start,
                actor.institution,
                b"\x50",
                operation.core.op_id,
                _BYTES32,
                operation.digest,
                cbor2.dumps(result) if result else b"\x80",
                _BYTES32,
                changes_digest(changes),
                b"\xf6" if claims_root is None else _BYTES32 + claims_root,
            )
        )
        self.leaves.append(leaf)
        self._records.append(b"\x82" + leaf + canonical.array([canonical.byte_string(row) for row in rows.values()]))


_BYTES32 = b"\x58\x20"
"""CBOR head of a byte string of 32 bytes."""
_PARAMETER_KEYS = tuple(register_key(GOVERNANCE, register.word) for register in (Parameters, Constitution))


def _check_actor(envelope: Envelope, chain: Digest, directory: Directory, time: UnixMillis) -> Actor:
    payload = envelope.payload
    if payload.chain != chain:
        raise InvalidTransaction(
            TransactionCode.WRONG_CHAIN, f"signed for chain {payload.chain.hex()}, this is {chain.hex()}"
        )
    if time > payload.valid_until:
        raise InvalidTransaction(
            TransactionCode.EXPIRED, f"valid until {payload.valid_until}, block time is {time}: sign anew"
        )
    if payload.valid_until > time + ENVELOPE_VALIDITY:
        raise InvalidTransaction(
            TransactionCode.TOO_FAR_AHEAD,
            f"valid until {payload.valid_until}, at most {time + ENVELOPE_VALIDITY} at block time {time}: sign shorter",
        )
    key, member = directory.key(payload.key_id), directory.member(payload.actor)
    if key is None or member is None or key.fields.owner != payload.actor:
        raise _bad_key(envelope)
    role = key.fields.role
    living = member.state in LIVING and role == Role.NODE
    invited = member.state == MemberState.INVITED and role == Role.NEWCOMER
    if not is_valid(key.fields, key.state, time) or not (living or invited):
        raise _bad_key(envelope)
    if invited and (len(envelope.operations) != 1 or envelope.operations[0].persons):
        raise InvalidTransaction(
            TransactionCode.NEWCOMER_LIMIT, "a one-time key signs one operation, member.join, without persons"
        )
    if invited and envelope.operations[0].core.command != "member.join":
        raise InvalidTransaction(TransactionCode.NEWCOMER_LIMIT, "a one-time key is good for member.join alone")
    return Actor(institution=payload.actor, role=role, member=member)


def _check_signature(envelope: Envelope, directory: Directory) -> None:
    key = directory.key(envelope.payload.key_id)
    if key is None:
        raise _bad_key(envelope)
    message = cose.to_be_signed(envelope.sign1.protected, envelope.sign1.payload, envelopes.TX_TAG)
    if not verify(SuiteId.INTL, key.fields.public_key, message, envelope.sign1.signature):
        raise InvalidTransaction(
            TransactionCode.BAD_SIGNATURE,
            f"the signature of key {envelope.payload.key_id.hex()} does not hold: sign the bytes that you send",
        )


def _bad_key(envelope: Envelope) -> InvalidTransaction:
    return InvalidTransaction(
        TransactionCode.KEY_NOT_VALID,
        f"key {envelope.payload.key_id.hex()} may not sign for {envelope.payload.actor.hex()} now: "
        "use the member's valid gateway key",
    )


def _app_hash(log_size: int, log_root: Digest, state_root: Digest, parameters_root: Digest) -> Digest:
    return digest(
        sha256(b"yilian/app/v1" + log_size.to_bytes(8, "big") + log_root + state_root + parameters_root).digest()
    )


def _parameters_root(layer: Layer) -> Digest:
    parameters = layer.find_register(_PARAMETER_KEYS[0], Parameters)
    constitution = layer.find_register(_PARAMETER_KEYS[1], Constitution)
    return tagged_hash("yilian/parameters/v1", canonical.encode(parameters), canonical.encode(constitution))
