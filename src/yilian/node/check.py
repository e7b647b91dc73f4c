"""`yilian node check`: verify everything that a home holds, from the genesis on, without changing a byte of it.

The blocks are executed again in memory, from the newest snapshot on where old ones were pruned; every stored row, tile
and leaf is compared with what comes out. LMDB has no checksums and may kill whoever reads a damaged store, so
`statedump` reads it in a child process.
What does not hold becomes a `Finding`, never an error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import cbor2
import msgspec

from yilian import canonical
from yilian.crypto.blob import root_of_blob
from yilian.crypto.suite import sha256
from yilian.errors import YilianError
from yilian.ledger.block import Genesis
from yilian.ledger.log import TILE
from yilian.ledger.machine import Machine
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay
from yilian.ledger.results import Head
from yilian.ledger.tree import StateTree
from yilian.node.genesis import verify as verify_genesis
from yilian.node.scratch import begin_with_snapshot
from yilian.node.statedump import Dump, Part
from yilian.storage import keystore
from yilian.storage.disk import lock_folder
from yilian.storage.memory import MemoryState
from yilian.storage.segments import Damage, find_damage, read_base

RESTORE = "restore it from the backup or from another member"
_RECORD = struct.Struct(">IIQ")
MOST_FINDINGS = 1_000
"""About one store; one that is wrong from end to end needs no longer list."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not hold."""

    area: str
    """genesis, blocks, state, log, blob, keystore or vault."""
    place: str
    found: str
    action: str

    def __str__(self) -> str:
        return f"{self.area}: {self.place}: {self.found}: {self.action}"


class InstitutionPaths(msgspec.Struct, frozen=True, kw_only=True):
    """What of one institution is checked.

    `expected_blobs`: roots that must be there. `checks`: further checks, such as the vault's, each giving messages.
    """

    blobs: Path
    keys: Path
    expected_blobs: tuple[bytes, ...] = ()
    checks: tuple[Callable[[], Iterable[str]], ...] = ()


class Counts(msgspec.Struct, kw_only=True):
    """How much was checked."""

    blocks: int = 0
    operations: int = 0
    rows: int = 0
    blobs: int = 0
    keys: int = 0
    app_hash: str = ""
    """Of the chain as executed again, in hexadecimal."""


Progress = Callable[[str, int, int], None]
"""(what, so many done, of so many; 0: unknown)."""


ReadGenesis = Callable[[bytes], Genesis]
"""Reads the content of `genesis.cbor`; VerificationError where it does not hold."""


def read_signed_genesis(content: bytes) -> Genesis:
    """Read a genesis file and check that every founder signed it."""
    return verify_genesis(content).genesis


def no_progress(what: str, done: int, total: int) -> None:
    """Say nothing."""


def check_home(
    ledger: Path,
    institutions: Iterable[InstitutionPaths],
    registry: Registry,
    *,
    counts: Counts | None = None,
    progress: Progress = no_progress,
    read_genesis: ReadGenesis = read_signed_genesis,
) -> Iterator[Finding]:
    """Check a ledger's folder (genesis.cbor, state, segments) and what its institutions keep.

    Raises:
        ConflictError: a node is running on this home: stop it first.
    """
    counted = counts or Counts()
    yield from check_ledger(ledger, registry, counts=counted, progress=progress, read_genesis=read_genesis)
    for institution in institutions:
        yield from check_institution(institution, counts=counted, progress=progress)


def check_institution(
    paths: InstitutionPaths, *, counts: Counts | None = None, progress: Progress = no_progress
) -> Iterator[Finding]:
    """Check sealed records against their roots, keystore files against their digests, and run the further checks."""
    counted = counts or Counts()
    yield from _check_blobs(paths, counted, progress)
    with _findings("keystore", str(paths.keys)) as problems:
        for message in keystore.find_damage(paths.keys):
            problems.append(Finding(area="keystore", place=str(paths.keys), found=message, action=RESTORE))
        counted.keys += len(list(paths.keys.glob("*.key")))
    yield from problems
    for check in paths.checks:
        with _findings("vault", str(paths.keys.parent)) as problems:
            problems.extend(
                Finding(area="vault", place=str(paths.keys.parent), found=message, action=RESTORE)
                for message in check()
            )
        yield from problems


def check_ledger(
    folder: Path,
    registry: Registry,
    *,
    counts: Counts | None = None,
    progress: Progress = no_progress,
    read_genesis: ReadGenesis = read_signed_genesis,
) -> Iterator[Finding]:
    """Check genesis, blocks, state and log of one chain; ConflictError as `check_home`."""
    counted = counts or Counts()
    segments = folder / "segments"
    lock = lock_folder(segments) if segments.is_dir() else -1
    try:
        with Dump(folder / "state") as dump:
            chain: _Chain | None = None
            with _findings("genesis", str(folder / "genesis.cbor")) as problems:
                genesis = read_genesis((folder / "genesis.cbor").read_bytes())
                chain = _Chain(folder, genesis, registry, dump)
            yield from problems
            if chain is not None:
                yield from _check_chain(chain, counted, progress)
    finally:
        if lock >= 0:
            os.close(lock)


class _Chain:
    """One chain being executed again."""

    def __init__(self, folder: Path, genesis: Genesis, registry: Registry, dump: Dump) -> None:
        self.segments = folder / "segments"
        self.state_path = str(folder / "state")
        self.scratch = MemoryState()
        self.base = read_base(self.segments)
        window = begin_with_snapshot(folder / "snapshots", genesis, self.scratch) if self.base > 1 else None
        self.machine = Machine(self.scratch, registry, genesis)
        if window is not None:
            self.machine.restore_window(window)
        self.dump = dump
        self.stored: Head | None = None

    def finding(self, area: str, found: str, action: str = RESTORE) -> Finding:
        """Make a finding about the state store."""
        return Finding(area=area, place=self.state_path, found=found, action=action)


def _check_chain(chain: _Chain, counts: Counts, progress: Progress) -> Iterator[Finding]:
    try:
        chain.stored = canonical.decode(chain.dump.head(), Head)
    except YilianError as error:
        yield chain.finding("state", f"its head cannot be read ({error})")
    height = chain.stored.height if chain.stored is not None else None
    whole = True
    first_bad: int | None = None
    for damage in find_damage(chain.segments):
        if damage.is_torn_end and (height is None or damage.height > height):
            continue  # a crash may leave it: the node drops it when it starts
        whole = False
        first_bad = damage.height if first_bad is None else first_bad
        yield _block_finding(damage)
    for problem in _replay(chain, first_bad, counts, progress):
        whole = False
        yield problem
    counts.app_hash = chain.machine.head.app_hash.hex()
    if chain.stored is None:
        return
    if whole and chain.machine.head.height < chain.stored.height:
        whole = False
        yield Finding(
            area="blocks",
            place=str(chain.segments),
            found=f"they end at block {chain.machine.head.height}, the state is at {chain.stored.height}",
            action="fetch the missing blocks from another member or restore the backup",
        )
    try:
        if whole:
            yield from islice(_compare(chain, chain.stored, counts, progress), MOST_FINDINGS)
        else:
            yield from _own_root(chain, chain.stored)
    except YilianError as error:
        yield chain.finding("state", str(error))


def _replay(chain: _Chain, stop: int | None, counts: Counts, progress: Progress) -> Iterator[Finding]:
    """Execute blocks again up to the state's height, or to the first damaged one."""
    last = chain.stored.height if chain.stored is not None else None
    first = chain.machine.head.height + 1
    for height, (place, data) in enumerate(_blocks(chain.segments, chain.base), chain.base):
        if height == stop or (last is not None and height > last):
            return
        if height < first:
            continue  # the snapshot stands for it
        try:
            executed = replay(chain.machine, data)
        except (YilianError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            yield Finding(area="blocks", place=place, found=f"block {height} does not hold ({error})", action=RESTORE)
            return
        chain.machine.commit(executed)
        counts.blocks = height
        counts.operations = executed.head.log_size
        progress("blocks", height, last or 0)


def _blocks(folder: Path, base: int) -> Iterator[tuple[str, bytes]]:
    """Give (place, bytes) of the records in a folder of segments from a height on, up to the first incomplete one."""
    for path in sorted(folder.glob("*.seg")):
        with path.open("rb") as file:
            if 0 < int.from_bytes(file.read(_RECORD.size)[8:]) < base:
                continue
            file.seek(0)
            while True:
                offset = file.tell()
                header = file.read(_RECORD.size)
                if len(header) < _RECORD.size:
                    break
                length, _, _ = _RECORD.unpack(header)
                data = file.read(length)
                if len(data) < length:
                    return
                yield f"segment {path.name}, offset {offset}", data


def _compare(chain: _Chain, stored: Head, counts: Counts, progress: Progress) -> Iterator[Finding]:
    """Compare head, rows, tiles and leaves with those of the chain as executed again."""
    scratch = chain.scratch
    if canonical.encode(stored) != scratch.head():
        yield chain.finding(
            "state",
            f"its head says app_hash {stored.app_hash.hex()} at block {stored.height}, the blocks give "
            f"{chain.machine.head.app_hash.hex()} at {chain.machine.head.height}",
        )
    expected = dict(scratch.scan(b"\0" * 32, None))
    total = len(expected)
    tiles = [
        (level, index)
        for level in range(chain.machine.head.log_size.bit_length())
        for index in range(((chain.machine.head.log_size >> level) + TILE - 1) // TILE)
    ]
    for part, key, value in chain.dump.everything(chain.machine.head.height, tiles):
        if part == Part.ROW:
            counts.rows += 1
            wanted = expected.pop(key, None)
            if wanted is None:
                yield chain.finding("state", f"a row under key {key.hex()} that no block made")
            elif wanted != value:
                yield chain.finding("state", f"{_name(wanted)} differs from what the blocks give")
            if counts.rows % 1_000 == 0:
                progress("state", counts.rows, total)
        elif part == Part.TILE:
            level, index = cbor2.loads(key)
            if scratch.tile(level, index) != value:
                yield chain.finding("log", f"tile {index} of level {level} differs from what the blocks give")
        elif scratch.leaves(int.from_bytes(key)) != (value or None):
            yield chain.finding("log", f"the leaves of block {int.from_bytes(key)} differ from what the blocks give")
    for wanted in expected.values():
        yield chain.finding("state", f"{_name(wanted)} is missing")


def _own_root(chain: _Chain, stored: Head) -> Iterator[Finding]:
    """Compare the rows with the root in the store's own head: what can be said where blocks are missing."""
    rows = chain.dump.everything(0, [])
    pairs = sorted((key, sha256(value)) for part, key, value in rows if part == Part.ROW)
    root = StateTree.build(chain.machine.genesis.tree_depth, pairs).root
    if root != stored.state_root:
        yield chain.finding("state", f"its rows have root {root.hex()}, its head says {stored.state_root.hex()}")


def _name(row: bytes) -> str:
    natural_key, *rest = cbor2.loads(row)
    if natural_key.startswith(b"case/"):
        return f"the row of {rest[1]} {natural_key[5:].hex()}"
    return f"the row of register {natural_key.hex()}"


def _check_blobs(paths: InstitutionPaths, counts: Counts, progress: Progress) -> Iterator[Finding]:
    files = sorted(path for path in paths.blobs.glob("??/*") if len(path.name) == 62 and path.is_file())
    for number, path in enumerate(files, 1):
        name = path.parent.name + path.name
        with _findings("blob", str(path)) as problems:
            with path.open("rb") as file:
                root = root_of_blob(file)
            if root.hex() != name:
                found = f"its content has root {root.hex()}, its name says {name}"
                problems.append(Finding(area="blob", place=str(path), found=found, action=RESTORE))
        yield from problems
        counts.blobs += 1
        if number % 100 == 0 or number == len(files):
            progress("blobs", number, len(files))
    there = {path.parent.name + path.name for path in files}
    for expected in paths.expected_blobs:
        if expected.hex() not in there:
            found = f"blob {expected.hex()} is missing"
            yield Finding(area="blob", place=str(paths.blobs), found=found, action=RESTORE)


def _block_finding(damage: Damage) -> Finding:
    return Finding(
        area="blocks",
        place=f"segment {damage.segment}, offset {damage.offset}",
        found=f"{damage.found}, expected block {damage.height}",
        action="fetch the blocks from another member or restore the segment from the backup",
    )


@contextmanager
def _findings(area: str, place: str) -> Iterator[list[Finding]]:
    """Collect findings, and turn what is raised into one."""
    problems: list[Finding] = []
    try:
        yield problems
    except (YilianError, OSError, ValueError, TypeError, LookupError, EOFError) as error:
        problems.append(Finding(area=area, place=place, found=str(error) or type(error).__name__, action=RESTORE))
