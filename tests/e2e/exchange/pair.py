"""A centre with records and a hospital that needs them: one node, real sockets, mutual TLS, reactors running."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.engine.gateway import check
from yilian.ledger.cases import C, Found, Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.node import exchange
from yilian.node.compose import Node, open_node
from yilian.node.compose import now as clock
from yilian.node.doors import STRANGERS, TLS_NON_MEMBER, Door, EdgeRecorder, listen
from yilian.node.home import Home, InstitutionSpec
from yilian.node.host import Host
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.peers import Peers, peer_app
from yilian.node.projections import Projector
from yilian.node.reactors import Reactors
from yilian.node.settings import EngineSettings, Settings
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import DAY, CaseId, EntryId, day_of, month_of, unix_millis
from yilian.workflows.catalog.service import NewRecord, publish_records
from yilian.workflows.consent.interface import Access, Basis, Effect, Policy, Purpose, provision
from yilian.workflows.consent.model import GrantIssue, Propose, Sign, Use
from yilian.workflows.consent.receiving import Fetched

SETTINGS = Settings(engine=EngineSettings(second_core=False))
MEMBERS = (
    InstitutionSpec(
        slug="centre", name="Lake Community Centre", kind=InstitutionKind.COMMUNITY_CENTRE, grade="primary"
    ),
    InstitutionSpec(slug="hospital", name="City Hospital", kind=InstitutionKind.HOSPITAL, grade="tertiary"),
    InstitutionSpec(slug="other", name="Other Hospital", kind=InstitutionKind.HOSPITAL, grade="secondary"),
    InstitutionSpec(slug="bureau", name="Health Bureau", kind=InstitutionKind.REGULATOR),
)
TEXT = sha256(b"text shown")
WAIT_S = 30.0


def found_home(folder: Path, **parameters: int) -> Home:
    """Found a network in a fresh home."""
    home = Home(folder / "home")
    numbers = {name.replace("__", "."): value for name, value in parameters.items()}
    spec = NetworkSpec(name="exchange", institutions=MEMBERS, tree_depth=8, parameters=numbers)
    found_demo(home, SETTINGS, spec, clock())
    return home


class Pair:
    """A running node, and what its parties usually do."""

    def __init__(self, home: Home) -> None:
        self.node: Node = open_node(home, SETTINGS)
        self.node.peers = Peers(self.node)
        self.projector = Projector(self.node)
        self.reactors = Reactors(self.node)
        self.edge = EdgeRecorder()
        self.wallet = Ed25519Signer.from_seed(sha256(b"wallet"))
        self.subject = new_subject_ref()
        self._doors: list[Door] = []
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self, *, reactors: bool = True) -> Pair:
        """Open the doors and start the work."""
        self._thread.start()
        for host in self.node.hosts.values():
            asyncio.run_coroutine_threadsafe(self._open(host), self._loop).result(WAIT_S)
        self.projector.start()
        if reactors:
            self.reactors.start()
        return self

    def stop(self) -> None:
        """Close everything in the node's own order."""
        self.node.peers.close()
        for door in self._doors:
            asyncio.run_coroutine_threadsafe(door.close(), self._loop).result(WAIT_S)
        self.reactors.stop()
        self.projector.stop()
        self.edge.close()
        self.node.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _open(self, host: Host) -> None:
        listener = listen("127.0.0.1", 0)

        def turned_away(reason: str) -> None:
            if reason in STRANGERS:
                self.edge.record(host, TLS_NON_MEMBER, reason)

        context = self.node.trust.server_context(host.tls, turned_away)
        door = Door(peer_app(self.node, host), listener, tls=context)
        await door.open()
        self._doors.append(door)
        host.peer_address = f"https://127.0.0.1:{door.port}"

    @property
    def centre(self) -> Host:
        """The custodian."""
        return self.node.host("centre")

    @property
    def hospital(self) -> Host:
        """The recipient."""
        return self.node.host("hospital")

    def register(self, identifier: str = "urn:test|1") -> bytes:
        """Register the patient at the centre."""
        subject = Subject(subject_ref=self.subject, identity=b"{}", identifiers=(identifier,))
        self.centre.vault.subjects.put([subject])
        return self.subject

    def publish(self, *payloads: bytes, level: int = 3, subject: bytes = b"") -> tuple[EntryId, ...]:
        """Publish records of the patient at the centre."""
        month = month_of(day_of(self.node.clock()))
        return tuple(
            publish_records(
                self.centre,
                [
                    NewRecord(
                        subject_ref=subject or self.subject, kind="C0002", level=level, month=month, payload=payload
                    )
                    for payload in payloads
                ],
            )
        )

    def consent(self) -> CaseId:
        """Let the centre propose a consent for treatment at the hospital, and the patient's wallet sign it."""
        now = self.node.clock()
        policy = Policy(
            begins=unix_millis(0),
            ends=unix_millis(now + 90 * DAY),
            maximum=1000,
            depth=1,
            access=Access.STORE,
            erase_by=None,
            base=provision(Effect.PERMIT, Purpose.TREAT),
            exceptions=(),
        )
        proposal = Propose(
            patient=Patient(key=self.wallet.public_key, home=None),
            text=TEXT,
            language="en",
            policy_uri=sha256(b"policy"),
            policy=policy,
            replaces=None,
        )
        case = self.centre.gateway.act(proposal).case_id
        signing = Sign(text=TEXT, paper=None, paper_entry=None)
        check(self.centre.gateway.act(signing, case, persons=[(self.wallet, Role.PATIENT)]))
        return case

    def grant(self, entries: Sequence[EntryId], *, deliveries: int = 10, lasts_ms: int = 30 * DAY) -> CaseId:
        """Let the centre grant entries to the hospital."""
        now = self.node.clock()
        issue = GrantIssue(
            basis=Basis.CONSENT,
            covered_by=self.consent(),
            recipient=self.hospital.id,
            purpose=Purpose.TREAT,
            entries=tuple(entries),
            level_cap=4,
            begins=unix_millis(now - 1000),
            ends=unix_millis(now + lasts_ms),
            deliveries=deliveries,
            depth=0,
        )
        return self.centre.gateway.act(issue).case_id

    def fetch(self, grant: CaseId, *, by: str = "hospital", entries: Sequence[EntryId] = ()) -> Fetched:
        """Fetch as a physician."""
        host = self.node.host(by)
        physician = host.person(Role.PHYSICIAN)
        return exchange.fetch(self.node, host, grant, entries=entries, signer=physician.signer, role=Role.PHYSICIAN)

    def get(self, kind: type[C], case: CaseId) -> Found[C]:
        """Give a case of a kind."""
        found = self.centre.gateway.find(kind, case)
        assert found is not None
        return found

    def use(self, use: CaseId) -> Found[Use]:
        """Give a use."""
        return self.get(Use, use)

    def wait(self, holds: Callable[[], bool]) -> None:
        """Wait, at most WAIT_S, until something holds; it is asked again after each block."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, "not within the time"
            self.node.engine.wait_height(self.node.engine.head().height + 1, 0.05)

    def refusals(self, host: Host) -> dict[str, int]:
        """Count what was refused at an institution's edge, by kind."""
        return host.vault.audit.refusal_counts()
