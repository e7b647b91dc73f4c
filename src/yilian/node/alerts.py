"""Alerts: what a sequencer was caught at, by name, with the signed notes that show it; durable."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import structlog

from yilian.crypto.suite import tagged_hash
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import Checkpoint, Note
from yilian.storage.checkpoints import CheckpointStore, StoredAlert
from yilian.values import UnixMillis

_LOG = structlog.get_logger("yilian.alerts")


class AlertKind(StrEnum):
    """What was found; the words are an interface."""

    SPLIT_VIEW = "SPLIT_VIEW"
    """Two checkpoints signed by the sequencer that are not of one history."""
    ROLLBACK = "ROLLBACK"
    """The sequencer's newest checkpoint is older than one that it signed before."""
    TRUNCATED_LOG = "TRUNCATED_LOG"
    """A checkpoint stands above fewer leaves than before, or the log does not hold what its checkpoint counts."""
    BLOCK_TIME_OFF = "BLOCK_TIME_OFF"
    """A block time is more than 30 s off the clock of a witness."""
    WITHHELD = "WITHHELD"
    """An operation that the sequencer promised to include is not in by its time."""
    STATE_DIFFERS = "STATE_DIFFERS"
    """Executing the same blocks gives another state than the sequencer signed."""
    BLOCK_REFUSED = "BLOCK_REFUSED"
    """A block or an answer of the sequencer breaks the rules; this node follows it no further."""


class MisbehaviourError(VerificationError):
    """A checkpoint that must not be signed or built on: an alert of this kind stands."""

    def __init__(self, kind: AlertKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Alerts:
    """The alerts of a node; the same finding is kept once."""

    def __init__(self, store: CheckpointStore, clock: Callable[[], UnixMillis]) -> None:
        self._store = store
        self._clock = clock

    def keep_evidence(self, kind: AlertKind, text: str, evidence: bytes) -> None:
        """Keep an alert about bytes that are no note, such as a block."""
        alert = StoredAlert(id=0, kind=str(kind), time=self._clock(), text=text, first=evidence, second=b"")
        if self._store.add_alert(tagged_hash("yilian/alert/v1", str(kind).encode(), text.encode(), evidence), alert):
            _LOG.error("alert", kind=str(kind))

    def raise_alert(self, kind: AlertKind, text: str, *notes: Note, about: bytes = b"") -> MisbehaviourError:
        """Keep an alert, durably, and give the error that says the same.

        Args:
            kind: what was found.
            text: found, expected, what to do; names checkpoints by size, height and root.
            notes: the signed notes that show it, two at most.
            about: tells findings apart that have no notes.
        """
        encoded = [note.encode() for note in notes] + [b"", b""]
        # cosignatures come and go: what an alert is about are the texts
        texts = [note.checkpoint.text().encode() for note in notes]
        alert = StoredAlert(id=0, kind=str(kind), time=self._clock(), text=text, first=encoded[0], second=encoded[1])
        if self._store.add_alert(tagged_hash("yilian/alert/v1", str(kind).encode(), about, *texts), alert):
            height = notes[-1].checkpoint.height if notes else 0
            _LOG.error("alert", kind=str(kind), height=height)
        return MisbehaviourError(kind, f"{kind}: {text}")

    def all(self, *, after: int = 0, limit: int = 1_000) -> list[StoredAlert]:
        """Give the alerts with an id above `after`, the oldest first."""
        return self._store.alerts(after=after, limit=limit)

    def of(self, kind: AlertKind) -> list[StoredAlert]:
        """Give the alerts of one kind."""
        return [alert for alert in self.all() if alert.kind == kind]


def named(checkpoint: Checkpoint) -> str:
    """Name a checkpoint in an alert."""
    return (
        f"checkpoint at height {checkpoint.height} of size {checkpoint.log_size} with log root "
        f"{checkpoint.log_root.hex()} and app hash {checkpoint.app_hash.hex()}"
    )
