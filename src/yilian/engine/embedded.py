"""The embedded engine: one process orders, executes and keeps the blocks.

An idle engine commits at once; what arrives while a commit runs goes into the next block together. Block first, state
second, answers third: after a crash a block without its state is executed again, and nothing that was answered is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError

from yilian.crypto.suite import Signer, SuiteId, key_id_of
from yilian.engine.ahead import Ahead, Waiting
from yilian.engine.events import events_of, register_types
from yilian.engine.port import Event
from yilian.engine.tuning import anonymous_memory
from yilian.engine.verification import Unpacker
from yilian.errors import UnavailableError, VerificationError, YilianError
from yilian.ledger.block import VERSION, Block, BlockHeader, Genesis, parse_block, seal_block, transactions_root
from yilian.ledger.cases import Case, Found
from yilian.ledger.envelope import MAX_TRANSACTION_BYTES, Envelope, TransactionCode
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.ports import Blocks, State
from yilian.ledger.reads import CommittedReads
from yilian.ledger.registry import Registry
from yilian.ledger.replay import proposer_key, replay
from yilian.ledger.results import Checked, Head, TransactionResult
from yilian.ledger.state import Directory
from yilian.ledger.workflow import Reads
from yilian.values import CaseId, Digest, InstitutionId, UnixMillis, digest, key_id, unix_millis

EVENTS_KEPT = 2
"""Blocks whose events are kept decoded."""
_log = logging.getLogger(__name__)
_UNNAMED = digest(bytes(32))


class EmbeddedEngine:
    """`Engine` in this process, over a state and a block store that the caller opened and closes.

    Args:
        genesis: start of the chain; written into an empty state.
        registry: the chain's workflows.
        state: committed state, not more than the blocks' height.
        blocks: the chain's blocks; those that the state has not are executed again.
        proposer: gateway key that signs the blocks.
        proposer_id: the member whose key it is.
        clock: gives the time in milliseconds; block time never runs back.
        second_core: check a backlog of transactions in a child process.

    Raises:
        VerificationError: state and blocks do not belong together, or a block does not hold.
    """

    def __init__(
        self,
        *,
        genesis: Genesis,
        registry: Registry,
        state: State,
        blocks: Blocks,
        proposer: Signer,
        proposer_id: InstitutionId,
        clock: Callable[[], int],
        second_core: bool = True,
    ) -> None:
        if genesis.workflows != tuple(item.name for item in registry.workflows):
            raise VerificationError(
                f"the chain runs {', '.join(genesis.workflows)}, this release has "
                f"{', '.join(item.name for item in registry.workflows)}: install the release that the chain needs"
            )
        self._machine = Machine(state, registry, genesis, allocate=anonymous_memory)
        self._state, self._blocks, self._registry = state, blocks, registry
        self._proposer, self._proposer_id, self._clock = proposer, proposer_id, clock
        self._registers = register_types(registry)
        self._unpacker = Unpacker(registry.command_types)
        self._recover()
        self._machine.restore_window(blocks)
        self._moved = threading.Condition()
        self._callbacks: list[Callable[[int], None]] = []
        self._reading = threading.Lock()
        self._events: dict[int, tuple[Event, ...]] = {}
        self._failure: str | None = None
        self._stopped = False
        self._ahead = Ahead(registry.command_types, self._public_key, second_core=second_core)
        self._thread = threading.Thread(target=self._run, name="yilian-engine", daemon=True)
        self._thread.start()

    @property
    def chain(self) -> Digest:
        """Id of the chain."""
        return self._machine.chain

    @property
    def state(self) -> State:
        """The committed rows, tiles and leaves, for proofs; read only."""
        return self._state

    @property
    def checking_process(self) -> int | None:
        """Process id of the child that checks a backlog, None while there is none."""
        return self._ahead.child

    def head(self) -> Head:
        """Give where the chain stands after the newest durable block."""
        return self._machine.head

    def submit(self, transaction: bytes) -> Future[TransactionResult]:
        """Hand in a transaction; see `Engine.submit`."""
        if len(transaction) > MAX_TRANSACTION_BYTES:
            answered: Future[TransactionResult] = Future()
            message = f"{len(transaction)} bytes, at most {MAX_TRANSACTION_BYTES}: send several transactions"
            answered.set_result(TransactionResult(code=TransactionCode.TOO_LARGE, message=message))
            return answered
        if self._failure is not None:
            raise UnavailableError(f"the engine has stopped ({self._failure}): restart the node")
        return self._ahead.put(bytes(transaction))

    def find_case(self, case_id: CaseId) -> tuple[str, Found[Case]] | None:
        """Find a committed case of any type: (case type, case)."""
        return self._machine.find_case(case_id)

    def directory(self) -> Directory:
        """Give members, keys and parameters as of the newest block; ask again for newer ones."""
        return self._machine.directory()

    def reads(self) -> Reads:
        """Give typed reads of the committed state of all workflows; ask again for newer ones."""
        return CommittedReads(self._state, self._registry)

    def block(self, height: int) -> tuple[BlockHeader, Block]:
        """Give one block; NotFoundError, VerificationError as `Engine.block`."""
        return parse_block(self._blocks.read(height))

    def events(self, height: int) -> tuple[Event, ...]:
        """Give what the operations of one block did, in the order of their leaves; errors as `block`."""
        with self._reading:  # who follows the chain asks for the newest block at the same moment
            found = self._events.get(height)
            if found is None:
                found = tuple(events_of(self._machine, *self.block(height), self._registers))
                self._events[height] = found
                while len(self._events) > EVENTS_KEPT:
                    del self._events[next(iter(self._events))]
        return found

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call back with the height after every durable block; see `Engine.subscribe`."""
        with self._moved:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._moved:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def wait_height(self, height: int, timeout_s: float | None = None) -> int:
        """Wait until the chain is at `height`, the time is over or the engine stops, and give its height."""
        with self._moved:
            self._moved.wait_for(lambda: self._machine.head.height >= height or self._stopped, timeout_s)
        return self._machine.head.height

    def close(self) -> None:
        """Finish what was taken, then stop; a second close does nothing. State and blocks stay open."""
        self._ahead.close()
        self._thread.join()
        self._ahead.stop_child()

    def _recover(self) -> None:
        head, last = self._machine.head, self._blocks.last_height()
        if head.height > last:
            raise VerificationError(
                f"the state is at block {head.height}, the blocks end at {last}, expected at least as many: the disk "
                "lost blocks; fetch them from another member or restore a backup"
            )
        if head.height:
            header, _ = parse_block(self._blocks.read(head.height))
            if header.digest != head.block:
                raise VerificationError(
                    f"block {head.height} is {header.digest.hex()}, the state was made by {head.block.hex()}: "
                    "blocks and state are of different chains; restore both from one backup"
                )
        for height in range(head.height + 1, last + 1):
            self._machine.commit(replay(self._machine, self._blocks.read(height)))
            _log.info("block %d was executed again", height)

    def _public_key(self, raw: bytes) -> bytes | None:
        try:
            found = self._machine.directory().key(key_id(raw))
        except ValueError:
            return None
        if found is None or key_id_of(SuiteId.INTL, found.fields.public_key) != raw:
            return None
        return found.fields.public_key

    def _run(self) -> None:
        while batch := self._ahead.take():
            try:
                self._commit(batch)
            except YilianError as error:
                _fail(batch, error)
            except Exception:  # noqa: BLE001 - the outermost loop: one transaction must not stop the chain
                _log.exception("a block of %d transactions failed", len(batch))
                self._commit_singly(batch)
            if self._failure is not None:
                self._ahead.close()
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def _commit_singly(self, batch: Sequence[Waiting]) -> None:
        for item in batch if len(batch) > 1 else ():
            try:
                self._commit([item])
            except YilianError as error:
                _fail([item], error)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a transaction failed")
        _fail(batch, UnavailableError("the transaction met an error of the program: see the node's log, report it"))

    def _commit(self, batch: Sequence[Waiting]) -> None:
        if self._failure is not None:
            raise UnavailableError(f"the engine has stopped ({self._failure}): restart the node")
        machine = self._machine
        height = machine.head.height + 1
        time = unix_millis(max(self._clock(), machine.head.time))
        proposer = self._check_proposer(time)
        transactions = [item.transaction for item in batch]
        verdicts = {item.transaction: item.verdict for item in batch}

        def verified(transaction: bytes) -> Checked | Envelope:
            verdict = verdicts[transaction]
            return self._unpacker.unpack(verdict.packed) if verdict.packed else verdict.checked

        executed = machine.execute(height, time, _UNNAMED, transactions, verified)
        kept = _with_leaves(executed, transactions, machine.head.log_size)
        if not kept:
            machine.discard(executed)
        else:
            try:
                header = self._header(executed, kept, proposer)
                self._blocks.append(height, seal_block(header, kept, proposer))
            except BaseException:
                machine.discard(executed)
                raise
            self._commit_state(machine.name(executed, header.digest))
        for item, result in zip(batch, executed.results, strict=True):
            _resolve(item.future, result)
        if kept:
            self._notify(height)

    def _check_proposer(self, time: UnixMillis) -> Signer:
        proposer = self._proposer
        known = proposer_key(self._machine.directory(), self._proposer_id, proposer.key_id, time)
        if known != proposer.public_key:
            raise UnavailableError(
                f"key {proposer.key_id.hex()} may not sign blocks for {self._proposer_id.hex()} now, expected its "
                "valid gateway key: start the node with the registered key"
            )
        return proposer

    def _header(self, executed: Executed, kept: tuple[bytes, ...], proposer: Signer) -> BlockHeader:
        head = self._machine.head
        return BlockHeader(
            version=VERSION,
            chain=self._machine.chain,
            height=executed.head.height,
            time=executed.head.time,
            parent=head.block,
            transactions_root=transactions_root(kept),
            app_hash=head.app_hash,
            proposer=self._proposer_id,
            key_id=proposer.key_id,
        )

    def _commit_state(self, executed: Executed) -> None:
        try:
            self._machine.commit(executed)
        except BaseException as error:
            # nobody was told of this block: it goes, so that the next one takes its height
            try:
                self._blocks.truncate_after(self._machine.head.height)
            except YilianError as second:
                self._failure = f"block {executed.head.height} could be neither executed nor dropped: {second}"
            if not isinstance(error, YilianError):
                self._failure = self._failure or f"the state could not be written: {error!r}"
            raise

    def _notify(self, height: int) -> None:
        with self._moved:
            self._moved.notify_all()
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            try:
                callback(height)
            except Exception:  # noqa: BLE001 - a subscriber's error is its own
                _log.exception("a subscriber failed at block %d", height)


def _with_leaves(executed: Executed, transactions: Sequence[bytes], log_size: int) -> tuple[bytes, ...]:
    """Give the transactions that belong into the block: valid ones that were not answered from memory alone."""
    kept = []
    leaf = log_size
    for transaction, result in zip(transactions, executed.results, strict=True):
        before = leaf
        for answer in result.answers:
            if answer.leaf == leaf and answer.height == executed.head.height:
                leaf += 1
        if leaf > before:
            kept.append(transaction)
    return tuple(kept)


def _resolve(future: Future[TransactionResult], result: TransactionResult) -> None:
    try:
        future.set_result(result)
    except InvalidStateError:
        return  # the caller has given up


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for item in batch:
        if not item.future.done():
            try:
                item.future.set_exception(error)
            except InvalidStateError:
                continue
