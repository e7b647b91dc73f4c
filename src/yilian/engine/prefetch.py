"""Blocks that come, a few ahead of the one that is executed: received on one thread, checked on a second core.

The child process is started for a backlog alone, and ended when there is none: a block that comes to a follower at the
head of the chain is checked where it is executed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from yilian.engine.ahead import operations_in
from yilian.engine.verification import NOTHING, Checker, Unpacker, Verdict
from yilian.errors import VerificationError, YilianError
from yilian.ledger.block import Block, BlockHeader, parse_block
from yilian.ledger.envelope import CommandTypes, Envelope
from yilian.ledger.results import Checked

BLOCKS_AHEAD = 3
BYTES_AHEAD = 3_000_000
CHECK_FROM = 100
"""Operations of a block from which the child is worth its round trip."""
IDLE_S = 10.0
"""So long after the last backlog the child is ended."""
RESTARTS = 5
_log = logging.getLogger(__name__)


class Received:
    """A block as it came, with what was found of its transactions."""

    __slots__ = ("block", "checker", "data", "header", "operations", "verdicts")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header: BlockHeader
        self.block: Block
        self.header, self.block = parse_block(data)
        self.operations = sum(map(operations_in, self.block.transactions))
        self.checker: Checker | None = None
        """The child that has it."""
        self.verdicts: dict[bytes, Verdict] = {}


class Prefetch:
    """Reads blocks from a source on a thread of its own, at most a few ahead. `next` belongs to one thread.

    Args:
        blocks: the source; its errors come out of `next`.
        heard: called when the source is there, which empty bytes say.
    """

    def __init__(self, blocks: Iterator[bytes], heard: Callable[[], None]) -> None:
        self._blocks = blocks
        self._heard = heard
        self._changed = threading.Condition()
        self._queue: deque[Received] = deque()
        self._bytes = 0
        self._error: YilianError | None = None
        self.refused = b""
        """The bytes that are no block, where that is what ended the stream."""
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="yilian-blocks", daemon=True)
        self._thread.start()

    def next(self, rest: Callable[[], None]) -> Received | None:
        """Wait for the next block and give it; None at the end of the stream. `rest` is called in every idle spell.

        Raises:
            UnavailableError: the source went away.
            VerificationError: what came is no block.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: self._queue or self._ended or self._closed, IDLE_S):
                rest()
            if self._queue:
                received = self._queue.popleft()
                self._bytes -= len(received.data)
                self._changed.notify_all()
                return received
            if self._error is not None:
                raise self._error
            return None

    def peek(self) -> Received | None:
        """Give the block behind the one that was given last, None where none has come yet."""
        with self._changed:
            return self._queue[0] if self._queue else None

    def close(self) -> None:
        """Take no more; the thread ends when its source does."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or not self._queue or (len(self._queue) < BLOCKS_AHEAD and self._bytes < BYTES_AHEAD)

    def _read(self) -> None:
        error: YilianError | None = None
        try:
            for data in self._blocks:
                if not data:
                    self._heard()
                elif not self._put(data):
                    break
        except YilianError as found:
            error = found
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _put(self, data: bytes) -> bool:
        try:
            received = Received(data)
        except VerificationError:
            self.refused = data
            raise
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._closed:
                return False
            self._queue.append(received)
            self._bytes += len(data)
            self._changed.notify_all()
            return True


class SecondCore:
    """Checks blocks in a child process while another one is executed; all calls come from one thread."""

    def __init__(self, commands: CommandTypes, key_of: Callable[[bytes], bytes | None], *, enabled: bool) -> None:
        self._commands = commands
        self._key_of = key_of
        self._unpacker = Unpacker(commands)
        self._starts = RESTARTS + 1 if enabled else 0
        self._checker: Checker | None = None
        self._is_up = False
        self._known: set[bytes] = set()
        self._keys: dict[bytes, bytes] = {}

    @property
    def child(self) -> int | None:
        """Process id of the child, None while there is none."""
        return None if self._checker is None else self._checker.process_id

    def send(self, received: Received) -> None:
        """Hand a block to the child, at most one beyond the one that is awaited; small blocks are left alone."""
        if received.checker is not None or received.operations < CHECK_FROM or not (self._checker or self._starts):
            return
        try:
            if self._checker is None:
                self._start()
            if self._checker is None or not self._has_come_up(self._checker):
                return
            self._checker.send(self._keys, received.block.transactions)
            self._known.update(self._keys)
            self._keys = {}
            received.checker = self._checker
        except (OSError, EOFError) as error:
            self._lost(error)

    def await_verdicts(self, received: Received) -> None:
        """Take the child's answer for a block that was sent; where it has died the block is checked when executed."""
        checker = received.checker
        if checker is None or checker is not self._checker:
            return
        try:
            reply = checker.receive()
        except (OSError, EOFError) as error:
            self._lost(error)
            return
        packed = reply.packed or [b""] * len(reply.checked)
        for transaction, checked, form in zip(received.block.transactions, reply.checked, packed, strict=True):
            received.verdicts[transaction] = Verdict(Checked(checked), form)
        for identifier in reply.missing:
            key = self._key_of(identifier) if identifier not in self._known else None
            if key is not None:
                self._keys[identifier] = key

    def verified(self, received: Received) -> Callable[[bytes], int | Envelope]:
        """Give what is known of a block's transactions, for its execution."""

        def known(transaction: bytes) -> int | Envelope:
            verdict = received.verdicts.get(transaction, NOTHING)
            return self._unpacker.unpack(verdict.packed) if verdict.packed else verdict.checked

        return known

    def stop(self) -> None:
        """End the child; a later `send` starts another."""
        checker, self._checker = self._checker, None
        if checker is not None:
            checker.close()

    def rest(self) -> None:
        """End the child while there is no backlog, without counting that as a failed start."""
        if self._checker is not None:
            self.stop()
            self._starts += 1

    def _start(self) -> None:
        self._starts -= 1
        self._is_up = False
        self._known.clear()
        self._checker = Checker(self._commands)
        self._checker.send({}, [])

    def _has_come_up(self, checker: Checker) -> bool:
        """Say whether the child has answered the first, empty request; blocks are not held up until it has."""
        if not self._is_up and checker.has_replied():
            checker.receive()
            self._is_up = True
        return self._is_up

    def _lost(self, error: BaseException) -> None:
        _log.warning("the checking process ended (%s), %d starts are left", error, self._starts)
        self.stop()
