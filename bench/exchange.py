"""The exchange of one record of 1 MB between two institutions of a node, over real mutual TLS, beside a plain fetch.

Four things take turns, so that the machine's moods meet them alike; each is one repetition of its own:

- plain fetch: the file that holds the sealed record, served by the same server under the same TLS contexts from a door
  that checks nothing, read by the same client over a new connection and made durable in the same store, as a transfer
  leaves it; what of it passes until the bytes are in memory is printed too, and the ratio to that, without target;
- commit: an envelope of two operations, as those of an exchange have, drafted, signed and handed to the idle engine,
  until it is durable and answered;
- transfer: the use stands DELIVERED, so its mask is public, and M and one-time key are here; over a new connection the
  ciphertext comes from the custodian, is checked against the ledger's root and made durable, the data key is unmasked
  and compared with the key check, the record opened and compared with its salted commitment: a verified record;
- whole exchange: `exchange.fetch` on a new connection, from asking the custodian until the confirmation is durable.
  Three commits must follow one another in it: reserve, deliver with disclosure.sent, confirm with disclosure.received.

Targets, of 95th percentiles: transfer / plain fetch ≤ 1.5, and whole exchange /
(plain fetch + 3 × commit) ≤ 1.5. Making a TLS context is in none of the times, a handshake in all but the commit.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop

from bench.report import Measurement, judged, measured
from bench.world import MONTH, SIZE_CLASS, drawn
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.engine.gateway import Signed, check
from yilian.engine.tuning import ease_collector
from yilian.ledger.cases import Found, Patient
from yilian.ledger.members import InstitutionKind, Role
from yilian.node import exchange
from yilian.node.compose import Node, now, open_node
from yilian.node.doors import Door, listen
from yilian.node.home import Home, InstitutionSpec
from yilian.node.host import Host
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.peer_client import PeerClients
from yilian.node.peers import Peers, peer_app
from yilian.node.projections import Projector
from yilian.node.reactors import Reactors
from yilian.node.settings import Settings
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.values import DAY, CaseId, Digest, EntryId, day_of, month_of, unix_millis
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.catalog.model import Origin, Publish
from yilian.workflows.catalog.service import NewRecord, publish_records
from yilian.workflows.consent import receiving
from yilian.workflows.consent.interface import Access, Basis, Effect, Policy, Purpose, provision
from yilian.workflows.consent.model import GrantIssue, Propose, Sign, Use
from yilian.workflows.consent.transfer import fetch_ciphertext

BOUND = 1.5
RECORD_BYTES = 1_000_000
REPETITIONS, WARM_UP = 100, 5
ORDERED_COMMITS = 3
WAIT_S = 30.0
NETWORK = NetworkSpec(
    name="bench",
    institutions=(
        InstitutionSpec(slug="centre", name="Centre", kind=InstitutionKind.COMMUNITY_CENTRE),
        InstitutionSpec(slug="hospital", name="Hospital", kind=InstitutionKind.HOSPITAL),
    ),
)
NAMES = ("plain fetch", "commit", "transfer", "whole exchange")
IN_MEMORY = "plain fetch, in memory"
Seconds = dict[str, list[float]]


class Exchange:
    """A running node of a custodian and a recipient, a released record, and a plain door beside the custodian's."""

    def __init__(self, folder: Path) -> None:
        home = Home(folder / "home")
        found_demo(home, Settings(), NETWORK, now())
        self.node: Node = open_node(home, Settings())
        self.centre, self.hospital = self.node.host("centre"), self.node.host("hospital")
        self.node.peers = Peers(self.node)
        self._projector, self._reactors = Projector(self.node), Reactors(self.node)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._doors: list[Door] = []
        self._number = 0
        self.arrived: list[float] = []
        """Seconds of each plain fetch until its bytes were in memory."""
        self.plain_address = ""

    def start(self) -> None:
        """Open the doors, start the work, publish a record, grant it and let it be released once."""
        ease_collector()
        self._thread.start()
        for host in (self.centre, self.hospital):
            host.peer_address = self._open(host, peer_app(self.node, host))
        self._projector.start()
        self._reactors.start()
        self.entry = self._publish()
        self.grant = self._grant()
        fetched = self._fetch()
        self.node.peers.close()
        self.plain_address = self._open(self.centre, _plain(self.centre, self.entry.fields.root))
        use, key = self._find(Use, fetched.use_id), self.hospital.vault.releases.find_key_of_use(fetched.use_id)
        if key is None:
            raise AssertionError("the key of a use is kept until its dispute window ends")
        self._use, self._key = use, key

    def stop(self) -> None:
        """Close everything in the node's own order."""
        for door in self._doors:
            asyncio.run_coroutine_threadsafe(door.close(), self._loop).result(WAIT_S)
        self._reactors.stop()
        self._projector.stop()
        self.node.peers.close()
        self.node.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def settle(self) -> None:
        """Wait until nothing is at work any more: what one repetition leaves behind is not measured with the next."""
        self._reactors.wait_idle(WAIT_S)
        self._projector.caught_up(timeout_s=WAIT_S)

    def plain_fetch(self) -> float:
        """Measure the seconds in which the bytes of the sealed record are here and durable, without any check."""
        root = self.entry.fields.root
        self.hospital.blobs.delete(root)
        with self._line(lambda _: self.plain_address) as clients:
            client: httpx.Client = clients.client(self.hospital, self.centre.id)
            start = time.perf_counter()
            content = client.get("/").content
            self.arrived.append(time.perf_counter() - start)
            self.hospital.blobs.put(root, content)
            seconds = time.perf_counter() - start
        if len(content) != self.centre.blobs.size(root):
            raise AssertionError("the plain door gives the whole file")
        return seconds

    def commit(self) -> float:
        """Measure the seconds of one durable commit."""
        start = time.perf_counter()
        drafts = [self.centre.gateway.draft(self._publication()) for _ in range(2)]
        answers = self.centre.gateway.send([Signed(core=draft.core) for draft in drafts])
        seconds = time.perf_counter() - start
        for answer in answers:
            check(answer)
        return seconds

    def transfer(self) -> float:
        """Measure the seconds from a released record elsewhere to a verified one here."""
        self.hospital.blobs.delete(self.entry.fields.root)
        with self._line(self._address_of) as clients:
            clients.client(self.hospital, self.centre.id)
            line = clients.of(self.hospital)
            start = time.perf_counter()
            fetch_ciphertext(self.hospital.blobs, line, (self.entry,), self.grant, progress=lambda _: None)
            copies, wrong = receiving.open_delivered(self.hospital, self._use, self._key)
            seconds = time.perf_counter() - start
        if wrong or [copy.true_size for copy in copies] != [RECORD_BYTES]:
            raise AssertionError("the record opens as committed")
        return seconds

    def whole_exchange(self) -> float:
        """Measure the seconds of a whole exchange."""
        self.hospital.blobs.delete(self.entry.fields.root)
        before = self.node.engine.head().height
        self.node.peers.client(self.hospital, self.centre.id)
        start = time.perf_counter()
        fetched = self._fetch()
        seconds = time.perf_counter() - start
        self.node.peers.close()
        if self.node.engine.head().height - before != ORDERED_COMMITS:
            raise AssertionError("an exchange takes three blocks")
        if not fetched.verified:
            raise AssertionError("the exchange ends with a confirmation")
        return seconds

    def _publication(self) -> Publish:
        self._number += 1
        return Publish(
            tag=drawn(b"tag", self._number),
            root=drawn(b"root", self._number),
            commitment=drawn(b"commitment", self._number),
            size_class=SIZE_CLASS,
            kind=self.entry.fields.kind,
            level=3,
            month=MONTH,  # type: ignore[arg-type]  # a number of months
            origin=Origin.SYSTEM,
            late=False,
        )

    def _fetch(self) -> receiving.Fetched:
        physician = self.hospital.person(Role.PHYSICIAN)
        return exchange.fetch(self.node, self.hospital, self.grant, signer=physician.signer, role=Role.PHYSICIAN)

    @contextmanager
    def _line(self, address_of: Callable[[Any], str]) -> Iterator[PeerClients]:
        clients = PeerClients(self.node.engine, self.node.trust, address_of=address_of)
        try:
            yield clients
        finally:
            clients.close()

    def _address_of(self, _: object) -> str:
        return self.centre.peer_address

    def _open(self, host: Host, app: Callable[..., Any]) -> str:
        context = self.node.trust.server_context(host.tls, lambda _: None)
        door = Door(app, listen("127.0.0.1", 0), tls=context)
        asyncio.run_coroutine_threadsafe(door.open(), self._loop).result(WAIT_S)
        self._doors.append(door)
        return f"https://127.0.0.1:{door.port}"

    def _find(self, kind: type[Any], case: CaseId) -> Found[Any]:
        found = self.centre.gateway.find(kind, case)
        if found is None:
            raise AssertionError("what was just opened is on the ledger")
        return found

    def _publish(self) -> Found[Entry]:
        subject = new_subject_ref()
        self.centre.vault.subjects.put([Subject(subject_ref=subject, identity=b"{}", identifiers=("urn:bench|1",))])
        month = month_of(day_of(self.node.clock()))
        payload = bytes(range(250)) * (RECORD_BYTES // 250)
        record = NewRecord(subject_ref=subject, kind="C0002", level=3, month=month, payload=payload)
        (entry,) = publish_records(self.centre, [record])
        return self._find(Entry, entry)

    def _grant(self) -> CaseId:
        time_now = self.node.clock()
        wallet = Ed25519Signer.generate()
        policy = Policy(
            begins=unix_millis(0),
            ends=unix_millis(time_now + 90 * DAY),
            maximum=1000,
            depth=1,
            access=Access.STORE,
            erase_by=None,
            base=provision(Effect.PERMIT, Purpose.TREAT),
            exceptions=(),
        )
        text: Digest = sha256(b"text shown")
        proposal = Propose(
            patient=Patient(key=wallet.public_key, home=None),
            text=text,
            language="en",
            policy_uri=sha256(b"policy"),
            policy=policy,
            replaces=None,
        )
        consent = self.centre.gateway.act(proposal).case_id
        signing = Sign(text=text, paper=None, paper_entry=None)
        self.centre.gateway.act(signing, consent, persons=[(wallet, Role.PATIENT)])
        entries: tuple[EntryId, ...] = (self.entry.header.id,)
        issue = GrantIssue(
            basis=Basis.CONSENT,
            covered_by=consent,
            recipient=self.hospital.id,
            purpose=Purpose.TREAT,
            entries=entries,
            level_cap=4,
            begins=unix_millis(time_now - 1000),
            ends=unix_millis(time_now + 30 * DAY),
            deliveries=500,
            depth=0,
        )
        return self.centre.gateway.act(issue).case_id


def run(folder: Path, repetitions: int = REPETITIONS) -> Seconds:
    """Measure all four in turn, so many times."""
    world = Exchange(folder)
    try:
        world.start()
        steps = (world.plain_fetch, world.commit, world.transfer, world.whole_exchange)
        seconds: Seconds = {name: [] for name in NAMES}
        for number in range(WARM_UP + repetitions):
            for name, step in zip(NAMES, steps, strict=True):
                world.settle()
                taken = step()
                if number >= WARM_UP:
                    seconds[name].append(taken)
        return {**seconds, IN_MEMORY: world.arrived[WARM_UP:]}
    finally:
        world.stop()


def judge(seconds: Seconds) -> Iterator[Measurement]:
    """Give the lines of the table: medians for the eye, 95th percentiles against the targets."""
    yield from _lines(seconds, "median", statistics.median)
    for line in _lines(seconds, "p95", percentile_95):
        if line.ratio is not None and "in memory" not in line.name:
            yield judged(line.name, line.value, line.unit, ratio=line.ratio, kind="<=", bound=BOUND)
        else:
            yield line


def _lines(seconds: Seconds, name: str, of: Callable[[Sequence[float]], float]) -> Iterator[Measurement]:
    plain, commit, transfer, whole, in_memory = (of(seconds[each]) * 1e3 for each in (*NAMES, IN_MEMORY))
    yield measured(f"exchange: plain fetch of 1 MB, new connection, {name}", plain, "ms")
    yield measured(f"exchange: of it until the bytes are in memory, {name}", in_memory, "ms")
    yield measured(f"exchange: one durable commit, {name}", commit, "ms")
    yield judged(f"exchange: released 1 MB record / plain fetch, {name}", transfer, "ms", ratio=transfer / plain)
    yield judged(f"exchange: the same / its bytes in memory, {name}", transfer, "ms", ratio=transfer / in_memory)
    expected = plain + ORDERED_COMMITS * commit
    yield judged(f"exchange: whole / (plain fetch + 3 commits), {name}", whole, "ms", ratio=whole / expected)


def percentile_95(values: Sequence[float]) -> float:
    """Give the value below which 95 % of them lie, between neighbours in proportion."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def measure() -> Iterator[Measurement]:
    """Give the figures of the exchange."""
    with tempfile.TemporaryDirectory() as folder:
        yield from judge(run(Path(folder)))


def _plain(host: Host, root: Digest) -> Callable[..., Any]:
    """Give an application that answers every request with one file of the custodian's store."""

    def read() -> bytes:
        with host.blobs.open(root) as blob:
            return blob.read()

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        content = await asyncio.to_thread(read)
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app
