"""The queue of an engine, whose waiting transactions are checked ahead on a second core.

Only a backlog is sent to the child: a transaction that comes to an idle engine is checked where it is executed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from yilian.engine.verification import NOTHING, Checker, Verdict, check
from yilian.errors import UnavailableError
from yilian.ledger.envelope import CommandTypes
from yilian.ledger.results import Checked, TransactionResult

BLOCK_OPERATIONS = 1_000
BLOCK_BYTES = 1_000_000
QUEUE_TRANSACTIONS = 50_000
QUEUE_BYTES = 64_000_000
BACKLOG = 32
"""Waiting transactions from which the child is worth its round trip."""
BACKLOG_OPERATIONS = 200
"""Waiting operations from which it is: in large envelopes their form is the work."""
CHUNK_TRANSACTIONS = 500
IN_FLIGHT = 2
RESTARTS = 5
RESTART_PAUSE_S = 1.0

_log = logging.getLogger(__name__)
KeyOf = Callable[[bytes], bytes | None]


# Stages of a transaction in the queue; plain numbers, since they are compared on the path of every transaction.
_WAITING, _SENT, _CHECKED = range(3)


class Waiting:
    """A transaction in the queue."""

    __slots__ = ("future", "operations", "stage", "transaction", "verdict")

    def __init__(self, transaction: bytes) -> None:
        self.transaction = transaction
        self.operations = operations_in(transaction)
        self.future: Future[TransactionResult] = Future()
        self.stage = _WAITING
        self.verdict = NOTHING


class Ahead:
    """A bounded queue: `put` from any thread, `take` from the engine's.

    Args:
        commands: command types of the chain.
        key_of: finds the public key of a key id on record.
        second_core: whether to check a backlog in a child process.
    """

    def __init__(self, commands: CommandTypes, key_of: KeyOf, *, second_core: bool) -> None:
        self._commands = commands
        self._key_of = key_of
        self._changed = threading.Condition()
        self._queue: deque[Waiting] = deque()
        self._sent = 0
        """So many from the front of the queue were sent or checked."""
        self._unsent_operations = 0
        self._bytes = 0
        self._closed = False
        self._keys: dict[bytes, bytes] = {}
        self._checker: Checker | None = None
        self._ready = False
        self._sender = threading.Thread(target=self._feed, name="yilian-check", daemon=True) if second_core else None
        if self._sender is not None:
            self._sender.start()

    @property
    def child(self) -> int | None:
        """Process id of the child, None while there is none."""
        checker = self._checker
        return None if checker is None else checker.process_id

    def put(self, transaction: bytes) -> Future[TransactionResult]:
        """Add a transaction.

        Raises:
            UnavailableError: the queue is full or closed.
        """
        item = Waiting(transaction)
        with self._changed:
            if self._closed:
                raise UnavailableError("the engine has stopped, expected it running: submit to the restarted node")
            if len(self._queue) >= QUEUE_TRANSACTIONS or self._bytes + len(transaction) > QUEUE_BYTES:
                raise UnavailableError(
                    f"the engine is busy: {len(self._queue)} transactions of {self._bytes} bytes wait, at most "
                    f"{QUEUE_TRANSACTIONS} and {QUEUE_BYTES}: wait for answers, then submit again"
                )
            was_backlog = self._is_backlog()
            self._queue.append(item)
            self._bytes += len(transaction)
            self._unsent_operations += item.operations
            if len(self._queue) == 1 or (self._is_backlog() and not was_backlog):
                self._changed.notify_all()
        return item.future

    def take(self) -> list[Waiting]:
        """Wait for transactions and give those of the next block, checked as far as they were sent; empty: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            batch: list[Waiting] = []
            operations = size = unseen = 0
            while self._queue:
                item = self._queue[0]
                operations += item.operations
                size += len(item.transaction)
                # with the child up, what it has not seen yet goes into a block only in small numbers
                many = len(batch) >= BACKLOG or unseen >= BACKLOG_OPERATIONS
                known = batch[0].stage != _WAITING or many if batch else False
                late = known and item.stage == _WAITING and self._ready
                if batch and (operations > BLOCK_OPERATIONS or size > BLOCK_BYTES or late):
                    break
                batch.append(self._queue.popleft())
                self._bytes -= len(item.transaction)
                if item.stage == _WAITING:
                    unseen += item.operations
                    self._unsent_operations -= item.operations
                else:
                    self._sent -= 1
        self._wait_checked(batch)
        return batch

    def close(self) -> None:
        """Take no more; `take` gives what is left, then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop_child(self) -> None:
        """End the child and its thread, after the last `take`."""
        if self._sender is not None:
            self._sender.join()

    def _wait_checked(self, batch: list[Waiting]) -> None:
        """Wait for the child, and check what it was not sent yet meanwhile."""
        while True:
            with self._changed:
                if all(item.stage != _SENT for item in batch):
                    return
                own = self._next_unsent()
                if own is None:
                    self._changed.wait()
                    continue
            own.verdict = check(own.transaction, self._keys, self._commands, [])
            own.stage = _CHECKED

    def _is_backlog(self) -> bool:
        return len(self._queue) - self._sent >= BACKLOG or self._unsent_operations >= BACKLOG_OPERATIONS

    def _next_unsent(self) -> Waiting | None:
        if len(self._queue) == self._sent:
            return None
        item = self._queue[self._sent]
        self._unsent_operations -= item.operations
        item.stage = _SENT
        self._sent += 1
        return item

    def _is_closed(self) -> bool:
        return self._closed

    def _wait_for_backlog(self) -> None:
        self._changed.wait_for(lambda: self._closed or self._is_backlog())

    def _feed(self) -> None:
        """Send chunks to the child and take its replies; another child where it dies, inline checks meanwhile."""
        for attempt in range(RESTARTS + 1):
            with self._changed:
                self._wait_for_backlog()
            if self._is_closed():
                return
            flying: deque[list[Waiting]] = deque()
            try:
                self._checker = Checker(self._commands)
                self._converse(self._checker, flying)
            except (OSError, EOFError) as error:
                _log.warning("checking process ended (%s), start %d of %d", error, attempt + 1, RESTARTS + 1)
            finally:
                checker, self._checker, self._ready = self._checker, None, False
                if checker is not None:
                    checker.close()
                self._settle(flying)
            with self._changed:
                self._changed.wait_for(self._is_closed, RESTART_PAUSE_S)

    def _converse(self, checker: Checker, flying: deque[list[Waiting]]) -> None:
        # the first exchange shows that the child is up; nothing waits for it before
        checker.send({}, [])
        checker.receive()
        self._ready = True
        keys = dict(self._keys)
        while True:
            chunk = self._next_chunk(wait=not flying)
            if chunk:
                flying.append(chunk)
                checker.send(keys, [item.transaction for item in chunk])
                keys = {}
            elif not flying:
                return
            if len(flying) == IN_FLIGHT or not chunk:
                reply = checker.receive()
                done = flying.popleft()
                for key_id in reply.missing:
                    key = self._key_of(key_id)
                    if key is not None:
                        keys[key_id] = self._keys[key_id] = key
                with self._changed:
                    for item, checked, packed in zip(done, reply.checked, reply.packed, strict=True):
                        item.verdict = Verdict(Checked(checked), packed)
                        item.stage = _CHECKED
                    self._changed.notify_all()

    def _next_chunk(self, *, wait: bool) -> list[Waiting]:
        """Give the next transactions to send; with `wait` not before there is a backlog. Empty: nothing, or closed."""
        with self._changed:
            if wait:
                self._wait_for_backlog()
                if self._closed:
                    return []
            chunk: list[Waiting] = []
            operations = 0
            while len(chunk) < CHUNK_TRANSACTIONS and operations < BLOCK_OPERATIONS:
                item = self._next_unsent()
                if item is None:
                    break
                operations += item.operations
                chunk.append(item)
            return chunk

    def _settle(self, flying: deque[list[Waiting]]) -> None:
        with self._changed:
            for chunk in flying:
                for item in chunk:
                    item.stage = _CHECKED
            self._changed.notify_all()


def operations_in(transaction: bytes) -> int:
    """Read the number of operations off a transaction's bytes, 1 where they are malformed; for grouping only."""
    # array of two, COSE_Sign1 of four: protected header of 3 bytes, no unprotected one, payload below 256 bytes
    if transaction[:7] != b"\x82\x84\x43\xa1\x01\x27\xa0" or transaction[7:8] != b"\x58":
        return 1
    at = 9 + transaction[8] + 66
    head = transaction[at : at + 3]
    if len(head) < 3:
        return 1
    if 0x81 <= head[0] <= 0x97:
        return head[0] - 0x80
    if head[0] == 0x98:
        return head[1]
    return int.from_bytes(head[1:3], "big") if head[0] == 0x99 else 1
