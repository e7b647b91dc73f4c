"""The embedded engine: one process orders, executes and keeps the blocks.

An idle engine commits at once; what arrives while a commit runs goes into the next block together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError

from yilian.crypto.suite import Signer
from yilian.engine.ahead import Ahead, Waiting
from yilian.engine.chain import ChainKeeper
from yilian.engine.verification import Unpacker
from yilian.errors import ConflictError, UnavailableError, YilianError
from yilian.ledger.block import VERSION, BlockHeader, Genesis, seal_block, transactions_root
from yilian.ledger.envelope import MAX_TRANSACTION_BYTES, Envelope, TransactionCode
from yilian.ledger.machine import Executed
from yilian.ledger.ports import Blocks, State
from yilian.ledger.registry import Registry
from yilian.ledger.replay import proposer_key, replay
from yilian.ledger.results import Checked, TransactionResult
from yilian.values import InstitutionId, UnixMillis, digest, unix_millis

_log = logging.getLogger(__name__)
_UNNAMED = digest(bytes(32))


class EmbeddedEngine(ChainKeeper):
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
        super().__init__(genesis=genesis, registry=registry, state=state, blocks=blocks)
        self._proposer, self._proposer_id, self._clock = proposer, proposer_id, clock
        self._unpacker = Unpacker(registry.command_types)
        self._held: str | None = None
        self._ahead = Ahead(registry.command_types, self._public_key, second_core=second_core)
        self._thread = threading.Thread(target=self._run, name="yilian-engine", daemon=True)
        self._thread.start()

    @property
    def checking_process(self) -> int | None:
        """Process id of the child that checks a backlog, None while there is none."""
        return self._ahead.child

    def submit(self, transaction: bytes) -> Future[TransactionResult]:
        """Hand in a transaction; see `Engine.submit`."""
        if len(transaction) > MAX_TRANSACTION_BYTES:
            answered: Future[TransactionResult] = Future()
            message = f"{len(transaction)} bytes, at most {MAX_TRANSACTION_BYTES}: send several transactions"
            answered.set_result(TransactionResult(code=TransactionCode.TOO_LARGE, message=message))
            return answered
        if self._failure is not None:
            raise UnavailableError(f"the engine has stopped ({self._failure}): restart the node")
        self._check_held()
        return self._ahead.put(bytes(transaction))

    @property
    def held(self) -> str | None:
        """Say why no block is made, None where blocks are."""
        return self._held

    def hold(self, why: str) -> None:
        """Make no block until `release`; reads go on, and `adopt` takes blocks that others have kept."""
        with self._executing:
            self._held = why

    def adopt(self, data: bytes) -> None:
        """Execute the next block as another node kept it, and keep it; while held only.

        Raises:
            VerificationError: it is not the next block, or it does not hold.
            UnavailableError: the disk failed.
        """
        with self._executing:
            if self._held is None:
                raise ConflictError("blocks are made here, expected a held engine: others follow this one")
            executed = replay(self._machine, data)
            self._keep(data, executed)
        self._notify(executed.head.height)

    def release(self) -> None:
        """Make blocks again."""
        with self._executing:
            self._held = None

    def _check_held(self) -> None:
        if self._held is not None:
            raise UnavailableError(f"this node makes no block yet ({self._held}): reads go on, submit again later")

    def close(self) -> None:
        """Finish what was taken, then stop; a second close does nothing. State and blocks stay open."""
        self._ahead.close()
        self._thread.join()
        self._ahead.stop_child()

    def _run(self) -> None:
        while batch := self._ahead.take():
            try:
                with self._executing:
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
                with self._executing:
                    self._commit([item])
            except YilianError as error:
                _fail([item], error)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("a transaction failed")
        _fail(batch, UnavailableError("the transaction met an error of the program: see the node's log, report it"))

    def _commit(self, batch: Sequence[Waiting]) -> None:
        if self._failure is not None:
            raise UnavailableError(f"the engine has stopped ({self._failure}): restart the node")
        self._check_held()
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
                sealed = seal_block(header, kept, proposer)
            except BaseException:
                machine.discard(executed)
                raise
            self._keep(sealed, machine.name(executed, header.digest))
        for item, result in zip(batch, executed.results, strict=True):
            _resolve(item.future, result)
        if kept:
            self._notify(height)

    def _check_proposer(self, time: UnixMillis) -> Signer:
        proposer, sequencer = self._proposer, self._machine.sequencer()
        if sequencer != self._proposer_id:
            raise UnavailableError(
                f"the members made {sequencer.hex()} the sequencer, expected {self._proposer_id.hex()}: restart the "
                "node, which then follows the new one"
            )
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
