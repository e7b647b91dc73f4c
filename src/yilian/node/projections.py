"""Ledger events taken over into the read model: a thread of its own, a durable cursor, rebuildable at any time.

The cursor is written in the transaction of what it stands for, so that a crash repeats at most one lot, which the read
model passes over. Nothing here is needed to go on: `rebuild` makes all of it again from the first block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, get_args

import msgspec
import structlog

from yilian import canonical
from yilian.engine.port import Engine, Event
from yilian.errors import NotFoundError, UnavailableError, YilianError
from yilian.ledger.cases import Case, Found
from yilian.ledger.log import Leaf
from yilian.ledger.registry import Registry
from yilian.ledger.results import BlockRecords
from yilian.ledger.state import decode_case, natural_key_of
from yilian.storage.port import Index
from yilian.storage.rows import CaseRow, EntryRow, EventRow, Projected
from yilian.values import InstitutionId
from yilian.workflows.catalog.interface import Entry, is_restricted

LOT_EVENTS, LOT_BLOCKS = 4_000, 500
GATHER_S = 0.02
"""So long after a block others are waited for, unless somebody asks to be caught up."""
RETRY_AFTER_S = 2.0
KNOWN_OPENERS = 100_000
"""How many openers of cases are held in memory; others are asked of the read model."""
_LOG = structlog.get_logger("yilian.projections")


class Sources(Protocol):
    """What a projector works on; a `Node` is one."""

    @property
    def engine(self) -> Engine:
        """Gives the events."""
        ...

    @property
    def registry(self) -> Registry:
        """Knows the types of cases."""
        ...

    @property
    def index(self) -> Index:
        """Takes them over."""
        ...


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A type of case: its workflow, and the fields that name an institution at a position."""

    workflow: str
    positions: tuple[str, ...]


class Projector:
    """Keeps the read model at the newest block; `start` and `stop` its thread."""

    def __init__(self, sources: Sources) -> None:
        self._engine = sources.engine
        self._index = sources.index
        self._registry = sources.registry
        self._kinds = kinds_of(sources.registry)
        self._openers: dict[bytes, bytes] = {}
        self._height = self._index.height()
        self._problem: YilianError | None = None
        self._rebuilding = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._moved = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    @property
    def height(self) -> int:
        """Height of the newest block taken over."""
        return self._height

    def start(self) -> None:
        """Begin to follow the engine; what is behind is taken over first."""
        self._unsubscribe = self._engine.subscribe(lambda _: self._wake.set())
        self._wake.set()
        self._thread = threading.Thread(target=self._follow, name="projector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the lot at hand and end the thread."""
        self._unsubscribe()
        self._stopping = True
        self._wake.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()

    def caught_up(self, height: int | None = None, timeout_s: float = 30.0) -> int:
        """Wait until a height, by default the engine's newest, is taken over, and give the height reached.

        Raises:
            UnavailableError: it was not reached in time; names what failed where something did.
        """
        wanted = self._engine.head().height if height is None else height
        self._hurry.set()
        with self._moved:
            if not self._moved.wait_for(lambda: self._height >= wanted, timeout_s):
                why = f" ({self._problem})" if self._problem is not None else ""
                raise UnavailableError(
                    f"the read model is at height {self._height}, expected {wanted} in {timeout_s} s{why}: ask again"
                )
        return self._height

    def rebuild(self) -> None:
        """Forget the read model and make it again from the first block."""
        with self._rebuilding:
            self._index.reset()
            self._openers.clear()
            self._height = 0
        self._wake.set()
        if self._thread is None:
            self.catch_up()

    def catch_up(self) -> int:
        """Take over all blocks that are durable now, and give the height reached."""
        while not self._stopping:
            with self._rebuilding:
                before = self._height
                self._height = self._take_lot(before, self._engine.head().height)
                if self._height == before:
                    break
            with self._moved:
                self._moved.notify_all()
        return self._height

    def _follow(self) -> None:
        while not self._stopping:
            self._wake.wait()
            # blocks that follow closely are taken over together, and not beside what is waiting for the next of them
            self._hurry.wait(GATHER_S)
            self._hurry.clear()
            self._wake.clear()
            try:
                self.catch_up()
                self._problem = None
            except YilianError as error:
                self._problem = error
                _LOG.warning("projection waits", height=self._height, error=type(error).__name__)
                self._pause()

    def _pause(self) -> None:
        if not self._stopping:
            timer = threading.Timer(RETRY_AFTER_S, self._wake.set)
            timer.daemon = True
            timer.start()

    def _take_lot(self, after: int, head: int) -> int:
        lot: list[Projected] = []
        events, first = 0, self._engine.first_block()
        for height in range(after + 1, head + 1):
            if height < first:
                lot.append(self._projected_from_records(height))
            else:
                found = self._engine.events(height)
                lot.append(self._projected(height, found))
                events += len(found)
            if events >= LOT_EVENTS or len(lot) >= LOT_BLOCKS:
                break
        if not lot:
            return after
        self._index.apply(lot)
        return lot[-1].height

    def _projected(self, height: int, events: Sequence[Event]) -> Projected:
        cases: dict[bytes, CaseRow] = {}
        entries: dict[bytes, EntryRow] = {}
        rows = []
        for event in events:
            rows.append(_event_row(event))
            for word, found in event.cases:
                cases[found.header.id] = self._case_row(word, found, event)
                if isinstance(found.fields, Entry):
                    entries[found.header.id] = _entry_row(found, found.fields)
        return Projected(
            height=height, events=tuple(rows), cases=tuple(cases.values()), entries=tuple(entries.values())
        )

    def _projected_from_records(self, height: int) -> Projected:
        """Take over the cases of a block that was pruned: what its operations wrote is kept, their bytes are not."""
        cases: dict[bytes, CaseRow] = {}
        entries: dict[bytes, EntryRow] = {}
        stored = self._engine.state.leaves(height)
        for record in canonical.decode_trusted(stored, BlockRecords).records if stored else ():
            for row in record.rows:
                found = decode_case(row, self._registry.fields) if natural_key_of(row).startswith(b"case/") else None
                if found is None:
                    continue
                word, case = found
                cases[case.header.id] = self._case_row(word, case, record.leaf)
                if isinstance(case.fields, Entry):
                    entries[case.header.id] = _entry_row(case, case.fields)
        return Projected(height=height, events=(), cases=tuple(cases.values()), entries=tuple(entries.values()))

    def _case_row(self, word: str, found: Found[Case], event: Event | Leaf) -> CaseRow:
        header, kind = found.header, self._kinds[word]
        fields = _plain(found.fields)
        if header.patient is not None:
            fields["patient"] = _plain(header.patient)
        return CaseRow(
            case_id=header.id,
            workflow=kind.workflow,
            kind=word,
            state=str(header.state),
            version=header.version,
            opener=self._opener(found, event),
            positions=tuple(
                (name, held) for name in kind.positions if (held := getattr(found.fields, name)) is not None
            ),
            fields=msgspec.json.encode(fields).decode(),
            flags=tuple(str(flag) for flag in header.flags),
            opened_height=header.opened_height,
            opened_time=header.opened_time,
            changed_height=header.changed_height,
            changed_time=header.changed_time,
        )

    def _opener(self, found: Found[Case], event: Event | Leaf) -> bytes:
        """Give who opened a case: who acted when it is first seen, else as it was noted then."""
        case_id = found.header.id
        known = self._openers.get(case_id)
        if known is not None:
            return known
        if found.header.opened_height == event.height:
            known = event.actor
        else:
            try:
                known = self._index.get_case(case_id).opener
            except NotFoundError:
                # opened by the genesis, of which no operation tells
                known = event.actor
        if len(self._openers) >= KNOWN_OPENERS:
            self._openers.clear()
        self._openers[case_id] = known
        return known


def kinds_of(registry: Registry) -> Mapping[str, _Kind]:
    """Map the word of each case type to its workflow and positions."""
    return {
        case.word: _Kind(workflow=workflow.name, positions=positions_of(case.fields))
        for workflow in registry.workflows
        for case in workflow.cases
    }


def positions_of(kind: type[Case]) -> tuple[str, ...]:
    """Give the fields of a case that hold the id of an institution."""
    return tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if field.type == InstitutionId or InstitutionId in get_args(field.type)
    )


def _event_row(event: Event) -> EventRow:
    detail = _plain(event.body)
    if event.refs:
        detail["_refs"] = [ref.hex() for ref in event.refs]
    if event.persons:
        detail["_persons"] = [[key.hex(), str(role)] for key, role in event.persons]
    if event.result:
        detail["_refusal"] = [[workflow, number] for workflow, number in event.result]
    state = next((found.state for _, found in event.cases if found.header.id == event.case_id), "")
    return EventRow(
        height=event.height,
        index=event.index,
        log_index=event.leaf,
        time=event.time,
        workflow=event.workflow,
        command=event.command,
        case_id=event.case_id,
        actor=event.actor,
        op_id=event.op_id,
        result=event.result[0][1] if event.result else 0,
        state=str(state),
        detail=msgspec.json.encode(detail).decode(),
    )


def _entry_row(found: Found[Case], entry: Entry) -> EntryRow:
    header = found.header
    return EntryRow(
        entry_id=header.id,
        root=entry.root,
        custodian=entry.custodian,
        kind=entry.kind,
        level=entry.level,
        month=entry.month,
        size_class=entry.size_class,
        status=str(header.state),
        restricted=is_restricted(found),  # type: ignore[arg-type]  # of an Entry, as the caller found out
        late=entry.late,
        height=header.opened_height,
        time=header.opened_time,
    )


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    """Give a struct as JSON values by field name; bytes become hexadecimal."""
    return {name: _json(getattr(value, name)) for name in value.__struct_fields__}


def _json(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return value
