"""What every engine does with its chain: opens it, executes again what a crash left, commits, reads, tells who listens.

Block first, state second, answers third: after a crash a block without its state is executed again, and nothing that
was answered is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from yilian.crypto.suite import SuiteId, key_id_of
from yilian.engine.events import events_of, register_types
from yilian.engine.port import Event
from yilian.engine.tuning import anonymous_memory
from yilian.errors import UnavailableError, VerificationError, YilianError
from yilian.ledger.block import Block, BlockHeader, Genesis, parse_block
from yilian.ledger.cases import Case, Found
from yilian.ledger.machine import Executed, Machine
from yilian.ledger.ports import Blocks, State
from yilian.ledger.reads import CommittedReads
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay
from yilian.ledger.results import Head
from yilian.ledger.state import Directory
from yilian.ledger.workflow import Reads
from yilian.values import CaseId, Digest, InstitutionId, key_id

EVENTS_KEPT = 2
"""Blocks whose events are kept decoded."""
_log = logging.getLogger(__name__)


class ChainKeeper:
    """State and blocks of one chain in this process; the part of `Engine` that does not depend on who orders.

    Args:
        genesis: start of the chain; written into an empty state.
        registry: the chain's workflows.
        state: committed state, not more than the blocks' height.
        blocks: the chain's blocks; those that the state has not are executed again.

    Raises:
        VerificationError: state and blocks do not belong together, or a block does not hold.
    """

    def __init__(self, *, genesis: Genesis, registry: Registry, state: State, blocks: Blocks) -> None:
        if genesis.workflows != tuple(item.name for item in registry.workflows):
            raise VerificationError(
                f"the chain runs {', '.join(genesis.workflows)}, this release has "
                f"{', '.join(item.name for item in registry.workflows)}: install the release that the chain needs"
            )
        self._machine = Machine(state, registry, genesis, allocate=anonymous_memory)
        self._state, self._blocks, self._registry = state, blocks, registry
        self._registers = register_types(registry)
        self._recover()
        self._machine.restore_window(blocks)
        self._executing = threading.RLock()
        """Held while a block is executed and committed: between the two the state tree is ahead of the rows."""
        self._moved = threading.Condition()
        self._callbacks: list[Callable[[int], None]] = []
        self._reading = threading.Lock()
        self._events: dict[int, tuple[Event, ...]] = {}
        self._failure: str | None = None
        self._stopped = False

    @property
    def chain(self) -> Digest:
        """Id of the chain."""
        return self._machine.chain

    @property
    def state(self) -> State:
        """The committed rows, tiles and leaves, for proofs; read only."""
        return self._state

    @property
    def blocks(self) -> Blocks:
        """The chain's blocks, for snapshots; read only."""
        return self._blocks

    @property
    def failure(self) -> str | None:
        """Say why the engine takes no more blocks, None while it does; reads go on."""
        return self._failure

    @contextmanager
    def proving(self) -> Iterator[Machine]:
        """Give the machine while no block changes it: head, state tree, rows and log belong together."""
        with self._executing:
            yield self._machine

    def head(self) -> Head:
        """Give where the chain stands after the newest durable block."""
        return self._machine.head

    def sequencer(self) -> InstitutionId:
        """Name the member that may sign the next block."""
        return self._machine.sequencer()

    def find_case(self, case_id: CaseId) -> tuple[str, Found[Case]] | None:
        """Find a committed case of any type: (case type, case)."""
        return self._machine.find_case(case_id)

    def directory(self) -> Directory:
        """Give members, keys and parameters as of the newest block; ask again for newer ones."""
        return self._machine.directory()

    def reads(self) -> Reads:
        """Give typed reads of the committed state of all workflows; ask again for newer ones."""
        return CommittedReads(self._state, self._registry)

    def encoded_block(self, height: int) -> bytes:
        """Give the bytes of one block; errors as `Engine.block`, which also parses them."""
        return self._blocks.read(height)

    def block(self, height: int) -> tuple[BlockHeader, Block]:
        """Give one block; NotFoundError, VerificationError as `Engine.block`."""
        return parse_block(self._blocks.read(height))

    def first_block(self) -> int:
        """Give the height of the oldest block that is kept."""
        return self._blocks.first_height()

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

    def _keep(self, data: bytes, executed: Executed) -> None:
        """Make an executed block and then its state durable; UnavailableError where neither is there."""
        try:
            self._blocks.append(executed.head.height, data)
        except BaseException:
            self._machine.discard(executed)
            raise
        self._commit_state(executed)

    def _commit_state(self, executed: Executed) -> None:
        try:
            self._machine.commit(executed)
        except UnavailableError:
            # nothing was written and nobody was told of this block: it goes, so that the next one takes its height
            try:
                self._blocks.truncate_after(self._machine.head.height)
            except YilianError as second:
                self._failure = f"block {executed.head.height} could be neither executed nor dropped: {second}"
            raise
        except BaseException as error:
            # the state may have the block: it stays for the next start
            self._failure = f"the state could not be written: {error!r}"
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
