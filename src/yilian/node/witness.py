"""What a witness does with a checkpoint: compare it with all that is known, then sign it, or refuse and say why.

`Watch` is a node's: it compares every checkpoint, from whomever it came, and raises the alerts. `Witness` is an
institution's: it signs nothing smaller than before and nothing that does not extend what it signed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yilian.crypto.merkle import verify_consistency
from yilian.crypto.suite import Signer
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import (
    CLOCK_TOLERANCE,
    Checkpoint,
    Note,
    SignatureKind,
    SignatureLine,
    cosign,
    origin,
    parse_note,
    verify_line,
)
from yilian.node.alerts import AlertKind, Alerts, MisbehaviourError, named
from yilian.node.history import History
from yilian.storage.checkpoints import CheckpointStore, Seen
from yilian.values import HOUR, Digest, InstitutionId, PublicKey, UnixMillis

Prove = Callable[[int, int], Sequence[bytes]]
"""Fetches the consistency proof between two sizes; NotFoundError, UnavailableError where it cannot be had."""


class Watch:
    """Compares checkpoints of one chain with those seen before and with what this node executed."""

    def __init__(
        self,
        store: CheckpointStore,
        history: History,
        alerts: Alerts,
        *,
        chain: Digest,
        sequencer_keys: Callable[[], Sequence[PublicKey]],
    ) -> None:
        self._store = store
        self._history = history
        self._alerts = alerts
        self._chain = chain
        self._keys = sequencer_keys

    def check_signed(self, note: Note) -> None:
        """Make sure that a note is of this chain and its first line the sequencer's; VerificationError else."""
        checkpoint = note.checkpoint
        if checkpoint.chain != self._chain:
            raise VerificationError(
                f"the checkpoint is of chain {checkpoint.chain.hex()}, this is {self._chain.hex()}: ask another member"
            )
        first = note.lines[0] if note.lines else None
        if first is None or first.name != origin(self._chain):
            raise VerificationError("the note does not begin with the sequencer's line: fetch it again")
        if all(verify_line(checkpoint, first, key) != SignatureKind.LOG_KEY for key in self._keys()):
            raise VerificationError("the note's first line is of no key of the sequencer: fetch it from the sequencer")

    def check(self, note: Note, provers: Sequence[Prove] = (), *, is_newest: bool = False) -> None:
        """Compare a note with everything known; returns where it belongs to the one history.

        Args:
            note: the checkpoint with the sequencer's line.
            provers: whom to ask for a consistency proof, in order, where the note is ahead of this node.
            is_newest: the sequencer itself gave it as its newest.

        Raises:
            VerificationError: not signed by this chain's sequencer.
            MisbehaviourError: an alert was raised.
            UnavailableError: it is ahead of this node, and nobody gave a proof yet.
        """
        self.check_signed(note)
        self._compare_with_seen(note)
        if is_newest:
            self._check_growth(note)
        if not self._compare_with_own(note):
            self._prove(note, provers, is_newest=is_newest)

    def halted(self) -> bool:
        """Say whether the present sequencer was caught at showing two histories."""
        return bool([alert for alert in self._alerts.of(AlertKind.SPLIT_VIEW) if self._is_about_present(alert.second)])

    def extends(self, note: Note, seen: Seen, provers: Sequence[Prove]) -> bool:
        """Say whether a checked note extends what a witness signed."""
        checkpoint = note.checkpoint
        if checkpoint.log_size == seen.log_size or not seen.log_size:
            return checkpoint.log_root == seen.log_root or not seen.log_size
        if checkpoint.log_size <= self._history.size:
            return self._history.root(seen.log_size) == seen.log_root
        return any(_holds(prove, seen.log_size, seen.log_root, checkpoint) for prove in provers)

    def is_of_present(self, note: Note) -> bool:
        """Say whether the present sequencer signed a note: what a replaced one signed binds nobody."""
        try:
            self.check_signed(note)
        except VerificationError:
            return False
        return True

    def _is_about_present(self, encoded: bytes) -> bool:
        try:
            return self.is_of_present(parse_note(encoded))
        except VerificationError:
            return False

    def _compare_with_seen(self, note: Note) -> None:
        checkpoint = note.checkpoint
        for known in (self._store.find(checkpoint.height), self._store.of_size(checkpoint.log_size)):
            if known is None or known.checkpoint == checkpoint:
                continue
            one = known.checkpoint
            is_other = (one.log_root, one.app_hash) != (checkpoint.log_root, checkpoint.app_hash)
            clashes = one.height == checkpoint.height or (one.log_size == checkpoint.log_size and is_other)
            if clashes and self.is_of_present(known):
                raise self._split(known, note)

    def _check_growth(self, note: Note) -> None:
        newest = self._store.largest()
        if newest is None or note.checkpoint.log_size >= newest.checkpoint.log_size:
            return
        if not self.is_of_present(newest):
            return
        is_truncated = note.checkpoint.height >= newest.checkpoint.height
        raise self._alerts.raise_alert(
            AlertKind.TRUNCATED_LOG if is_truncated else AlertKind.ROLLBACK,
            f"the sequencer gives {named(note.checkpoint)} as its newest, it signed {named(newest.checkpoint)} before: "
            "build nothing on it, ask its operator what was restored",
            newest,
            note,
        )

    def _compare_with_own(self, note: Note) -> bool:
        """Compare with what was executed here; False where it is ahead of that."""
        checkpoint, history = note.checkpoint, self._history
        if checkpoint.log_size > history.size:
            return False
        if history.root(checkpoint.log_size) != checkpoint.log_root:
            known = self._store.largest()
            if known is not None and self._is_own(known.checkpoint) and self.is_of_present(known):
                raise self._split(known, note)
            raise self._differs(note, history.checkpoint())
        try:
            own = history.checkpoint(checkpoint.height)
        except NotFoundError:
            return True  # a height that is not here yet, above the same leaves, or no longer here
        if own != checkpoint:
            if checkpoint.log_size < own.log_size:
                raise self._alerts.raise_alert(
                    AlertKind.TRUNCATED_LOG,
                    f"the sequencer signed {named(checkpoint)}, its blocks up to there have {own.log_size} leaves: "
                    "build nothing on it, ask its operator",
                    note,
                )
            raise self._differs(note, own)
        return True

    def _is_own(self, checkpoint: Checkpoint) -> bool:
        size = checkpoint.log_size
        return size <= self._history.size and self._history.root(size) == checkpoint.log_root

    def _prove(self, note: Note, provers: Sequence[Prove], *, is_newest: bool) -> None:
        known = self._store.largest()
        old = self._history.checkpoint()
        if known is not None and known.checkpoint.log_size > old.log_size and self.is_of_present(known):
            old = known.checkpoint
        if not old.log_size:
            return
        failed = missing = 0
        for prove in provers:
            try:
                if _holds(prove, old.log_size, old.log_root, note.checkpoint):
                    return
                failed += 1
            except NotFoundError:
                missing += 1
            except UnavailableError:
                continue
        # a proof is signed by nobody: while one of those asked is out of reach, a bad one of another accuses no one
        if failed and known is not None and failed + missing == len(provers):
            raise self._split(known, note)
        if missing and is_newest:
            raise self._alerts.raise_alert(
                AlertKind.TRUNCATED_LOG,
                f"the sequencer signed {named(note.checkpoint)} and has no proof from {old.log_size} leaves to it: "
                "build nothing on it, ask its operator",
                note,
            )
        raise UnavailableError(
            f"nobody proves yet that {old.log_size} leaves begin the log of {note.checkpoint.log_size}: ask again"
        )

    def _split(self, known: Note, note: Note) -> MisbehaviourError:
        return self._alerts.raise_alert(
            AlertKind.SPLIT_VIEW,
            f"the sequencer signed {named(known.checkpoint)} and also {named(note.checkpoint)}, which are not of one "
            "history: exchange nothing more, compare with the other members, replace the sequencer",
            known,
            note,
        )

    def _differs(self, note: Note, own: Checkpoint) -> MisbehaviourError:
        return self._alerts.raise_alert(
            AlertKind.STATE_DIFFERS,
            f"the sequencer signed {named(note.checkpoint)} at time {note.checkpoint.time}, executing its blocks here "
            f"gives {named(own)} at time {own.time}: run `yilian node check`, compare releases with other members",
            note,
        )


class Witness:
    """Signs for one institution, with a durable memory of what it signed last."""

    def __init__(self, institution: InstitutionId, signer: Signer, store: CheckpointStore) -> None:
        self.institution = institution
        self._signer = signer
        self._store = store

    def seen(self) -> Seen | None:
        """Give what it signed last."""
        return self._store.seen(self.institution)

    def sign(
        self, note: Note, kind: SignatureKind, now: UnixMillis, *, extends: Callable[[Seen], bool]
    ) -> tuple[SignatureLine, Seen] | None:
        """Sign a checked note; None where the same was signed within the hour. Keep what it gives before using it.

        Raises:
            VerificationError: it signed a larger log before, or one that this one does not extend.
        """
        checkpoint, seen = note.checkpoint, self.seen()
        if seen is not None:
            if checkpoint.log_size < seen.log_size:
                raise VerificationError(
                    f"this witness signed {seen.log_size} leaves, asked is one of {checkpoint.log_size}: it never goes "
                    "back; ask the sequencer's operator what happened"
                )
            is_same = (checkpoint.height, checkpoint.log_size) == (seen.height, seen.log_size)
            if is_same and seen.kind in {kind, SignatureKind.EXECUTED} and now - seen.time < HOUR:
                return None
            if not extends(seen):
                raise VerificationError(
                    f"{checkpoint.log_size} leaves do not extend the {seen.log_size} that this witness signed: refuse, "
                    "see `yilian log alerts`"
                )
        line = cosign(checkpoint, kind, self._signer, institution=self.institution, now=now)
        remembered = Seen(
            institution=self.institution,
            height=checkpoint.height,
            log_size=checkpoint.log_size,
            log_root=checkpoint.log_root,
            kind=kind,
            time=now,
        )
        return line, remembered


class Clockwork:
    """Judges block times by the own clock: when a block was first seen here, and what the sequencer said before."""

    KEPT = 256

    def __init__(self, clock: Callable[[], UnixMillis]) -> None:
        self._clock = clock
        self._sights: dict[int, UnixMillis] = {}
        self._told: tuple[int, UnixMillis] | None = None

    def saw(self, height: int) -> None:
        """Note that a block was executed here just now."""
        self._sights.setdefault(height, self._clock())
        while len(self._sights) > self.KEPT:
            self._sights.pop(next(iter(self._sights)), None)

    def told(self, height: int, asked: UnixMillis) -> None:
        """Note that the sequencer, asked at this time, had no block above `height`."""
        self._told = (height, asked)

    @property
    def last_told(self) -> tuple[int, UnixMillis] | None:
        """The newest height that the sequencer named, and when it was asked."""
        return self._told

    def is_right(self, height: int, time: UnixMillis) -> bool | None:
        """Say whether a block time is right, wrong (False), or cannot be told (None: an old block, caught up on)."""
        self.saw(height)  # at the latest now: the node may have started after the block
        sight = self._sights.get(height, self._clock())
        if time > sight + CLOCK_TOLERANCE:
            return False
        if sight - time <= CLOCK_TOLERANCE:
            return True
        if self._told is not None and self._told[0] < height and time < self._told[1] - CLOCK_TOLERANCE:
            return False  # it was made after the sequencer had told that there was none
        return None


def _holds(prove: Prove, old: int, old_root: bytes, checkpoint: Checkpoint) -> bool:
    proof = prove(old, checkpoint.log_size)
    return verify_consistency(old, checkpoint.log_size, proof, old_root, checkpoint.log_root)
