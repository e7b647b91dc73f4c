"""Run a node: open its home, its doors and its work, say when it is ready, and stop in order.

Order of stopping: doors (no new request, those under way finish), reactors, projections, jobs and ledger (drained),
stores.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog
import uvloop

from yilian import canonical
from yilian.client.devicekey import load_device_key
from yilian.crypto.suite import Signer, SuiteId, key_id_of
from yilian.errors import ConflictError, SettingsError
from yilian.ledger.members import Constitution, HeldBy, Roster
from yilian.node import anchoring, joining, logs, membership, network
from yilian.node.addresses import Peers as DoorList
from yilian.node.announcing import Announcer, away_of
from yilian.node.compose import Node, open_node
from yilian.node.control import Body, ControlApp, NodeFile
from yilian.node.doors import STRANGERS, TLS_NON_MEMBER, Door, EdgeRecorder, listen
from yilian.node.home import (
    Home,
    Institution,
    Person,
    PersonSpec,
    make_person,
    person_key_name,
    remove,
    store_institution,
    store_private,
)
from yilian.node.host import Host, PersonKey
from yilian.node.ledger_doors import doors_of, keep_ca
from yilian.node.pki import fingerprint
from yilian.node.settings import Settings
from yilian.storage.vault.records import RecordStatus
from yilian.values import public_key
from yilian.workflows.catalog.service import publish_prepared
from yilian.workflows.governance.interface import institution_id_of, possession_message

JOIN_TIMEOUT_S = 60.0
PRUNED_TIMEOUT_S = 3600.0
"""How long the read model may take to read what blocks that were pruned have changed."""
_LOG = structlog.get_logger("yilian.node")


class RunningNode:
    """An open node with its doors, reactors and projections. Made by `run_node`, which also ends it."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        from yilian.node.checkpoints import open_checkpoints  # noqa: PLC0415 - as below
        from yilian.node.peers import Peers  # noqa: PLC0415 - peers import the node's types
        from yilian.node.projections import Projector  # noqa: PLC0415 - as above
        from yilian.node.reactors import Reactors  # noqa: PLC0415 - as above
        from yilian.node.resume import Resume  # noqa: PLC0415 - as above
        from yilian.node.retention import Retention  # noqa: PLC0415 - as above
        from yilian.node.upkeep import Upkeep  # noqa: PLC0415 - as above

        self.node = node
        self._loop = loop
        self._edge = EdgeRecorder()
        self._doors: dict[str, Door] = {}
        self._api: Door | None = None
        self._token = secrets.token_hex(32)
        self._joining = threading.Lock()
        self.projector = Projector(node)
        node.peers = Peers(node)
        node.checkpoints = open_checkpoints(node)
        self.reactors = Reactors(node)
        self.announcer = Announcer(node)
        self.resume = Resume(node)
        self.retention = Retention(node)
        self._upkeep: Upkeep | None = None

    @property
    def url(self) -> str:
        """Address of the API; empty until its door is open."""
        return f"http://{self.node.settings.api.host}:{self._api.port}" if self._api is not None else ""

    async def start(self) -> None:
        """Open the doors of the members, start the work, then the API, and write `node.json`."""
        from yilian.node.operations import NodeApi  # noqa: PLC0415 - as below
        from yilian.node.upkeep import Upkeep  # noqa: PLC0415 - as below
        from yilian.web.app import create_app  # noqa: PLC0415 - what a node serves, loaded when it serves

        node = self.node
        for host in node.hosts.values():
            node.jobs.close_interrupted(host)
            if membership.is_member(self.node, host):
                await self._open_door(host)
        await asyncio.to_thread(self.projector.start)
        if node.engine.first_block() > 1:  # reactors begin where the read model stands
            await asyncio.to_thread(self.projector.caught_up, node.engine.first_block() - 1, PRUNED_TIMEOUT_S)
        await asyncio.to_thread(node.checkpoints.start)
        await asyncio.to_thread(self.reactors.start)
        self.announcer.start()
        self.resume.start()
        self.retention.start()
        listener = listen(node.settings.api.host, node.settings.api.port)
        services = NodeApi(node)
        self._upkeep = Upkeep(node, services.upkeep)
        self._api = Door(ControlApp(create_app(services), self, self._token), listener)
        await self._api.open()
        for host in node.hosts.values():
            if membership.is_member(self.node, host):
                self._repair(host)
        self._upkeep.start()
        self._announce()
        _LOG.info("ready", height=node.engine.head().height, chain=node.chain.hex(), port=self._api.port)

    async def stop(self) -> None:
        """Close everything in order."""
        self.node.stopping.set()
        remove(self.node.home.node_file)
        await asyncio.to_thread(self.announcer.stop)
        await asyncio.to_thread(self.resume.stop)
        await asyncio.to_thread(self.retention.stop)
        doors = [*self._doors.values(), *([self._api] if self._api is not None else [])]
        await asyncio.gather(*(door.close() for door in doors))
        if self._upkeep is not None:
            await asyncio.to_thread(self._upkeep.stop)
        await asyncio.to_thread(self.reactors.stop)
        await asyncio.to_thread(self.node.checkpoints.stop)
        await asyncio.to_thread(self.projector.stop)
        await asyncio.to_thread(self.node.peers.close)
        await asyncio.to_thread(self._edge.close)
        await asyncio.to_thread(self.node.close)

    # ------------------------------------------------------------------------------------------------- operations

    def status(self) -> Body:
        """Say where the chain stands and who is here; operators of one process are declared, not distinct."""
        head = self.node.engine.head()
        constitution = self.node.engine.reads().register(Constitution)
        node_line = self.node.line
        return {
            "pid": os.getpid(),
            "url": self.url,
            "chain": self.node.chain.hex(),
            "height": head.height,
            "time": head.time,
            "app_hash": head.app_hash.hex(),
            "log_size": head.log_size,
            "constitution": constitution.version if constitution is not None else 0,
            "read_model_height": self.node.index.height(),
            "operators": "declared, one process",
            **anchoring.status_of(self.node),
            "engine": "sequencer" if node_line is None else "follower",
            "sequencer": self.node.engine.sequencer().hex(),
            "held": getattr(self.node.engine, "held", None) or "",
            "away": (away_of(self.node.engine) or "") if node_line is not None else "",
            "failure": self.node.engine.failure or "",
            "institutions": [
                {
                    "slug": host.slug,
                    "name": host.name,
                    "id": host.id.hex(),
                    "kind": str(host.kind),
                    "state": membership.state_of(self.node, host),
                    "address": host.peer_address,
                }
                for host in self.node.hosts.values()
            ],
            "elsewhere": self._elsewhere(),
        }

    def _elsewhere(self) -> list[Body]:
        """List the members that other nodes hold, in the shape of those here; a short name is known here only."""
        roster, directory = self.node.engine.reads().register(Roster), self.node.engine.directory()
        found = ((one, directory.member(one)) for one in (roster.members if roster is not None else ()))
        return [
            {
                "slug": "",
                "name": member.fields.name,
                "id": one.hex(),
                "kind": str(member.fields.kind),
                "state": str(member.state),
                "address": "",
            }
            for one, member in found
            if member is not None and self.node.host_of(one) is None
        ]

    def join(self, body: Body) -> Body:
        """Take up an invitation for an institution of this home, and open its door.

        Raises:
            Refused: the ledger says no, such as NOT_AS_VOTED.
            VerificationError: the invitation does not hold, or the members have not approved it yet.
        """
        try:
            slug, content = str(body["institution"]), bytes.fromhex(body["invitation"])
            possession = bytes.fromhex(body.get("officer_possession", ""))
        except (KeyError, ValueError, TypeError) as error:
            raise SettingsError(f"join: {error!r}: send institution and invitation (hex)") from error
        node = self.node
        invitation, _ = joining.read_invitation(content)
        if invitation.chain != node.chain:
            raise ConflictError(
                f"the invitation is to {invitation.chain.hex()}, this node runs {node.chain.hex()}: "
                "ask a member of this network for one"
            )
        institution = node.home.institution(slug)
        with self._joining:
            is_fresh = slug not in node.hosts
            host = node.add_host(institution) if is_fresh else node.host(slug)
            if not membership.is_member(self.node, host):
                membership.take_up(node, host, institution, invitation=invitation, possession=possession)
            keep_ca(node, node.home.ca_der(slug))
            if slug not in self._doors:
                asyncio.run_coroutine_threadsafe(self._open_door(host), self._loop).result(JOIN_TIMEOUT_S)
                self._announce()
            self.announcer.hurry()
            if is_fresh:
                self.reactors.add(host)
        return {
            "institution": slug,
            "id": host.id.hex(),
            "state": membership.state_of(self.node, host),
            "address": host.peer_address,
        }

    def invite(self, body: Body) -> Body:
        """Get ready for a newcomer: keep its CA, tell the sequencer of it, and list the doors to put into its file."""
        node = self.node
        try:
            ca_der = bytes.fromhex(body["ca"])
        except (KeyError, ValueError, TypeError) as error:
            raise SettingsError(f"invite: {error!r}: send ca (hex of its DER bytes)") from error
        keep_ca(node, ca_der)
        if node.line is not None:
            node.line.hand_on_ca(institution_id_of(fingerprint(ca_der)), ca_der)
            node.addresses.learn(node.line.fetch_addresses())
        peers = canonical.encode(DoorList(peers=doors_of(node)))
        return {"peers": peers.hex()}

    def make_key(self, body: Body) -> Body:
        """Make a person's key, or take the one that is there, and give it as `key.register` takes it.

        Raises:
            NotFoundError: the key is on a device already, out of this node's reach.
        """
        node = self.node
        try:
            spec = msgspec.convert(body["person"], PersonSpec)
            host = node.host(str(body["institution"]))
        except (KeyError, msgspec.ValidationError) as error:
            raise SettingsError(f"keys: {error}: send institution and person") from error
        with self._joining:
            institution = node.home.institution(host.slug)
            person = next((item for item in institution.people if item.label == spec.label), None)
            if person is None:
                person = self._add_person(host, institution, spec)
        message = possession_message(node.chain, host.id, public_key(bytes.fromhex(person.public_key)), None)
        signer = self._signer_of(host, person)
        return {
            "institution": host.slug,
            "label": person.label,
            "role": str(person.role),
            "public_key": person.public_key,
            "key_id": person.key_id,
            "held_by": str(person.held_by),
            "licence": person.licence or None,
            "possession": signer.sign(message).hex(),
            "possession_message": message.hex(),
            "valid_from": self.node.engine.head().time,
        }

    # --------------------------------------------------------------------------------------------------- helpers

    def _repair(self, host: Host) -> None:
        """Publish what an earlier start sealed and did not get to publish."""
        if next(iter(host.vault.records.with_status(RecordStatus.PREPARED)), None) is not None:
            self.node.jobs.start(host, "repair", lambda _: {"published": publish_prepared(host).landed})

    def _signer_of(self, host: Host, person: Person) -> Signer:
        if person.held_by == HeldBy.NODE:
            return host.keystore.load_signer(person_key_name(person.label))
        # a key that was made here for a device, and has not been handed over yet
        home = self.node.home
        return load_device_key(home.people / f"{host.slug}-{person.label}.key", home.passphrase(self.node.settings))

    def _add_person(self, host: Host, institution: Institution, spec: PersonSpec) -> Person:
        node = self.node
        person = make_person(
            node.home, host.slug, spec, keystore=host.keystore, passphrase=node.home.passphrase(node.settings)
        )
        store_institution(node.home, msgspec.structs.replace(institution, people=(*institution.people, person)))
        folder = node.home.clients if node.home.clients.is_dir() else node.home.people
        access = network.issue_access(host.vault, institution, person)
        network.store_access(folder / f"{host.slug}-{person.label}.toml", msgspec.structs.replace(access, url=self.url))
        if person.held_by == HeldBy.NODE:
            key = key_id_of(SuiteId.INTL, public_key(bytes.fromhex(person.public_key)))
            signer = host.keystore.load_signer(person_key_name(person.label))
            host.people = (*host.people, PersonKey(label=person.label, role=person.role, key_id=key, signer=signer))
        return person

    async def _open_door(self, host: Host) -> None:
        from yilian.node.peers import peer_app  # noqa: PLC0415 - peers import the node's types

        settings = self.node.settings.peer
        number = self.node.home.institution(host.slug).number
        listener = listen(settings.host, settings.base_port + number if settings.base_port else 0)
        context = self.node.trust.server_context(host.tls, self._on_failure(host))
        door = Door(peer_app(self.node, host), listener, tls=context)
        await door.open()
        self._doors[host.slug] = door
        host.peer_address = f"https://{settings.announce or settings.host}:{door.port}"

    def _on_failure(self, host: Host) -> Callable[[str], None]:
        def turned_away(reason: str) -> None:
            if reason in STRANGERS:
                self._edge.record(host, TLS_NON_MEMBER, reason)

        return turned_away

    def _announce(self) -> None:
        node = self.node
        file = NodeFile(
            pid=os.getpid(),
            url=self.url,
            token=self._token,
            chain=node.chain.hex(),
            doors={host.slug: host.peer_address for host in node.hosts.values() if host.peer_address},
        )
        network.publish_url(node.home, self.url)
        store_private(node.home.node_file, msgspec.json.format(msgspec.json.encode(file), indent=1))


def run_node(
    home: Home,
    settings: Settings,
    *,
    on_ready: Callable[[RunningNode], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run the node of a home until SIGTERM or SIGINT, or until `stop` is set; then stop it in order.

    `on_ready` is called once, on a thread of its own, when everything is open; what it raises stops the node.

    Raises:
        SettingsError: there is no such home.
        UnavailableError: a port is taken, or a disk fails.
        what `open_node` raises.
    """
    if not home.path.is_dir():
        raise SettingsError(
            f"there is no home {home.path}, expected one that was founded, joined or restored: name it with --home"
        )
    logs.configure(home.log_file, settings.log.level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(home, settings, on_ready, stop or threading.Event()))


async def _run(
    home: Home, settings: Settings, on_ready: Callable[[RunningNode], None] | None, stop: threading.Event
) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, asked.set)
    threading.Thread(target=_watch, args=(stop, loop, asked), name="stop", daemon=True).start()
    running = RunningNode(await asyncio.to_thread(open_node, home, settings), loop)
    try:
        await running.start()
        if on_ready is not None:
            calling = asyncio.ensure_future(asyncio.to_thread(on_ready, running))
            calling.add_done_callback(lambda done: asked.set() if done.exception() is not None else None)
            await asked.wait()
            if calling.done():
                calling.result()
        else:
            await asked.wait()
    finally:
        _LOG.info("stopping")
        await running.stop()
        stop.set()


def _watch(stop: threading.Event, loop: asyncio.AbstractEventLoop, asked: asyncio.Event) -> None:
    stop.wait()
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(asked.set)
