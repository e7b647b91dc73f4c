"""The stores of one institution over a chain, wired as a node has them, small enough to be opened for every fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import msgspec

from bench.world import LEVEL, MONTH, World, drawn
from tests.fault.faults import Faults, FaultyDisk
from tests.fault.system_calls import LMDB, SQLITE, failing
from yilian import canonical
from yilian.crypto.seal import seal_bytes
from yilian.crypto.suite import sha256
from yilian.ledger import envelope
from yilian.ledger.block import Genesis
from yilian.ledger.results import Head
from yilian.node.check import InstitutionPaths, check_home
from yilian.node.projections import Projector
from yilian.storage.blobs import LocalBlobs
from yilian.storage.disk import Disk
from yilian.storage.keystore import FileKeystore
from yilian.storage.lmdb import LmdbState
from yilian.storage.rows import CaseQuery, EntryQuery
from yilian.storage.segments import SegmentBlocks
from yilian.storage.snapshots import Snapshots
from yilian.storage.sql import SqlIndex
from yilian.storage.vault import Vault
from yilian.storage.vault.records import Record, RecordStatus
from yilian.values import DAY, HOUR, Digest

KEY = b"\x07" * 32
TREE_DEPTH = 8
SEGMENT_BYTES = 1_500
"""Two blocks or three fit: some commits begin a segment."""
MAP_SIZE = 1 << 22
OLD_BLOCKS = 3
"""So many blocks are days older than the rest."""
WAIT_S = 30.0


class Stand:
    """An open institution with its chain; a context manager."""

    def __init__(self, home: Path, world: World, disk: Disk | None = None) -> None:
        self.world = world
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.state = LmdbState(home / "ledger" / "state", map_size=MAP_SIZE)
            stack.callback(self.state.close)
            stored = self.state.head()
            committed = 0 if stored is None else canonical.decode(stored, Head).height
            self.blocks = SegmentBlocks(
                home / "ledger" / "segments", segment_bytes=SEGMENT_BYTES, committed=committed, disk=disk
            )
            stack.callback(self.blocks.close)
            self.engine = world.engine(self.state, self.blocks, clock=self._time)
            stack.callback(self.engine.close)
            self.registry = world.registry
            self.index = SqlIndex(home / "index.db")
            stack.callback(self.index.close)
            self.blobs = LocalBlobs(home / "hospital" / "blobs", disk=disk)
            self.vault = Vault(home / "hospital" / "vault.db", KEY)
            stack.callback(self.vault.close)
            self.snapshots = Snapshots(home / "ledger" / "snapshots", disk=disk)
            self.projector = Projector(self)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every store."""
        self._stack.close()

    def publish(self, number: int) -> int:
        """Publish the number-th record as the catalogue's service does, and give its leaf; safe to repeat.

        Raises:
            YilianError: it may be on the ledger or not.
        """
        case, command = self.world.publish(number)
        record = self.vault.records.find(case)
        if record is None:
            blob, sealed, key = seal_bytes(b"record %d" % number)
            self.blobs.put_many([(sealed.root, blob)])
            record = prepared(self.world, number, sealed.root, key)
            self.vault.records.insert([record])
        core = self.world.core(
            "catalog.publish",
            case,
            msgspec.structs.replace(command, root=record.root),
            op=drawn(b"op", number)[:16],
        )
        transaction = self.world.transaction([envelope.encode_operation(core)], valid_until=self._time() + HOUR)
        (answer,) = self.engine.submit(transaction).result(WAIT_S).answers
        assert answer.ok, answer
        self.vault.records.put([msgspec.structs.replace(record, status=RecordStatus.PUBLISHED)])
        return int(answer.leaf)

    def _time(self) -> int:
        # only what is older than the memory of operation ids may be pruned
        return self.world.start + 1 + (3 * DAY if self.blocks.last_height() >= OLD_BLOCKS else 0)

    def follow(self) -> None:
        """Take what is on the ledger over into the read model."""
        assert self.projector.catch_up() == self.engine.head().height

    def prune(self) -> None:
        """Take a snapshot, and keep one block that is older than the memory of operation ids, no older ones.

        Raises:
            YilianError: there may be a new snapshot or not, and older blocks or not.
        """
        self.snapshots.take(self.state, self.blocks, self.engine.chain)
        self.blocks.prune_below(OLD_BLOCKS)

    def snapshot_height(self) -> int:
        """Give the height of the newest snapshot, all of whose chunks hold; 0 where there is none."""
        newest = self.snapshots.newest()
        if newest is None:
            return 0
        for number, chunk in enumerate(newest.manifest.chunks):
            assert sha256(newest.chunk(number)) == chunk.digest
        return int(newest.manifest.head.height)

    def missing(self, numbers: Iterable[int]) -> list[str]:
        """Name what is not there of the records with these numbers: entry, key, blob, event of the read model."""
        found = []
        for number in numbers:
            case, _ = self.world.publish(number)
            entry = self.engine.find_case(case)
            record = self.vault.records.find(case)
            if entry is None:
                found.append(f"entry {number}")
            elif record is None or entry[1].fields.root != record.root:
                found.append(f"key of {number}")
            elif not self.blobs.exists(record.root):
                found.append(f"blob of {number}")
            elif not self.index.events_of_case(case).items:
                found.append(f"event of {number}")
        return found


def found(home: Path, world: World) -> None:
    """Begin a home with its genesis and no block."""
    (home / "ledger").mkdir(parents=True)
    (home / "ledger" / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
    FileKeystore(home / "hospital" / "keys", b"passphrase").create_signer("gateway")


def read_world(home: Path) -> World:
    """Give the world of a home that was founded."""
    return World(TREE_DEPTH, canonical.decode((home / "ledger" / "genesis.cbor").read_bytes(), Genesis))


def problems(home: Path, world: World) -> list[str]:
    """Check a closed home as `yilian node check` does, the vault too."""
    hospital = InstitutionPaths(
        blobs=home / "hospital" / "blobs",
        keys=home / "hospital" / "keys",
        checks=(lambda: Vault.check(home / "hospital" / "vault.db", KEY),),
    )
    return [
        str(each)
        for each in check_home(home / "ledger", [hospital], world.registry, read_genesis=lambda _: world.genesis)
    ]


def prepared(world: World, number: int, root: Digest, key: bytes) -> Record:
    """Make the vault's row of a record that is sealed and not published."""
    case, command = world.publish(number)
    return Record(
        entry_id=case, root=root, data_key=key, salt=drawn(b"salt", number), level=LEVEL, true_size=9,
        subject_ref=drawn(b"subject", number), year=2026, j=0, source=drawn(b"source", number),
        encounter=f"encounter-{number}", canonical=drawn(b"canonical", number), kind=command.kind, month=MONTH,
        status=RecordStatus.PREPARED,
    )  # fmt: skip


def keep(vault: Vault, world: World, number: int) -> Iterator[RecordStatus]:
    """Write a record's row and change it, each durably; gives each status that it has reached."""
    record = prepared(world, number, drawn(b"root", number), KEY)
    if vault.records.find(record.entry_id) is None:
        vault.records.insert([record])
        yield RecordStatus.PREPARED
    vault.records.put([msgspec.structs.replace(record, status=RecordStatus.PUBLISHED)])
    yield RecordStatus.PUBLISHED


LIBRARIES = {"state": LMDB, "index.db": SQLITE}
"""Stores of a stand whose file operations a library does."""


@contextmanager
def faulty(home: Path, world: World, faults: Faults) -> Iterator[Stand]:
    """Open a home so that the operations of one of its stores go through `faults`."""
    with ExitStack() as stack:
        if library := LIBRARIES.get(faults.store):
            stack.enter_context(failing(library, faults))
        yield stack.enter_context(Stand(home, world, FaultyDisk(faults)))


def contents(index: SqlIndex) -> list[object]:
    """Give all that a small read model says."""
    return [
        index.height(),
        index.events_between(1, 1 << 40, limit=200).items,
        sorted(index.find_cases(CaseQuery(limit=200)).items, key=lambda case: case.case_id),
        index.find_entries(EntryQuery(limit=200)).items,
        index.tally(),
    ]


def rebuilt(stand: Stand, file: Path) -> list[object]:
    """Build a read model in a file from the first block on, and give what it says."""
    fresh = SqlIndex(file)
    try:
        Projector(SimpleNamespace(engine=stand.engine, registry=stand.registry, index=fresh)).catch_up()
        return contents(fresh)
    finally:
        fresh.close()


def act(home: Path, faults: Faults, number: int) -> Iterator[str]:
    """Open a home, and write so that the operations of one store go through `faults`; gives what is durable."""
    world = read_world(home)
    if faults.store == "vault.db":
        with failing(SQLITE, faults), closing(Vault(home / "hospital" / "vault.db", KEY)) as vault, faults.armed():
            yield from keep(vault, world, number)
        return
    with faulty(home, world, faults) as stand, faults.armed():
        if faults.store == "index.db":
            stand.follow()
        elif number:
            yield str(stand.publish(number))
            stand.follow()
        else:
            stand.prune()
