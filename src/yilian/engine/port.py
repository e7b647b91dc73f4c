"""What the rest of a node needs of an engine, whichever orders the blocks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from yilian.ledger.block import Block, BlockHeader
from yilian.ledger.cases import Case, Command, Found, Register
from yilian.ledger.machine import Machine
from yilian.ledger.members import Role
from yilian.ledger.ports import State
from yilian.ledger.results import Head, Result, TransactionResult
from yilian.ledger.state import Directory
from yilian.ledger.workflow import Reads
from yilian.values import CaseId, Digest, InstitutionId, KeyId, OpId, UnixMillis


class ChangedRegister(msgspec.Struct, frozen=True, kw_only=True):
    """A register row as an operation left it."""

    workflow: str
    key: tuple[bytes, ...]
    value: Register


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the log with what it did; refused ones too."""

    height: int
    time: UnixMillis
    """Block time."""
    index: int
    """Position among the block's leaves, from 0."""
    leaf: int
    """Index in the log, from 0."""
    actor: InstitutionId
    op_id: OpId
    workflow: str
    command: str
    case_id: CaseId
    refs: tuple[CaseId, ...]
    body: Command
    persons: tuple[tuple[KeyId, Role], ...]
    """Who signed beside the gateway."""
    result: Result
    """Empty: done."""
    cases: tuple[tuple[str, Found[Case]], ...]
    """(case type, case as left) for every case that it changed, consequences included."""
    registers: tuple[ChangedRegister, ...]

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return not self.result


class Engine(Protocol):
    """One chain: takes transactions, gives answers, blocks and committed state. Thread-safe.

    Implementations may differ in who orders the blocks and how long that takes, in nothing else.
    """

    @property
    def chain(self) -> Digest:
        """Id of the chain."""
        ...

    @property
    def state(self) -> State:
        """The committed rows, tiles and leaves, for proofs; read only."""
        ...

    @property
    def failure(self) -> str | None:
        """Say why the engine takes no more blocks, None while it does; reads go on."""
        ...

    def proving(self) -> AbstractContextManager[Machine]:
        """Give the machine, to read and prove from, while no block changes it; blocks wait meanwhile, so be short."""
        ...

    def head(self) -> Head:
        """Give where the chain stands after the newest durable block."""
        ...

    def sequencer(self) -> InstitutionId:
        """Name the member that may sign the next block."""
        ...

    def submit(self, transaction: bytes) -> Future[TransactionResult]:
        """Hand in a transaction; the future holds its result once its block is durable.

        A transaction that cannot enter a block is answered with its code at once. Where the block could not be made
        durable the future raises UnavailableError; the same bytes may be handed in again.

        Raises:
            UnavailableError: the queue is full, or the engine has stopped.
        """
        ...

    def find_case(self, case_id: CaseId) -> tuple[str, Found[Case]] | None:
        """Find a committed case of any type: (case type, case)."""
        ...

    def directory(self) -> Directory:
        """Give members, keys and parameters as of the newest block; ask again for newer ones."""
        ...

    def reads(self) -> Reads:
        """Give typed reads of the committed state of all workflows; ask again for newer ones."""
        ...

    def block(self, height: int) -> tuple[BlockHeader, Block]:
        """Give one block.

        Raises:
            NotFoundError: there is none at this height.
            VerificationError: its stored bytes do not hold.
        """
        ...

    def encoded_block(self, height: int) -> bytes:
        """Give the bytes of one block, as its proposer signed them; errors as `block`."""
        ...

    def first_block(self) -> int:
        """Give the height of the oldest block that is kept: 1, unless older ones were pruned."""
        ...

    def events(self, height: int) -> tuple[Event, ...]:
        """Give what the operations of one block did, in the order of their leaves; errors as `block`."""
        ...

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call back with the height after every durable block, until the returned function is called.

        The callback runs on a thread of the engine and must return at once, such as by setting an event.
        """
        ...

    def wait_height(self, height: int, timeout_s: float | None = None) -> int:
        """Wait until the chain is at `height`, the time is over or the engine stops, and give its height."""
        ...

    def close(self) -> None:
        """Finish what was taken, then stop; a second close does nothing."""
        ...
