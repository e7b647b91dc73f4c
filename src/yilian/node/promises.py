"""Promises: the sequencer signs by when a transaction that was handed in is in a block; others hold it to that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Annotated

from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.suite import Signer, SuiteId, sha256
from yilian.engine.port import Engine
from yilian.errors import VerificationError
from yilian.ledger.cases import Part
from yilian.ledger.checkpoint import CLOCK_TOLERANCE
from yilian.node.alerts import AlertKind, Alerts
from yilian.storage.checkpoints import CheckpointStore, StoredPromise
from yilian.values import MINUTE, Digest, PublicKey, UnixMillis, unix_millis

VERSION = 1
TAG = b"yilian/promise/v1"
INCLUDED_WITHIN = MINUTE
"""Milliseconds from a submission to the latest block time of its block."""
MOST_PENDING = 10_000


class Promise(Part, frozen=True, kw_only=True):
    """The sequencer's word: this transaction is in a block of this chain by that time, or was answered with a code."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    chain: Digest
    transaction: Digest
    """SHA-256 of its bytes."""
    include_by: UnixMillis


def make_promise(transaction: bytes, *, chain: Digest, now: UnixMillis, sequencer: Signer) -> bytes:
    """Sign a promise for a transaction that was taken; an encoded COSE_Sign1 under the tag `yilian/promise/v1`."""
    promise = Promise(
        version=VERSION,
        chain=chain,
        transaction=sha256(transaction),
        include_by=unix_millis(now + INCLUDED_WITHIN),
    )
    return canonical.encode(cose.sign1(canonical.encode(promise), TAG, sequencer))


def read_promise(encoded: bytes, *, chain: Digest, keys: Sequence[PublicKey]) -> Promise:
    """Decode and verify a promise.

    Raises:
        VerificationError: malformed, of another chain, or not signed by one of the sequencer's keys.
    """
    sign1 = canonical.decode(encoded, cose.Sign1)
    if not any(cose.verify1(sign1, TAG, SuiteId.INTL, key) for key in keys):
        raise VerificationError("the promise is signed by no key of the sequencer: hand the transaction in again")
    promise = canonical.decode(sign1.payload, Promise)
    if promise.chain != chain:
        raise VerificationError(f"the promise is of chain {promise.chain.hex()}, this is {chain.hex()}: refuse it")
    return promise


class Promises:
    """The promises that a follower was given, until it has seen them kept or broken."""

    def __init__(
        self,
        store: CheckpointStore,
        alerts: Alerts,
        engine: Engine,
        *,
        sequencer_keys: Callable[[], Sequence[PublicKey]],
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._engine = engine
        self._keys = sequencer_keys
        self._pending = {one.digest: one for one in store.promises()}
        self._lock = threading.Lock()
        self._looked = min([one.since for one in self._pending.values()], default=engine.head().height)

    def keep(self, encoded: bytes, transaction: bytes, *, since: int) -> Promise:
        """Take a promise for a transaction that this node handed in when its newest block was `since`.

        Raises:
            VerificationError: it does not hold, or is about another transaction.
        """
        promise = read_promise(encoded, chain=self._engine.chain, keys=self._keys())
        if promise.transaction != sha256(transaction):
            raise VerificationError(
                f"the promise is about transaction {promise.transaction.hex()}, handed in was another: hand it in again"
            )
        stored = StoredPromise(digest=promise.transaction, include_by=promise.include_by, since=since, promise=encoded)
        with self._lock:
            if len(self._pending) < MOST_PENDING:
                self._store.keep_promise(stored)
                self._pending[promise.transaction] = stored
                self._looked = min(self._looked, since)  # its block may have been executed meanwhile
        return promise

    def settle(self, transaction: bytes) -> None:
        """Note that the sequencer answered: with a code, or with answers that name their block."""
        with self._lock:
            self._drop([sha256(transaction)])

    def look(self) -> None:
        """Look through the new blocks for what was promised."""
        with self._lock:
            head = self._engine.head().height
            if not self._pending:
                self._looked = head
            while self._looked < head:
                self._look_at(self._looked + 1)
                self._looked += 1

    def check_due(self, height: int, asked: UnixMillis) -> None:
        """Raise WITHHELD for what is not in, where the sequencer, asked at this time, had no block above `height`."""
        with self._lock:
            if self._looked < height:
                return
            due = [one for one in self._pending.values() if one.include_by + CLOCK_TOLERANCE < asked]
            for one in due:
                self._tell(one, f"is in none of {height} blocks at {asked}")
            self._drop([one.digest for one in due])

    def _look_at(self, height: int) -> None:
        header, block = self._engine.block(height)
        included = [sha256(transaction) for transaction in block.transactions]
        kept = [self._pending[one] for one in included if one in self._pending]
        for one in kept:
            if header.time > one.include_by + CLOCK_TOLERANCE:
                self._tell(one, f"is in block {height} at {header.time}")
        self._drop([one.digest for one in kept])

    def _tell(self, one: StoredPromise, found: str) -> None:
        self._alerts.raise_alert(
            AlertKind.WITHHELD,
            f"transaction {one.digest.hex()} {found}, the sequencer signed that it is in by {one.include_by} "
            f"({one.promise.hex()}): keep this, hand it in again, tell the other members",
            about=one.digest,
        )

    def _drop(self, digests: Sequence[Digest]) -> None:
        gone = [one for one in digests if self._pending.pop(one, None) is not None]
        if gone:
            self._store.drop_promises(gone)
