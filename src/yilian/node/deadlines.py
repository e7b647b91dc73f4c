"""Times that are over, made visible: the `*.expire` rows of the tables, and approved proposals, in due time.

Which cases have such a time follows from the tables: every row that any node may act on after a time in a field.
The heap is rebuilt from the read model at start; the committed case is looked at before anything is sent.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence

import msgspec
import structlog

from yilian.engine.gateway import Signed
from yilian.engine.port import Event
from yilian.errors import YilianError
from yilian.ledger.cases import Case, Command, Found
from yilian.ledger.members import LIVING
from yilian.ledger.registry import Registry
from yilian.ledger.workflow import ANY
from yilian.node.compose import Node
from yilian.node.host import Host
from yilian.storage.rows import CaseQuery
from yilian.values import CaseId, InstitutionId, case_id

GRACE_MS = 2_000
"""How long after its time a case is left to those whom it concerns more."""
GRACE_OF_DECISIONS_MS = 30_000
"""An approved proposal is left to the officers for so long."""
RETRY_MS = 60_000
MOST_AT_ONCE = 500
_LOG = structlog.get_logger("yilian.deadlines")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A step that any node may take once the time in a field is over."""

    states: tuple[str, ...]
    field: str
    command: Command
    grace_ms: int


def rules_of(registry: Registry) -> dict[str, tuple[Rule, ...]]:
    """Collect the rules of all case types from the tables, by case type."""
    rules: dict[str, tuple[Rule, ...]] = {}
    for word, (_, case_type) in registry.case_types.items():
        found = tuple(
            Rule(
                states=row.from_states,
                field=row.after,
                command=row.command(),
                grace_ms=GRACE_OF_DECISIONS_MS if row.name == "proposal.apply" else GRACE_MS,
            )
            for row in case_type.rows
            if row.after
            and any(one.kind == "node" and one.position == ANY for one in row.who.alternatives)
            and not any(field.required for field in msgspec.structs.fields(row.command))
        )
        if found:
            rules[word] = found
    return rules


class Deadlines:
    """The times to come of all cases, and the steps that they allow. Thread-safe."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rules = rules_of(node.registry)
        self._lock = threading.Lock()
        self._heap: list[tuple[int, CaseId, str]] = []

    def load(self) -> int:
        """Read the living cases from the read model, and give the height that it stands at."""
        height = self._node.index.height()
        for word, rules in self._rules.items():
            states = tuple(state for rule in rules for state in rule.states)
            cursor: str | None = None
            while True:
                page = self._node.index.find_cases(CaseQuery(kind=word, states=states, limit=1000, cursor=cursor))
                for row in page.items:
                    found = self._node.engine.find_case(case_id(row.case_id))
                    if found is not None:
                        self._add(*found)
                cursor = page.next
                if cursor is None:
                    break
        return height

    def take(self, event: Event) -> None:
        """Take over the cases that an operation changed."""
        for word, found in event.cases:
            if word in self._rules:
                self._add(word, found)

    def next_due(self) -> int | None:
        """Give the next time (milliseconds) at which something may be done, None where there is none."""
        with self._lock:
            return self._heap[0][0] if self._heap else None

    def act(self, hosts: Sequence[Host]) -> int:
        """Take the steps that are due, and give their number; what was refused is tried again a minute later."""
        now = self._node.clock()
        steps: dict[InstitutionId, list[tuple[Signed, CaseId, str]]] = {}
        for case, word in self._due(now):
            found = self._node.engine.find_case(case)
            rule = self._rule(word, found[1]) if found is not None else None
            actor = _actor(hosts, found[1].fields) if found is not None else None
            if found is None or rule is None or actor is None:
                continue
            draft = actor.gateway.draft(rule.command, case, version=found[1].header.version)
            steps.setdefault(actor.id, []).append((Signed(core=draft.core), case, word))
        return sum(self._send(next(host for host in hosts if host.id == actor), own) for actor, own in steps.items())

    def _send(self, host: Host, steps: list[tuple[Signed, CaseId, str]]) -> int:
        again = self._node.clock() + RETRY_MS
        try:
            answers = host.gateway.send([signed for signed, _, _ in steps])
        except YilianError as error:
            _LOG.info("not yet", institution=host.slug, error=type(error).__name__)
            with self._lock:
                for _, case, word in steps:
                    heapq.heappush(self._heap, (again, case, word))
            return 0
        with self._lock:
            for answer, (_, case, word) in zip(answers, steps, strict=True):
                if not answer.ok:
                    heapq.heappush(self._heap, (again, case, word))
        return sum(answer.ok for answer in answers)

    def _due(self, now: int) -> list[tuple[CaseId, str]]:
        found: dict[tuple[CaseId, str], None] = {}
        with self._lock:
            while self._heap and self._heap[0][0] <= now and len(found) < MOST_AT_ONCE:
                _, case, word = heapq.heappop(self._heap)
                found[case, word] = None
        return list(found)

    def _add(self, word: str, found: Found[Case]) -> None:
        rule = self._rule(word, found)
        if rule is None:
            return
        due = int(getattr(found.fields, rule.field)) + rule.grace_ms
        with self._lock:
            heapq.heappush(self._heap, (due, found.header.id, word))

    def _rule(self, word: str, found: Found[Case]) -> Rule | None:
        rule = next((rule for rule in self._rules.get(word, ()) if found.state in rule.states), None)
        return rule if rule is not None and getattr(found.fields, rule.field) else None


def is_member(node: Node, host: Host) -> bool:
    """Say whether an institution of this process may act: it has joined and has not left."""
    member = node.engine.directory().member(host.id)
    return member is not None and member.state in LIVING


def _actor(hosts: Sequence[Host], fields: Case) -> Host | None:
    """Choose who acts: a party of the case where one is here, else the first."""
    named = {value for value in msgspec.structs.astuple(fields) if isinstance(value, bytes)}
    return next((host for host in hosts if host.id in named), hosts[0] if hosts else None)
