"""The follower engine: takes the blocks of a sequencer, executes each again, and submits through it.

Nothing of what the sequencer says is believed: its blocks must follow, be signed by the chain's sequencer and name the
state that this node computed; its answers must be what this node's own log says. What does not hold stops the
follower, by name, and it goes on answering reads as of the last block that held. While the sequencer is away reads go
on, submitting fails with what to do, and the line is tried again with growing delay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from yilian.engine.chain import ChainKeeper
from yilian.engine.prefetch import Prefetch, Received, SecondCore
from yilian.errors import UnavailableError, VerificationError, YilianError
from yilian.ledger.block import BlockHeader, Genesis
from yilian.ledger.envelope import MAX_TRANSACTION_BYTES, TransactionCode
from yilian.ledger.machine import Machine
from yilian.ledger.ports import Blocks, State
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay_parsed
from yilian.ledger.results import Answer, TransactionResult

FIRST_DELAY_S, LAST_DELAY_S = 0.2, 30.0
PAUSE_S = 0.02
"""Between two streams, so that a source which ends each at once costs no core."""
SUBMITTERS = 8
QUEUE_TRANSACTIONS = 1_000
CATCH_UP_S = 60.0
"""How long an answer waits for its block to arrive here."""
FORK, NOT_THE_SEQUENCER, OTHER_STATE = "FORK", "NOT_THE_SEQUENCER", "OTHER_STATE"
BROKEN_BLOCK, OTHER_ANSWER, PROGRAM = "BROKEN_BLOCK", "OTHER_ANSWER", "PROGRAM"
_log = logging.getLogger(__name__)

OnProblem = Callable[[str, str, bytes], None]
"""Told (name, what was found, the bytes that prove it) once when the sequencer is caught; must return soon."""


class Source(Protocol):
    """A line to the sequencer. Thread-safe; every method may raise YilianError, UnavailableError where it is away."""

    def blocks_after(self, height: int) -> Iterator[bytes]:
        """Stream the blocks after a height in order, waiting for new ones; ends where none came for some seconds.

        Empty bytes among them say that the sequencer is there.
        """
        ...

    def submit(self, transaction: bytes) -> TransactionResult:
        """Hand in a transaction and wait for its answer; the same bytes may be handed in again."""
        ...

    def close(self) -> None:
        """Break off what waits; later calls raise UnavailableError."""
        ...


class FollowerEngine(ChainKeeper):
    """`Engine` of a node that does not order blocks, over a state and a block store that the caller opened and closes.

    A store that begins at a later height than the genesis is followed from there.

    Args:
        genesis: start of the chain; written into an empty state.
        registry: the chain's workflows.
        state: committed state, not more than the blocks' height.
        blocks: the chain's blocks; those that the state has not are executed again.
        source: the line to the sequencer; closed with the engine.
        on_problem: told when the sequencer breaks the rules.
        second_core: check a backlog of blocks in a child process.

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
        source: Source,
        on_problem: OnProblem | None = None,
        second_core: bool = True,
    ) -> None:
        super().__init__(genesis=genesis, registry=registry, state=state, blocks=blocks)
        self._source = source
        self.on_problem = on_problem
        self._second = SecondCore(registry.command_types, self._public_key, enabled=second_core)
        self._away: str | None = "no block and no answer has come yet"
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._pool = ThreadPoolExecutor(SUBMITTERS, thread_name_prefix="yilian-submit")
        self._room = threading.BoundedSemaphore(QUEUE_TRANSACTIONS)
        self._prefetch: Prefetch | None = None
        self._thread = threading.Thread(target=self._run, name="yilian-follower", daemon=True)
        self._thread.start()

    @property
    def away(self) -> str | None:
        """Say why the sequencer is not heard, None while it is."""
        return self._away

    @property
    def checking_process(self) -> int | None:
        """Process id of the child that checks a backlog, None while there is none."""
        return self._second.child

    def submit(self, transaction: bytes) -> Future[TransactionResult]:
        """Hand a transaction to the sequencer; the future holds its result once the block is executed here.

        Raises:
            UnavailableError: too many wait, or the engine has stopped. The future raises it where the sequencer is
                away; reads go on meanwhile.
        """
        if len(transaction) > MAX_TRANSACTION_BYTES:
            answered: Future[TransactionResult] = Future()
            message = f"{len(transaction)} bytes, at most {MAX_TRANSACTION_BYTES}: send several transactions"
            answered.set_result(TransactionResult(code=TransactionCode.TOO_LARGE, message=message))
            return answered
        if self._failure is not None:
            raise UnavailableError(
                f"this node follows no longer ({self._failure}), expected a sequencer that keeps the rules: reads go "
                "on; compare with other members before you submit anywhere"
            )
        if self._closing.is_set():
            raise UnavailableError("the engine has stopped, expected it running: submit to the restarted node")
        if not self._room.acquire(blocking=False):
            raise UnavailableError(f"{QUEUE_TRANSACTIONS} transactions wait: wait for answers, then submit again")
        future = self._pool.submit(self._forward, bytes(transaction))
        future.add_done_callback(lambda _: self._room.release())
        return future

    def follow_now(self) -> None:
        """Try the line at once instead of after the delay: its address has changed."""
        self._hurry.set()

    def close(self) -> None:
        """Stop following and submitting; a second close does nothing. State and blocks stay open."""
        self._closing.set()
        self._hurry.set()
        self._source.close()
        prefetch = self._prefetch
        if prefetch is not None:
            prefetch.close()
        with self._moved:
            self._stopped = True
            self._moved.notify_all()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._second.stop()

    # ------------------------------------------------------------------------------------------------- submitting

    def _forward(self, transaction: bytes) -> TransactionResult:
        result = self._source.submit(transaction)
        self._hear()
        if result.answers:
            self._hurry.set()
            self._check_answers(result.answers)
        return result

    def _check_answers(self, answers: tuple[Answer, ...]) -> None:
        """Compare answers with this node's own log, once it has come so far.

        Raises:
            UnavailableError: their block has not come here in time.
            VerificationError: the log says otherwise.
        """
        highest = max(answer.height for answer in answers)
        if self.wait_height(highest, CATCH_UP_S) < highest:
            raise UnavailableError(
                f"it is done in block {highest}, this node is at block {self._machine.head.height} "
                f"({self._failure or self._away or 'still catching up'}): ask for the operation's state later"
            )
        for answer in answers:
            records, first = self._machine.records(answer.height), self._machine.first_leaf(answer.height)
            at = answer.leaf - first
            leaf = records[at].leaf if 0 <= at < len(records) else None
            if leaf is None or leaf.op_id != answer.op_id or leaf.result != answer.result:
                detail = (
                    f"the sequencer answered operation {answer.op_id.hex()} with leaf {answer.leaf} of block "
                    f"{answer.height}, this node's log has there {'nothing' if leaf is None else leaf.op_id.hex()}"
                )
                self._tell(OTHER_ANSWER, detail, b"")
                raise VerificationError(f"{detail}: believe the log, and look at the alerts")

    # -------------------------------------------------------------------------------------------------- following

    def _run(self) -> None:
        delay = FIRST_DELAY_S
        while not self._closing.is_set() and self._failure is None:
            before = self._machine.head.height
            self._hurry.clear()
            try:
                self._follow()
                delay = FIRST_DELAY_S
                self._closing.wait(PAUSE_S)
                continue
            except YilianError as error:
                if self._away != str(error) and not self._closing.is_set():
                    _log.info("the sequencer is not heard: %s", type(error).__name__)
                self._away = str(error)
            except Exception as error:  # noqa: BLE001 - the outermost loop: what it leaves is read in `failure`
                _log.exception("following failed at block %d", self._machine.head.height + 1)
                self._failure = f"{PROGRAM}: {error!r}: read the node's log, report it, restart the node"
            self._second.rest()
            delay = FIRST_DELAY_S if self._machine.head.height > before else min(2 * delay, LAST_DELAY_S)
            self._hurry.wait(delay)
        self._second.stop()
        with self._moved:
            self._stopped = True
            self._moved.notify_all()

    def _follow(self) -> None:
        """Take blocks until the stream ends; raises what ends it otherwise."""
        prefetch = Prefetch(self._source.blocks_after(self._machine.head.height), self._hear)
        self._prefetch = prefetch
        try:
            while not self._closing.is_set():
                received = self._next(prefetch)
                if received is None:
                    return
                self._hear()
                behind = prefetch.peek()
                if behind is not None:
                    self._second.send(received)  # begins a backlog; else it was sent before
                    self._second.send(behind)
                if not self._take(received):
                    return
        finally:
            prefetch.close()
            self._second.rest()

    def _next(self, prefetch: Prefetch) -> Received | None:
        try:
            received = prefetch.next(self._second.rest)
        except VerificationError as error:
            if not prefetch.refused:
                raise
            self._stop_at(BROKEN_BLOCK, str(error), prefetch.refused)
            return None
        if received is None:
            self._hear()
        return received

    def _take(self, received: Received) -> bool:
        self._second.await_verdicts(received)
        machine = self._machine
        with self._executing:
            try:
                executed = replay_parsed(machine, received.header, received.block, self._second.verified(received))
            except VerificationError as error:
                self._stop_at(_name_of(machine, received.header), str(error), received.data)
                return False
            self._keep(received.data, executed)
        self._notify(received.header.height)
        return True

    def _stop_at(self, name: str, detail: str, evidence: bytes) -> None:
        self._failure = f"{name}: {detail}"
        _log.error("stopped following: %s at block %d", name, self._machine.head.height + 1)
        self._tell(name, detail, evidence)

    def _tell(self, name: str, detail: str, evidence: bytes) -> None:
        if self.on_problem is None:
            return
        try:
            self.on_problem(name, detail, evidence)
        except Exception:  # noqa: BLE001 - a listener's error is its own, and the problem stands in `failure`
            _log.exception("nobody could be told of %s", name)

    def _hear(self) -> None:
        self._away = None


def _name_of(machine: Machine, header: BlockHeader) -> str:
    """Name what is wrong with a block that `replay` refused."""
    head = machine.head
    if header.proposer != machine.sequencer():
        return NOT_THE_SEQUENCER
    if (header.chain, header.height, header.parent) != (machine.chain, head.height + 1, head.block):
        return FORK
    return OTHER_STATE if header.app_hash != head.app_hash else BROKEN_BLOCK
