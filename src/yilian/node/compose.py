"""Put a node together from its home: the only place that picks adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from yilian import canonical
from yilian.crypto.suite import SuiteId, key_id_of
from yilian.engine.embedded import EmbeddedEngine
from yilian.engine.follower import FollowerEngine
from yilian.engine.gateway import Gateway
from yilian.engine.port import Engine
from yilian.errors import ConflictError, NotFoundError, SettingsError
from yilian.ledger.block import Genesis, member_id
from yilian.ledger.members import HeldBy
from yilian.ledger.reads import CommittedReads
from yilian.ledger.registry import Registry
from yilian.ledger.results import Head
from yilian.ledger.sequencer import sequencer_of
from yilian.ledger.workflow import Reads
from yilian.node import home as homes
from yilian.node.addresses import Addresses
from yilian.node.genesis import Founding, load_founding
from yilian.node.home import Home, Institution
from yilian.node.host import Host, PersonKey
from yilian.node.jobs import Jobs
from yilian.node.pki import TrustStore
from yilian.node.sequencer_line import Identity, SequencerLine
from yilian.node.settings import Settings
from yilian.storage.anchors import AnchorStore
from yilian.storage.blobs import LocalBlobs
from yilian.storage.keystore import FileKeystore
from yilian.storage.lmdb import LmdbState
from yilian.storage.port import Index
from yilian.storage.segments import SegmentBlocks
from yilian.storage.sql import SqlIndex
from yilian.storage.vault import Vault
from yilian.values import Digest, InstitutionId, UnixMillis, public_key, unix_millis
from yilian.workflows.registry import WORKFLOWS


class Node:
    """An open node: ledger, read model, institutions, jobs. Doors, reactors and projections are run by `node.run`.

    `hosts` holds the institutions of this process by their short names; one that has asked to join is among them from
    its request on, but acts only once it is a member. `line` is None where one of them is the sequencer.
    """

    def __init__(
        self, *, home: Home, settings: Settings, founding: Founding, opened: OpenedEngine, index: SqlIndex
    ) -> None:
        self.home = home
        self.settings = settings
        self.founding = founding
        self.genesis: Genesis = founding.genesis
        self.chain: Digest = founding.genesis.chain
        self.engine: Engine = opened.engine
        self.line: SequencerLine | None = opened.line
        self.addresses: Addresses = opened.addresses
        self.stopping = threading.Event()
        """Set when the node begins to stop: what streams to others ends."""
        self.registry: Registry = registry_of(founding.genesis)
        self.index = index
        self.hosts: dict[str, Host] = {}
        self.jobs = Jobs()
        self.anchors = AnchorStore(home.ledger / "anchors.db")
        self.trust: TrustStore = opened.trust
        self.peers: Any = None
        """The client of other institutions' doors (`node.peers`), put in by `node.run`."""
        self.checkpoints: Any = None
        """Signed and witnessed checkpoints (`node.checkpoints`), put in by `node.run`."""
        self._stack = ExitStack()
        self._passphrase = b""

    def host(self, slug: str) -> Host:
        """Give an institution of this process; NotFoundError where there is none of this name."""
        found = self.hosts.get(slug)
        if found is None:
            raise NotFoundError(f"this node has no institution {slug}, it has {', '.join(self.hosts)}: name one")
        return found

    def host_of(self, institution: InstitutionId) -> Host | None:
        """Give the institution of this process that has this id, or None."""
        return next((host for host in self.hosts.values() if host.id == institution), None)

    def find_address(self, institution: InstitutionId) -> str:
        """Give where the door of another node's institution is, "" where nobody has said it."""
        return self.addresses.find(institution)

    def clock(self) -> UnixMillis:
        """Give the time of this machine; the ledger's own is the engine's block time."""
        return now()

    def add_host(self, institution: Institution) -> Host:
        """Open an institution of the home while the node runs; ConflictError where it is open already."""
        if institution.slug in self.hosts:
            raise ConflictError(f"institution {institution.slug} is open already: use it")
        keystore = self.home.keystore(institution.slug, self._passphrase)
        host = _open_host(self, institution, keystore)
        self.hosts[institution.slug] = host
        if self.line is not None:
            self.line.identities.append(Identity(institution=host.id, tls=host.tls))
        return host

    def close_hosts(self) -> None:
        """Close every institution."""
        for host in self.hosts.values():
            host.close()

    def close(self) -> None:
        """Stop the jobs, drain the ledger, close every store; what was acknowledged is durable already."""
        self._stack.close()


def open_node(home: Home, settings: Settings) -> Node:
    """Open everything in a home, in order, and lock it.

    Raises:
        NotFoundError: the home holds no network.
        ConflictError: a process has the home open.
        VerificationError: genesis, state, blocks or a keystore do not hold.
        SettingsError: the passphrase is missing or another.
    """
    with ExitStack() as stack:
        stack.enter_context(home.locked())
        founding = load_founding(home)
        passphrase = home.passphrase(settings)
        keystores = {item.slug: home.keystore(item.slug, passphrase) for item in home.institutions()}
        opened = _open_engine(home, settings, founding, keystores=keystores, stack=stack)
        index = SqlIndex.mended(home.index_file)
        stack.callback(index.close)
        node = Node(home=home, settings=settings, founding=founding, opened=opened, index=index)
        node._passphrase = passphrase  # noqa: SLF001 - the composition root fills what it makes
        stack.callback(node.anchors.close)
        stack.callback(node.close_hosts)
        stack.callback(node.jobs.close)
        for item in home.institutions():
            node.hosts[item.slug] = _open_host(node, item, keystores[item.slug])
        node._stack = stack.pop_all()  # noqa: SLF001 - as above
    return node


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """What a home's ledger holds, for reading: no lock is taken, its node may run in another process."""

    index: Index
    head: Head
    reads: Reads


@contextmanager
def read_ledger(home: Home) -> Iterator[Readings]:
    """Read a home's ledger and read model without opening its node.

    Raises:
        NotFoundError: the home holds no network, or its node never ran.
        ConflictError: this process runs its node.
    """
    with ExitStack() as stack:
        state = LmdbState.reading(home.state)
        stack.callback(state.close)
        index = SqlIndex(home.index_file)
        stack.callback(index.close)
        stored = state.head()
        if stored is None:
            raise NotFoundError(f"home {home.path} has no block yet: start its node once")
        reads = CommittedReads(state, registry_of(load_founding(home).genesis))
        yield Readings(index=index, head=canonical.decode(stored, Head), reads=reads)


def registry_of(genesis: Genesis) -> Registry:
    """Bind the workflows that a chain has enabled, in their order.

    Raises:
        SettingsError: the chain has one that this version does not know.
    """
    known = {item.name: item for item in WORKFLOWS}
    missing = [name for name in genesis.workflows if name not in known]
    if missing:
        raise SettingsError(f"the chain has workflows {missing} that this version lacks: install a newer yilian")
    return Registry([known[name] for name in genesis.workflows])


def now() -> UnixMillis:
    """Give the time of this machine in milliseconds."""
    return unix_millis(time.time_ns() // 1_000_000)


class OpenedEngine(msgspec.Struct, frozen=True, kw_only=True):
    """The engine of a home with what it was made of."""

    engine: Engine
    trust: TrustStore
    addresses: Addresses
    line: SequencerLine | None
    """The line to the sequencer, None where it is in this home."""


def _open_engine(
    home: Home, settings: Settings, founding: Founding, *, keystores: dict[str, FileKeystore], stack: ExitStack
) -> OpenedEngine:
    """Open the stores, and over them an engine that orders where this home has the sequencer, else one that follows."""
    state = LmdbState(home.state)
    stack.callback(state.close)
    stored = state.head()
    committed = 0 if stored is None else canonical.decode(stored, Head).height
    blocks = SegmentBlocks(home.segments, committed=committed)
    stack.callback(blocks.close)
    trust = TrustStore([*founding.cas, *home.stored_cas()])
    addresses = Addresses(home.peers_file)
    founder = member_id(founding.genesis.founders[0].member.ca_fingerprint)
    sequencer = founder if stored is None else sequencer_of(state)
    institution = next((item for item in home.institutions() if item.id == sequencer), None)
    registry = registry_of(founding.genesis)
    if institution is not None:
        embedded = EmbeddedEngine(
            genesis=founding.genesis,
            registry=registry,
            state=state,
            blocks=blocks,
            proposer=keystores[institution.slug].load_signer(homes.GATEWAY),
            proposer_id=institution.id,
            clock=now,
            second_core=settings.engine.second_core,
        )
        stack.callback(embedded.close)
        return OpenedEngine(engine=embedded, trust=trust, addresses=addresses, line=None)
    state.keep_lean()
    identities = [
        Identity(institution=item.id, tls=homes.ensure_leaf(home, item.slug, keystores[item.slug]))
        for item in home.institutions()
    ]
    line = SequencerLine(
        state,
        trust,
        addresses,
        identities=identities,
        fixed=settings.peer.sequencer,
        timeout_s=float(settings.peer.timeout_s),
    )
    stack.callback(line.release)
    follower = FollowerEngine(
        genesis=founding.genesis,
        registry=registry,
        state=state,
        blocks=blocks,
        source=line,
        second_core=settings.engine.second_core,
    )
    stack.callback(follower.close)
    return OpenedEngine(engine=follower, trust=trust, addresses=addresses, line=line)


def _open_host(node: Node, institution: Institution, keystore: FileKeystore) -> Host:
    home, slug = node.home, institution.slug
    folder = home.folder(slug)
    people = tuple(
        PersonKey(
            label=person.label,
            role=person.role,
            key_id=key_id_of(SuiteId.INTL, public_key(bytes.fromhex(person.public_key))),
            signer=keystore.load_signer(homes.person_key_name(person.label)),
        )
        for person in institution.people
        if person.held_by == HeldBy.NODE
    )
    return Host(
        slug=slug,
        name=institution.name,
        id=institution.id,
        kind=institution.kind,
        gateway=Gateway(
            node.engine, node.registry, institution.id, keystore.load_signer(homes.GATEWAY), clock=node.clock
        ),
        exchange=homes.exchange_pair(keystore),
        keystore=keystore,
        people=people,
        vault=Vault(folder / "vault.db", keystore.load(homes.VAULT)),
        blobs=LocalBlobs(folder / "blobs"),
        folder=folder,
        tls=homes.ensure_leaf(home, slug, keystore),
    )
