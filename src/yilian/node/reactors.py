"""Reactors: what the node does by itself after each block, for every institution of this process.

One thread reads the events and hands work to the institutions; each has two workers, so that a silent peer holds up no
delivery. Work is done at least once: an institution's durable cursor never passes work that is not done, a restart
reads from there again, and every reaction looks at the committed state before it acts. What fails is tried again with
growing delay and counted; nothing here ends the node.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from yilian.engine.port import Event
from yilian.errors import YilianError
from yilian.ledger.envelope import InvalidTransaction
from yilian.node.compose import Node
from yilian.node.deadlines import Deadlines, is_member
from yilian.node.host import Host
from yilian.node.reactions import NEEDS_OTHERS, REACTIONS, UNHURRIED, Left, kinds_of
from yilian.node.stating import report_missing, state_days
from yilian.values import CaseId
from yilian.workflows.catalog.model import Challenge

CURSOR = "reactors"
FIRST_DELAY_S, LAST_DELAY_S = 0.1, 60.0
FIRST_WAIT_S, LONGEST_WAIT_S, PARKED_AFTER = 0.05, 5.0, 6
"""Waiting work is looked at after each of these; after 6 times (3 s) it no longer keeps the node from being idle."""
LATER, LATER_S = frozenset({"recover", "sent"}), 0.25
"""What looks after deliveries that somebody waits for comes so long after them, out of the way."""
WAITING_S = 1.0
SAVE_EVERY_S = 1.0
ERASE_EVERY_S = 600.0
STATE_EVERY_S = 60.0
STOP_S = 30.0
MOST_AT_ONCE = 200
_LOG = structlog.get_logger("yilian.reactors")

Work = tuple[str, CaseId]


class _Pending:
    """One piece of work that is not done."""

    __slots__ = ("attempts", "due", "height", "waits")

    def __init__(self, height: int) -> None:
        self.height = height
        self.attempts = 0
        self.waits = 0
        self.due = 0.0


class _Worker:
    """Does some kinds of work of one institution, on a thread of its own, many pieces of a kind together."""

    def __init__(self, node: Node, host: Host, name: str, failures: Counter[str]) -> None:
        self._node = node
        self._host = host
        self._failures = failures
        self._moved = threading.Condition()
        self._pending: dict[Work, _Pending] = {}
        self._stopping = False
        self.busy = False
        self._thread = threading.Thread(target=self._run, name=f"reactor-{host.slug}-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._moved:
            self._stopping = True
            self._moved.notify_all()
        self._thread.join(STOP_S)

    def add(self, kind: str, case: CaseId, height: int) -> None:
        with self._moved:
            pending = self._pending.setdefault((kind, case), _Pending(height))
            pending.due = time.monotonic() + LATER_S if kind in LATER else 0.0
            pending.waits = 0
            self._moved.notify_all()

    def drop(self, kind: str, case: CaseId) -> None:
        with self._moved:
            self._pending.pop((kind, case), None)

    def hurry(self, kind: str) -> None:
        with self._moved:
            for (one, _), pending in self._pending.items():
                if one == kind:
                    pending.due = 0.0
                    pending.waits = 0
            self._moved.notify_all()

    def lowest(self) -> int | None:
        """Give the least height with work that is not done, None where all is."""
        with self._moved:
            return min((pending.height for pending in self._pending.values()), default=None)

    def is_idle(self) -> bool:
        with self._moved:
            return not self.busy and all(
                kind in UNHURRIED or pending.waits >= PARKED_AFTER for (kind, _), pending in self._pending.items()
            )

    def _run(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            kind, cases = batch
            left = self._react(kind, cases)
            self._settle(kind, cases, left)

    def _take(self) -> tuple[str, list[CaseId]] | None:
        """Wait for work that is due, and give what there is of one kind; None at the end."""
        with self._moved:
            self.busy = False
            while not self._stopping:
                now = time.monotonic()
                due = [work for work, pending in self._pending.items() if pending.due <= now]
                if due:
                    self.busy = True
                    kind = due[0][0]
                    return kind, [case for one, case in due if one == kind][:MOST_AT_ONCE]
                soonest = min((pending.due for pending in self._pending.values()), default=None)
                self._moved.wait(None if soonest is None else max(0.0, soonest - now))
            return None

    def _react(self, kind: str, cases: list[CaseId]) -> Left:
        try:
            return REACTIONS[kind](self._node, self._host, cases)
        except (YilianError, InvalidTransaction, OSError) as error:
            if len(cases) > 1:
                return self._one_by_one(kind, cases)
            _LOG.info("not yet", institution=self._host.slug, kind=kind, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a worker: one broken case must not end it
            if len(cases) > 1:
                return self._one_by_one(kind, cases)
            _LOG.exception("reaction broke", institution=self._host.slug, kind=kind, error=type(error).__name__)
        return Left(failed=tuple(cases))

    def _one_by_one(self, kind: str, cases: list[CaseId]) -> Left:
        lefts = [self._react(kind, [case]) for case in cases if not self._stopping]
        undone = cases[len(lefts) :]
        return Left(
            waiting=(*(case for left in lefts for case in left.waiting), *undone),
            failed=tuple(case for left in lefts for case in left.failed),
        )

    def _settle(self, kind: str, cases: list[CaseId], left: Left) -> None:
        now = time.monotonic()
        with self._moved:
            for case in cases:
                pending = self._pending.get((kind, case))
                if pending is None:
                    continue
                if case in left.failed:
                    self._failures[kind] += 1
                    pending.due = now + min(LAST_DELAY_S, FIRST_DELAY_S * 2**pending.attempts)
                    pending.attempts = min(pending.attempts + 1, 20)
                elif case in left.waiting:
                    pending.due = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**pending.waits)
                    pending.waits = min(pending.waits + 1, 20)
                else:
                    del self._pending[kind, case]


class _Institution:
    """The two workers of an institution, and its durable cursor."""

    def __init__(self, node: Node, host: Host, start: int, failures: Counter[str]) -> None:
        self.host = host
        self.start_height = start
        self._saved = start
        self._next_save = 0.0
        self._own = _Worker(node, host, "own", failures)
        self._others = _Worker(node, host, "others", failures)
        self.workers = (self._own, self._others)

    def take(self, event: Event) -> None:
        """Take over what an event asks of this institution."""
        for _, found in event.cases:
            case = found.header.id
            kinds = kinds_of(self.host, found)
            if "received" in kinds:
                self._others.drop("recover", case)
            for kind in kinds:
                self._worker(kind).add(kind, case, event.height)
            if isinstance(found.fields, Challenge) and found.fields.challenger == self.host.id:
                self._own.hurry("verify")

    def save(self, height: int, *, at_once: bool = False) -> None:
        """Make the cursor durable, once a second at most; all work up to it is done."""
        now = time.monotonic()
        if now < self._next_save and not at_once:
            return
        undone = [lowest for worker in self.workers if (lowest := worker.lowest()) is not None]
        reached = min([height, *(lowest - 1 for lowest in undone)])
        if reached > self._saved:
            self.host.vault.access.set_cursor(CURSOR, reached)
            self._saved = reached
        self._next_save = now + SAVE_EVERY_S

    def _worker(self, kind: str) -> _Worker:
        return self._others if kind in NEEDS_OTHERS else self._own


class Reactors:
    """The reactors of a node. `failures` counts, by kind of work, what had to be tried again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._deadlines = Deadlines(node)
        self._lock = threading.Lock()
        self._institutions: list[_Institution] = []
        self._wake = threading.Event()
        self._stopping = False
        self._read = 0
        self._next_erase = 0.0
        self._next_statement = 0.0
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self.failures: Counter[str] = Counter()

    @property
    def height(self) -> int:
        """Height of the newest block whose events were handed out."""
        return self._read

    def start(self) -> None:
        """Go on from the durable cursors."""
        with self._lock:
            for host in self._node.hosts.values():
                # what a pruned block brought was done before, or concerned an institution that had not joined
                self._enter(host, max(host.vault.access.cursor(CURSOR), self._node.engine.first_block() - 1))
            cursors = [one.start_height for one in self._institutions]
            self._read = min([self._deadlines.load(), *cursors])
        self._unsubscribe = self._node.engine.subscribe(lambda _: self._wake.set())
        self._thread = threading.Thread(target=self._run, name="reactors", daemon=True)
        self._thread.start()

    def add(self, host: Host) -> None:
        """Begin with an institution that has just joined: nothing before concerns it."""
        with self._lock:
            self._enter(host, self._read)
        self._wake.set()

    def stop(self) -> None:
        """Let what is under way finish, and keep the cursors."""
        self._unsubscribe()
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
        for institution in self._institutions:
            for worker in institution.workers:
                worker.stop()
            institution.save(self._read, at_once=True)

    def is_idle(self) -> bool:
        """Say whether everything that the newest block asks for is done."""
        if self._read < self._node.engine.head().height:
            return False
        with self._lock:
            workers = [worker for institution in self._institutions for worker in institution.workers]
        return all(worker.is_idle() for worker in workers)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until `is_idle`, and say whether it came to that."""
        deadline = time.monotonic() + timeout_s
        while not self.is_idle():
            if time.monotonic() >= deadline:
                return False
            self._node.engine.wait_height(self._node.engine.head().height + 1, 0.02)
        return True

    def _enter(self, host: Host, start: int) -> None:
        if any(one.host is host for one in self._institutions):
            return
        institution = _Institution(self._node, host, start, self.failures)
        for worker in institution.workers:
            worker.start()
        self._institutions.append(institution)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._round()
            except (YilianError, OSError) as error:
                _LOG.warning("reactors wait", error=type(error).__name__)
                self._sleep(FIRST_DELAY_S)
            except Exception as error:  # noqa: BLE001 - the outermost loop of a server
                _LOG.exception("reactors broke", error=type(error).__name__)
                self._sleep(WAITING_S)

    def _round(self) -> None:
        """Hand out the events of new blocks, take the steps that are due, keep the cursors; then wait."""
        self._wake.clear()
        while self._read < self._node.engine.head().height and not self._stopping:
            self._hand_out(self._read + 1)
        with self._lock:
            institutions: Sequence[_Institution] = tuple(self._institutions)
        due, now = self._deadlines.next_due(), self._node.clock()
        if due is not None and due <= now:
            self._deadlines.act([one.host for one in institutions if is_member(self._node, one.host)])
        for institution in institutions:
            institution.save(self._read)
        self._erase_keys(institutions)
        self._state_days([one.host for one in institutions if is_member(self._node, one.host)])
        due = self._deadlines.next_due()
        self._sleep(WAITING_S if due is None else min(WAITING_S, max(0.0, (due - now) / 1000)))

    def _hand_out(self, height: int) -> None:
        events = [event for event in self._node.engine.events(height) if event.ok]
        with self._lock:
            for event in events:
                self._deadlines.take(event)
                for institution in self._institutions:
                    if height > institution.start_height:
                        institution.take(event)
            self._read = height

    def _erase_keys(self, institutions: Sequence[_Institution]) -> None:
        """Forget one-time keys whose dispute window is over."""
        if time.monotonic() < self._next_erase:
            return
        self._next_erase = time.monotonic() + ERASE_EVERY_S
        for institution in institutions:
            institution.host.vault.releases.erase_keys_due(self._node.clock())

    def _state_days(self, hosts: Sequence[Host]) -> None:
        """State the days that are over, and report those that others have not stated."""
        if time.monotonic() < self._next_statement:
            return
        self._next_statement = time.monotonic() + STATE_EVERY_S
        state_days(self._node, hosts)
        report_missing(self._node, hosts)

    def _sleep(self, seconds: float) -> None:
        if seconds and not self._stopping:
            self._wake.wait(seconds)
