"""What a node does by the clock to keep evidence good: have checkpoints stamped, read sealed bytes again."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping

import structlog

from yilian.errors import ConflictError, UnavailableError, YilianError
from yilian.ledger.checkpoint import Note
from yilian.node import anchoring, integrity
from yilian.node.anchoring import Anchoring
from yilian.node.compose import Node
from yilian.node.deadlines import is_member
from yilian.node.host import Host
from yilian.storage.anchors import Anchor
from yilian.storage.vault.integrity import Finding, Held, HeldKind, Source
from yilian.values import InstitutionId, institution_id
from yilian.web.app import Caller
from yilian.web.app.upkeep_views import (
    AnchorFileView,
    AnchorsView,
    AnchorView,
    CoveredView,
    IntegrityAsked,
    IntegrityFindingView,
    IntegrityView,
    SourceView,
)
from yilian.workflows.audit.listing import show_covered
from yilian.workflows.audit.questions import Questions
from yilian.workflows.audit.statements import statement_id
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent.model import Use
from yilian.workflows.consent.transfer import fetch_ciphertext, read_leaves

LOOK_EVERY_S = 60.0
STOP_S = 10.0
MOST_SOURCES = 5
_LOG = structlog.get_logger("yilian.upkeep")
Report = Callable[[Mapping[str, int | float | str]], None]
Start = Callable[[Host, str, Callable[[Report], Mapping[str, object]]], bytes]


class UpkeepApi:
    """What the API may ask of upkeep. `start` begins a job that can be cancelled."""

    def __init__(self, node: Node, start: Start) -> None:
        self._node = node
        self._start = start

    def anchors(self, before: int | None, limit: int) -> AnchorsView:
        """List timestamps, the newest first."""
        age = anchoring.age_ms(self._node)
        settings = self._node.settings.anchoring
        found = self._node.anchors.page(before=before, limit=limit)
        return AnchorsView(
            age_s=None if age is None else age // 1000,
            max_age_s=settings.max_age,
            authorities=settings.authorities,
            items=tuple(AnchorView(height=one.height, time=one.time, authority=one.authority) for one in found),
        )

    def anchor(self, height: int) -> AnchorFileView:
        """Give the first timestamp that covers a height; NotFoundError where there is none."""
        found: Anchor = anchoring.get_anchor(self._node, height)
        return AnchorFileView(
            height=found.height,
            time=found.time,
            authority=found.authority,
            note=found.note.decode(),
            response=base64.b64encode(found.response).decode(),
        )

    def integrity(self, caller: Caller) -> IntegrityView:
        """Say what the newest check of the caller's institution found."""
        kept = self._node.host(caller.slug).vault.integrity
        run = kept.find_pass()
        return IntegrityView(
            started=None if run is None else run.started,
            finished=None if run is None else run.finished,
            done=0 if run is None else run.done,
            total=kept.count() if run is None else max(run.total, run.done),
            bytes=0 if run is None else run.size,
            findings=tuple(_finding(one) for one in kept.findings()),
        )

    def start_integrity(self, caller: Caller, asked: IntegrityAsked) -> bytes:
        """Begin, or go on with, the check of the caller's institution; ConflictError where it runs."""
        return self.check_blobs(self._node.host(caller.slug), repair=asked.repair)

    def covered(self, caller: Caller, day: int, number: int) -> CoveredView:
        """Show that the statement of a day covers an event; NotFoundError where it does not, or was made elsewhere."""
        host = self._node.host(caller.slug)
        shown = show_covered(host, day, number)  # type: ignore[arg-type]  # a day is an integer
        return CoveredView(
            statement=statement_id(self._node.chain, host.id, day).hex(),  # type: ignore[arg-type]  # as above
            number=shown.line.number,
            pair=shown.line.pair.hex(),
            event=shown.line.event.hex(),
            index=shown.index,
            size=shown.size,
            path=tuple(one.hex() for one in shown.path),
        )

    def check_blobs(self, host: Host, *, repair: bool = False) -> bytes:
        """Begin the check of an institution and give its job id; errors as `start_integrity`."""
        node = self._node

        def work(report: Report) -> Mapping[str, object]:
            return integrity.Checking(
                host.vault,
                host.blobs,
                throttle=integrity.Throttle(node.settings.integrity.rate),
                clock=node.clock,
                report=report,
                locate=lambda held: locate(node, host, held, repair=repair),
                name=host.slug,
            ).run()

        return self._start(host, integrity.JOB, work)


class Upkeep:
    """The threads of a running node: one for timestamps, one that begins checks when they are due.

    Errors as `Anchoring`.
    """

    def __init__(self, node: Node, api: UpkeepApi) -> None:
        self._node = node
        self._api = api
        self.anchoring = Anchoring(node, lambda: newest_note(node))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.anchoring.start()
        if self._node.settings.integrity.every:
            self._thread.start()

    def stop(self) -> None:
        """End; a check that runs is the jobs' to stop."""
        self._stopping.set()
        self.anchoring.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def begin_due(self) -> int:
        """Begin the checks that are due, or were cut off by a stop, and give their number."""
        begun = 0
        for host in tuple(self._node.hosts.values()):
            if not is_member(self._node, host) or not self._is_due(host):
                continue
            try:
                self._api.check_blobs(host)
            except ConflictError:
                continue  # it runs
            begun += 1
        return begun

    def _is_due(self, host: Host) -> bool:
        run = host.vault.integrity.find_pass()
        if run is not None and run.finished is None and not run.is_paused:
            return True
        began = self._node.genesis.time if run is None else run.started
        return self._node.clock() >= began + self._node.settings.integrity.every * 1000

    def _run(self) -> None:
        while True:
            try:
                self.begin_due()
            except YilianError as error:
                _LOG.warning("no check begun", error=type(error).__name__)
            if self._stopping.wait(LOOK_EVERY_S):
                return


def newest_note(node: Node) -> Note:
    """Give the newest checkpoint that satisfies the policy, else the newest at all; UnavailableError without one."""
    try:
        note: Note = node.checkpoints.newest(executed=False)
    except UnavailableError:
        note = node.checkpoints.newest_seen()
    return note


def locate(node: Node, host: Host, held: Held, *, repair: bool = False) -> tuple[Source, ...]:
    """Say where else the bytes of a blob lie: a copy's with its custodian, an own record's with who received it.

    A custodian is asked for the hashes of its segments. With `repair` a copy is fetched again, spending no delivery.
    """
    if held.entry is None:
        return ()
    try:
        if held.kind == HeldKind.COPY:
            return _custodian_of(node, host, held, repair=repair)
        received = Questions(node.index).deliveries(entry=held.entry)
        others = dict.fromkeys(institution_id(bytes.fromhex(one.recipient)) for one in received)
        return tuple(_receiver(one) for one in others if one != host.id)[:MOST_SOURCES]
    except YilianError as error:
        _LOG.info("not found elsewhere", institution=host.slug, case=held.entry.hex(), error=type(error).__name__)
        return ()


def _custodian_of(node: Node, host: Host, held: Held, *, repair: bool) -> tuple[Source, ...]:
    entry = host.gateway.find(Entry, held.entry) if held.entry is not None else None
    use = host.gateway.find(Use, held.use) if held.use is not None else None
    if entry is None or use is None:
        return ()
    custodian, grant, peers = entry.fields.custodian, use.fields.grant, node.peers.of(host)
    intact = False
    try:
        read_leaves(peers.leaves(custodian, entry.fields.root, grant), entry.fields.root, entry.fields.size_class)
        intact = True
        if repair:
            fetch_ciphertext(host.blobs, peers, (entry,), grant, progress=lambda _: None)
    except YilianError as error:
        _LOG.info("not fetched again", institution=host.slug, case=entry.header.id.hex(), error=type(error).__name__)
    return (Source(institution=custodian, grant=grant if intact else None, is_intact=intact),)


def _receiver(institution: InstitutionId) -> Source:
    return Source(institution=institution, grant=None, is_intact=False)


def _finding(one: Finding) -> IntegrityFindingView:
    return IntegrityFindingView(
        entry=None if one.entry is None else one.entry.hex(),
        root=one.root.hex(),
        kind=str(one.kind),
        wrong=str(one.wrong),
        found=one.found,
        sources=tuple(
            SourceView(
                institution=source.institution.hex(),
                grant=None if source.grant is None else source.grant.hex(),
                intact=source.is_intact,
            )
            for source in one.sources
        ),
    )
