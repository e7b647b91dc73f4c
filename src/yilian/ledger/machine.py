"""The state machine: executes blocks over a store; the same pure code behind every engine.

`execute` computes everything that a block changes without writing; `commit` writes it at once. Between the two the flat
state tree already holds the new hashes: `discard` puts it back where a commit fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from heapq import heappop, heappush

import msgspec

from yilian import canonical
from yilian.crypto.suite import tagged_hash
from yilian.errors import UnavailableError, VerificationError
from yilian.ledger import envelope as envelopes
from yilian.ledger.admission import check_actor, check_newcomer, check_signature
from yilian.ledger.block import Block, Genesis, parse_block
from yilian.ledger.cases import Case, Found
from yilian.ledger.envelope import Envelope, InvalidTransaction, Operation
from yilian.ledger.execution import PARAMETER_KEYS, WINDOW, Before, Execution, remembered_until
from yilian.ledger.judge import PERSON_VALIDITY
from yilian.ledger.log import Log
from yilian.ledger.members import Constitution, Parameters
from yilian.ledger.past import Overwritten, Past, View
from yilian.ledger.ports import Batch, Blocks, State
from yilian.ledger.registry import Registry
from yilian.ledger.results import (
    Answer,
    BlockRecords,
    Head,
    OperationRecord,
    TransactionResult,
    Verified,
    app_hash_of,
)
from yilian.ledger.running import Circumstances
from yilian.ledger.sequencer import sequencer_of
from yilian.ledger.state import GOVERNANCE, Directory, Layer, decode_case, key_hash, register_key
from yilian.ledger.tree import Allocate, Rows, StateTree
from yilian.ledger.workflow import KERNEL, KernelRefusal
from yilian.values import CaseId, Digest, InstitutionId, OpId, UnixMillis


class Executed(msgspec.Struct, frozen=True, kw_only=True):
    """A block's effects, not yet written."""

    head: Head
    batch: Batch
    results: tuple[TransactionResult, ...]
    log: Log
    overwritten: Mapping[int, bytes]
    """Bucket of the state tree → its hash before."""
    buckets: Mapping[int, Rows]
    """Bucket → its rows before, where it had any."""
    remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer, UnixMillis]]


class Machine:
    """One chain over one store. Not thread-safe: one thread executes and commits."""

    def __init__(self, state: State, registry: Registry, genesis: Genesis, *, allocate: Allocate = bytearray) -> None:
        """Open a store, writing the genesis rows into an empty one, and rebuild the tree by one sorted scan.

        Raises:
            VerificationError: the store belongs to another chain, or its rows have not the root of its head.
        """
        self.registry = registry
        self.genesis = genesis
        self.chain = genesis.chain
        self._state = state
        if state.head() is None:
            self._write_genesis(allocate)
        stored = state.head()
        if stored is None:
            raise AssertionError("the genesis was just written")
        self.head = canonical.decode(stored, Head)
        scan = state.scan(b"\0" * 32, None)
        self._tree = StateTree.build(genesis.tree_depth, ((key, sha256(row).digest()) for key, row in scan), allocate)
        if self._tree.root != self.head.state_root:
            raise VerificationError(
                f"the state store has root {self._tree.root.hex()}, its head says {self.head.state_root.hex()}: "
                "run `yilian node check`, then restore from a backup or another member"
            )
        self._past = Past()
        self._log = Log.load(self.head.log_size, state.tile)
        self._remembered: dict[tuple[InstitutionId, OpId], tuple[Digest, Answer, UnixMillis]] = {}
        """Until when each is remembered: an hour of block time, or as long as a person's signature on it is valid."""
        self._ages: deque[tuple[UnixMillis, tuple[InstitutionId, OpId]]] = deque()
        self._long_ages: list[tuple[UnixMillis, tuple[InstitutionId, OpId]]] = []
        """A heap, of those remembered for more than an hour."""

    def restore_window(self, blocks: Blocks) -> None:
        """Fill the memory of recent operation ids from the blocks and leaves of the last day of block time.

        Of what is older than an hour only operations with persons can still be remembered.
        """
        heights = []
        for height in range(self.head.height, 0, -1):
            header, block = parse_block(blocks.read(height))
            if header.time < self.head.time - PERSON_VALIDITY:
                break
            if header.time >= self.head.time - WINDOW or any(map(envelopes.has_persons, block.transactions)):
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
                key, until = (record.leaf.actor, record.leaf.op_id), remembered_until(operation, header.time)
                if until >= self.head.time and answer.result[:1] != ((KERNEL, KernelRefusal.OP_ID_REUSED),):
                    self._remembered[key] = (record.leaf.operation, answer, until)
        for key, (_, _, until) in sorted(self._remembered.items(), key=lambda item: item[1][2]):
            self._ages.append((until, key))

    def records(self, height: int) -> tuple[OperationRecord, ...]:
        """Give what the operations of a committed block did, in the order of their leaves."""
        stored = self._state.leaves(height)
        return canonical.decode_trusted(stored, BlockRecords).records if stored else ()

    def first_leaf(self, height: int) -> int:
        """Give the index in the log of a block's first leaf; 0 where it added none."""
        stored = self._state.leaves(height)
        return canonical.decode_trusted(stored, BlockRecords).first if stored else 0

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
        check_newcomer(envelope, check_actor(envelope, self.chain, directory, time), self.registry)
        check_signature(envelope, directory)
        return envelope

    def execute(  # noqa: PLR0917 - what a block is made of
        self, height: int, time: UnixMillis, block: Digest, transactions: Sequence[bytes], verified: Verified
    ) -> Executed:
        """Execute a block's transactions in order.

        `block` is the digest of its header. Call `commit` or `discard` before the next `execute`.
        """
        if height != self.head.height + 1 or time < self.head.time:
            raise VerificationError(
                f"block {height} at {time} does not follow block {self.head.height} at {self.head.time}, expected "
                "the next height and no earlier time: fetch the missing blocks"
            )
        circumstances = Circumstances(
            chain=self.chain,
            height=height,
            time=time,
            previous_app_hash=self.head.app_hash,
            directory=Directory(self._state),
        )
        before = Before(self.head.log_size, self.answered)
        run = Execution(self.registry, circumstances, Layer(self._state, self.registry.fields), before)
        results = tuple(run.transaction(transaction, verified) for transaction in transactions)
        buckets: dict[int, Rows] = {}

        def stored(index: int) -> Rows:
            buckets[index] = rows = self._stored_bucket(index)
            return rows

        overwritten = self._tree.update(run.changes, stored)
        log = self._log.copy()
        log.extend([sha256(b"\x00" + record).digest() for record in run.leaves])
        head = self._head_after(run, log, circumstances, block=block)
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
            buckets=buckets,
            remembered=run.remembered,
        )

    def _head_after(self, run: Execution, log: Log, at: Circumstances, *, block: Digest) -> Head:
        log_root = log.root()
        parameters_root = self.head.parameters_root
        if run.parameters_changed:
            parameters_root = _parameters_root(run.layer)
        return Head(
            height=at.height,
            time=at.time,
            block=block,
            app_hash=app_hash_of(log.size, log_root, self._tree.root, parameters_root),
            log_size=log.size,
            log_root=log_root,
            state_root=self._tree.root,
            parameters_root=parameters_root,
        )

    def commit(self, executed: Executed) -> None:
        """Write a block's effects, durably and as a whole.

        Raises:
            UnavailableError: the disk is full or failed; nothing was written and the machine is as before `execute`.
        """
        overwritten = self._overwritten(executed)
        try:
            self._state.write(executed.batch)
        except UnavailableError:
            self.discard(executed)
            raise
        self.head = executed.head
        self._past.add(overwritten)
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

    def view(self, height: int) -> View | None:
        """Give the state after a block, to prove from until the next `execute`; None where it is no longer kept."""
        if height == self.head.height:
            return View(self.head, self._tree, self._stored_bucket, self._state.get)
        older = self._past.since(height)
        return None if older is None else View(self.head, self._tree, self._stored_bucket, self._state.get, older)

    def find_case(self, case: CaseId) -> tuple[str, Found[Case]] | None:
        """Find a committed case of any type; from any thread."""
        row = self._state.get(key_hash(b"case/" + case))
        return None if row is None else decode_case(row, self.registry.fields)

    def directory(self) -> Directory:
        """Members, keys and parameters as of the last commit; from any thread, for short use."""
        return Directory(self._state)

    def sequencer(self) -> InstitutionId:
        """Name the member that may sign the next block, as of the last commit; from any thread."""
        return sequencer_of(self._state)

    def answered(self, actor: InstitutionId, op: OpId, time: UnixMillis) -> tuple[Digest, Answer] | None:
        """Find what was answered to an operation id that is still remembered: its bytes' digest, the answer."""
        remembered = self._remembered.get((actor, op))
        if remembered is None or remembered[2] < time:
            return None
        return remembered[0], remembered[1]

    def _overwritten(self, executed: Executed) -> Overwritten:
        rows: dict[bytes, bytes] = {}
        for bucket in executed.buckets.values():
            for key, _ in bucket:
                if key in executed.batch.rows and (row := self._state.get(key)) is not None:
                    rows[key] = row
        return Overwritten(before=self.head, nodes=executed.overwritten, buckets=executed.buckets, rows=rows)

    def _remember(self, executed: Executed) -> None:
        # at most 2 old entries an operation, so that no block pays for an hour of them
        budget = 2 * len(executed.remembered)
        now = executed.head.time
        while budget and self._ages and self._ages[0][0] < now:
            self._forget(*self._ages.popleft())
            budget -= 1
        while budget and self._long_ages and self._long_ages[0][0] < now:
            self._forget(*heappop(self._long_ages))
            budget -= 1
        usual = now + WINDOW
        for key, remembered in executed.remembered.items():
            self._remembered[key] = remembered
            if remembered[2] == usual:
                self._ages.append((remembered[2], key))
            else:
                heappush(self._long_ages, (remembered[2], key))

    def _forget(self, until: UnixMillis, key: tuple[InstitutionId, OpId]) -> None:
        if key in self._remembered and self._remembered[key][2] == until:
            del self._remembered[key]

    def _stored_bucket(self, index: int) -> Rows:
        start, stop = self._tree.bucket_range(index)
        return [(key, sha256(row).digest()) for key, row in self._state.scan(start, stop)]

    def _write_genesis(self, allocate: Allocate) -> None:
        rows = {key_hash(key): row for key, row in self.genesis.rows()}
        tree = StateTree.build(
            self.genesis.tree_depth, ((key, sha256(row).digest()) for key, row in sorted(rows.items())), allocate
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
            app_hash=app_hash_of(0, log_root, tree.root, parameters_root),
            log_size=0,
            log_root=log_root,
            state_root=tree.root,
            parameters_root=parameters_root,
        )
        self._state.write(Batch(height=0, rows=rows, tiles={}, leaves=b"", head=canonical.encode(head)))


def parameters_root_of(parameters: Parameters | None, constitution: Constitution | None) -> Digest:
    """Give the root over parameters and constitution."""
    return tagged_hash("yilian/parameters/v1", canonical.encode(parameters), canonical.encode(constitution))


def _parameters_root(layer: Layer) -> Digest:
    parameters = layer.find_register(PARAMETER_KEYS[0], Parameters)
    constitution = layer.find_register(PARAMETER_KEYS[1], Constitution)
    return parameters_root_of(parameters, constitution)
