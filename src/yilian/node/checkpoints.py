"""`node.checkpoints`: a signed checkpoint of every block, and which one satisfies the policy.

The sequencer's node signs beside the commit path. `node.witnessing` is the thread that has checkpoints witnessed; on a
follower it fetches them first. What institutions release waits here until the policy is satisfied.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from yilian.crypto.suite import Signer
from yilian.engine.follower import FORK, OTHER_STATE, FollowerEngine
from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import CLOCK_TOLERANCE, Note, SignatureKind, SignatureLine, sign, signed_at
from yilian.ledger.trust import Trust
from yilian.node.alerts import AlertKind, Alerts, MisbehaviourError, named
from yilian.node.compose import Node
from yilian.node.history import History
from yilian.node.home import GATEWAY
from yilian.node.promises import Promises, make_promise
from yilian.node.signers import Signers, needed
from yilian.node.witness import Watch
from yilian.node.witnessing import Rounds
from yilian.storage.checkpoints import CheckpointStore, StoredAlert
from yilian.values import MINUTE, InstitutionId, UnixMillis, institution_id

OLD_AFTER = 10 * MINUTE
"""Age of a cosignature that is not taken any more: it is pushed when it is signed."""
ASK_FIRST_S = 15.0
LOOK_S = 0.1
SEARCHED, PAGE = 200, 20
LOOKED_BACK = 256
"""Blocks before the newest in which a transaction may be when its promise comes."""
PROBLEMS = {FORK: AlertKind.SPLIT_VIEW, OTHER_STATE: AlertKind.STATE_DIFFERS}
"""What the follower engine names, as alerts; the rest is BLOCK_REFUSED."""


class Checkpoints:
    """The checkpoints of a node. Any thread asks."""

    def __init__(self, node: Node, store: CheckpointStore) -> None:
        self.node = node
        self.store = store
        self.history = History(node.engine)
        self.signers = Signers(node.engine, node.index, node.genesis, node.hosts)
        self.alerts = Alerts(store, node.clock)
        keys = self.signers.sequencer_keys
        self.watch = Watch(store, self.history, self.alerts, chain=node.chain, sequencer_keys=keys)
        self.promises = Promises(store, self.alerts, node.engine, sequencer_keys=keys)
        self.asked = threading.Event()
        """Set once the other members said what this sequencer signed before."""
        self._moved = threading.Condition()
        self._secrets: dict[InstitutionId, Signer] = {}
        self._last: Note | None = None
        self.rounds = Rounds(self)

    def start(self) -> None:
        """Begin to sign and to watch."""
        self.rounds.start()

    def stop(self) -> None:
        """Finish what is under way, and close the store."""
        self.asked.set()
        self.rounds.stop()
        self.store.close()

    # -------------------------------------------------------------------------------------------------------- asking

    def newest(self, *, executed: bool = True, most: int | None = None) -> Note:
        """Give the newest note that satisfies the policy, with exactly the policy's lines.

        Args:
            executed: every cosigner must have executed the blocks; else it may have seen consistent logs only.
            most: leaves of the log that it may count at most.

        Raises:
            UnavailableError: none does yet.
        """
        k = needed(self.node.engine)
        if not k and self.is_sequencer():
            note = self.sign_now()
            return Note(note.checkpoint, note.lines[:1])
        below: int | None = None
        for _ in range(SEARCHED // PAGE):
            notes = self.store.newest(limit=PAGE, below=below)
            for note in notes if most is None else (one for one in notes if one.checkpoint.log_size <= most):
                found = self._satisfying(note, k, executed=executed)
                if found is not None:
                    return found
            if not notes:
                break
            below = notes[-1].checkpoint.height
        raise UnavailableError(
            f"no checkpoint is cosigned by {k} operators besides the sequencer's yet: see that the members' nodes run"
        )

    def newest_seen(self) -> Note:
        """Give the newest note with all its lines, whatever the policy says; UnavailableError where there is none."""
        if self.is_sequencer():
            return self.sign_now()
        notes = self.store.newest()
        if not notes:
            raise UnavailableError("this node has seen no checkpoint yet: ask again once it reaches the sequencer")
        return notes[0]

    def note(self, height: int) -> Note:
        """Give the note of a height with all its lines; the sequencer signs one that it has not kept.

        Raises:
            NotFoundError: the chain has no such block, or this follower has no note of it.
        """
        found = self.store.find(height)
        if found is None and self.is_sequencer():
            checkpoint = self.history.checkpoint(height)
            self._check_own_past()
            found = Note(checkpoint, (sign(checkpoint, self.secret(self.signers.sequencer())),))
            self.store.keep(found)
        if found is None:
            raise NotFoundError(f"there is no checkpoint of height {height} here: ask the sequencer's node for it")
        return found

    def covers(self, height: int) -> bool:
        """Say whether a checkpoint at or above a height satisfies the policy; whoever asks in vain hurries it."""
        with suppress(UnavailableError):
            if self.newest().checkpoint.height >= height:
                return True
        self.rounds.hurry()
        return False

    def wait_covers(self, height: int, timeout_s: float) -> bool:
        """Wait until `covers`, and say whether it came to that."""
        deadline = time.monotonic() + timeout_s
        while not self.covers(height):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._moved:
                self._moved.wait(min(left, LOOK_S))
        return True

    def promise(self, transaction: bytes, now: UnixMillis) -> bytes:
        """Sign a promise for a transaction that the sequencer took; NotFoundError on another node."""
        if not self.is_sequencer():
            raise NotFoundError("this node has not the sequencer, which alone promises: hand the transaction in there")
        secret = self.secret(self.signers.sequencer())
        return make_promise(transaction, chain=self.node.chain, now=now, sequencer=secret)

    # ----------------------------------------------------------------------------------------------------- receiving

    def receive_cosignature(self, peer: InstitutionId, note: Note) -> None:
        """Take a member's own line under a note of this sequencer.

        Raises:
            NotFoundError: the sequencer is elsewhere.
            VerificationError: of nobody who counts, another's line, another checkpoint, too old, or it does not hold.
            MisbehaviourError: the note shows a second history.
        """
        if not self.is_sequencer():
            raise NotFoundError("cosignatures are gathered by the sequencer: push it there")
        self.watch.check(note)
        if len(note.lines) != 2 or note.lines[1].name != peer.hex():
            raise VerificationError("expected the sequencer's line and one of your own: push what you signed yourself")
        line = note.lines[1]
        kind = self.signers.kind_of(note.checkpoint, line)
        if kind is None:
            raise VerificationError(
                "the cosignature is of no active member's valid gateway key, of the sequencer's operator, or does not "
                "hold: see `yilian network trust`"
            )
        self._check_age(line, kind, note)
        self.store.keep(note, [(kind, line)])
        self.tell()

    def receive_note(self, peer: InstitutionId, note: Note) -> Note:
        """Compare a note that a member shows with what is known here, and give the newest one from here.

        What it shows of a second history is in the alerts; the member is answered all the same, and sees it too.
        """
        try:
            self.watch.check(note)
        except MisbehaviourError:
            pass
        except UnavailableError:
            self.rounds.look_at(peer, note)
        return self.newest_seen()

    def _check_age(self, line: SignatureLine, kind: SignatureKind, note: Note) -> None:
        made, now = signed_at(line) * 1000, self.node.clock()
        if not now - OLD_AFTER <= made <= now + CLOCK_TOLERANCE:
            raise VerificationError(f"the cosignature is of {made}, it is {now} here: sign anew, check your clock")
        if kind == SignatureKind.EXECUTED and made + CLOCK_TOLERANCE + 999 < note.checkpoint.time:
            raise VerificationError(
                f"the cosignature is of {made}, the block of {note.checkpoint.time}: check your clock, sign anew"
            )

    def take_promise(self, promise: bytes, transaction: bytes) -> None:
        """Hold the sequencer to a promise about a transaction that this node handed in."""
        since = max(0, self.node.engine.head().height - LOOKED_BACK)
        self.promises.keep(promise, transaction, since=since)

    def take_problem(self, name: str, detail: str, evidence: bytes) -> None:
        """Keep as an alert what the follower engine caught the sequencer at."""
        kind = PROBLEMS.get(name, AlertKind.BLOCK_REFUSED)
        self.alerts.keep_evidence(kind, f"{name}: {detail}", evidence)

    # ------------------------------------------------------------------------------------------------------- signing

    def is_sequencer(self) -> bool:
        """Say whether the sequencer is an institution of this process."""
        return self.node.host_of(self.signers.sequencer()) is not None

    def sign_now(self) -> Note:
        """Sign the newest block's checkpoint, or give what was signed with its cosignatures.

        Raises:
            MisbehaviourError: it does not extend what this sequencer signed before.
            UnavailableError: the other members were not asked yet.
        """
        if not self.asked.wait(ASK_FIRST_S):
            raise UnavailableError("the other members were not asked yet what this sequencer signed: ask again")
        checkpoint, last = self.history.checkpoint(), self._last
        if last is not None and last.checkpoint == checkpoint:
            return last
        found = self.store.find(checkpoint.height)
        if found is not None and found.checkpoint == checkpoint:
            return found
        self._check_own_past()
        if found is not None and self.watch.is_of_present(found):
            raise self._forked(found)
        self._last = Note(checkpoint, (sign(checkpoint, self.secret(self.signers.sequencer())),))
        return self._last

    def secret(self, institution: InstitutionId) -> Signer:
        """Give the gateway key of an institution of this process; ConflictError where it is elsewhere."""
        found = self._secrets.get(institution)
        if found is None:
            host = self.node.host_of(institution)
            if host is None:
                raise ConflictError(f"{institution.hex()} is not on this node: sign on its own")
            found = self._secrets[institution] = host.keystore.load_signer(GATEWAY)
        return found

    def tell(self) -> None:
        """Wake who waits for a checkpoint."""
        self._last = None
        with self._moved:
            self._moved.notify_all()

    def _check_own_past(self) -> None:
        """Make sure that this sequencer goes on from what it signed: a restored home may be older than that."""
        known = self.store.largest()
        if known is None or not self.watch.is_of_present(known):
            return
        one, head = known.checkpoint, self.history.checkpoint()
        if one.log_size > head.log_size:
            raise self.alerts.raise_alert(
                AlertKind.ROLLBACK,
                f"this sequencer stands at {named(head)} and signed {named(one)} before: stop it, fetch the missing "
                "blocks from a follower, then start it again",
                known,
            )
        if self.history.root(one.log_size) != one.log_root:
            raise self._forked(known)

    def _forked(self, known: Note) -> MisbehaviourError:
        return self.alerts.raise_alert(
            AlertKind.SPLIT_VIEW,
            f"this sequencer stands at {named(self.history.checkpoint())}, which does not extend what it signed "
            f"before: {named(known.checkpoint)}; stop it, restore the home whose blocks the followers have",
            known,
        )

    def _satisfying(self, note: Note, k: int, *, executed: bool) -> Note | None:
        """Trim a note to the policy's lines; None where it has not enough of them."""
        chosen: list[SignatureLine] = []
        operators: set[InstitutionId] = set()
        for line in note.lines[1:]:
            if len(chosen) == k:
                break
            kind = self.signers.kind_of(note.checkpoint, line)
            if kind is None or (executed and kind != SignatureKind.EXECUTED):
                continue
            operator = self.signers.operator(institution_id(bytes.fromhex(line.name)))
            if operator is not None and operator not in operators:
                operators.add(operator)
                chosen.append(line)
        return Note(note.checkpoint, (note.lines[0], *chosen)) if len(chosen) == k else None


class LogFace:
    """What a node's API gives of the log: `web.app.LogLike`."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def checkpoint(self) -> Note:
        """Give the newest note that satisfies the policy and whose tiles are here."""
        return self._checkpoints.newest(executed=False, most=self._checkpoints.history.size)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Give hashes of a tile; NotFoundError where the log has them not."""
        return self._checkpoints.history.tile(level, index, width)

    def entries(self, index: int, width: int) -> bytes:
        """Give leaves of a bundle; NotFoundError where the log has them not."""
        return self._checkpoints.history.entries(index, width)

    def trust(self) -> Trust:
        """Give what readers of receipts have to believe."""
        return self._checkpoints.signers.trust()

    def alerts(self, *, after: int, limit: int) -> list[StoredAlert]:
        """Give the alerts with an id above `after`."""
        return self._checkpoints.alerts.all(after=after, limit=limit)


def open_checkpoints(node: Node) -> Checkpoints:
    """Open the checkpoints of a node's home; a follower's engine and line tell them what they find."""
    opened = Checkpoints(node, CheckpointStore(node.home.ledger / "checkpoints.db"))
    if node.line is not None:
        node.line.on_promise = opened.take_promise
        node.line.on_answer = opened.promises.settle
    if isinstance(node.engine, FollowerEngine):
        node.engine.on_problem = opened.take_problem
    return opened


def may_release(node: Node, height: int) -> bool:
    """Say whether a custodian may answer a reservation of this height: the policy asks for nothing, or is satisfied."""
    if not needed(node.engine):
        return True
    return node.checkpoints is not None and bool(node.checkpoints.covers(height))
