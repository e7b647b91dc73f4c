"""Make a backup of a home, while its node runs or not: one encrypted file that holds all that cannot be made again.

The order decides what a restored home may lack. What names something is copied before the thing that it names, since
the node makes them durable the other way round (vault row and sealed record first, then the operation that publishes
them; key first, then the file that lists it, then its registration on the ledger):

    1. stores beside the ledger (`ledger/*.db`): what was signed about blocks never names a block that the copy lacks
    2. the ledger, as a snapshot of one height: whatever it names in a vault was durable before that block
    3. settings, genesis, institutions: they list keys
    4. vaults and other databases, each as one consistent copy (SQLite's online backup)
    5. keys
    6. sealed records: all that a copied vault counts on was there before its row

So a restored vault may know of more than the restored ledger (operations after its height, which followers have), never
of less. A record that was erased between 4 and 6 is listed as gone, so that its absence is no damage.
The read model is left out: it is made again from the blocks.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.suite import Signer, tagged_hash
from yilian.engine.chain import ChainKeeper
from yilian.engine.port import Engine
from yilian.errors import SettingsError, UnavailableError, VerificationError
from yilian.ledger.results import Head
from yilian.node import home as homes
from yilian.node.checking import expected_blobs
from yilian.node.compose import Node
from yilian.node.genesis import load_founding
from yilian.node.home import Home
from yilian.node.host import Host
from yilian.node.settings import Settings
from yilian.storage.container import ContainerWriter, PartDigest
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks
from yilian.storage.snapshots import Freezable, KeptBlocks, Snapshots
from yilian.values import Digest, InstitutionId, KeyId, Natural, UnixMillis, digest

FORMAT: Final = 1
SUFFIX = ".yilian-backup"
TAG: Final = b"yilian/backup-manifest/v1"
SNAPSHOT = "snapshot"
"""Folder of the parts that are the ledger's snapshot."""
BLOBS = "blobs.cbor"
"""Part that lists the sealed records."""
LEAST_PASSPHRASE = 12
_STAGING = ".staging-"
_PROGRESS_EVERY = 64
_SKIPPED_FILES = frozenset({"node.json", "node.log", "lock", "index.db", "restored"})
_SKIPPED_ENDINGS = (".tmp", "-wal", "-shm", "-journal")
_LEDGER = frozenset({"state", "segments", "snapshots"})

Report = Callable[[Mapping[str, int | float | str]], None]


class BlobList(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The sealed records of one institution. `gone`: its vault copy counts on them, they were erased meanwhile."""

    slug: str
    roots: tuple[Digest, ...]
    gone: tuple[Digest, ...]


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What a backup holds, signed by the gateway key of the institution whose officer asked for it."""

    version: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    chain: Digest
    head: Head
    time: UnixMillis
    institution: InstitutionId
    key_id: KeyId
    with_blobs: bool
    parts: tuple[PartDigest, ...]

    @property
    def digest(self) -> Digest:
        """What is signed."""
        return tagged_hash("yilian/backup-manifest/v1", canonical.encode(self))


class SignedManifest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """The content of the last part. The signature's payload is the manifest's digest."""

    manifest: bytes
    signature: cose.Sign1
    count: Natural
    """Parts before this one."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is made from; the node may run."""

    home: Home
    state: Freezable
    blocks: KeptBlocks
    chain: Digest
    institution: InstitutionId
    signer: Signer
    vault_keys: Mapping[str, bytes]
    """By short name."""
    now: UnixMillis


def sources_of(node: Node, host: Host) -> Sources:
    """Give what a backup of a running node is made from, signed by one of its institutions."""
    state, blocks = ledger_stores(node.engine)
    return Sources(
        home=node.home,
        state=state,
        blocks=blocks,
        chain=node.chain,
        institution=host.id,
        signer=host.keystore.load_signer(homes.GATEWAY),
        vault_keys={one.slug: one.keystore.load(homes.VAULT) for one in node.hosts.values()},
        now=node.clock(),
    )


def ledger_stores(engine: Engine) -> tuple[LmdbState, SegmentBlocks]:
    """Give the stores of an engine on disk, to be read as a whole; SettingsError where it keeps them elsewhere."""
    if isinstance(engine, ChainKeeper):
        state, blocks = engine.state, engine.blocks
        if isinstance(state, LmdbState) and isinstance(blocks, SegmentBlocks):
            return state, blocks
    raise SettingsError(f"{type(engine).__name__} keeps its ledger elsewhere: back it up there")


@contextmanager
def closed_sources(home: Home, settings: Settings, slug: str, now: UnixMillis) -> Iterator[Sources]:
    """Open a home that no node runs on for a backup, signed by one of its institutions, "" = the first.

    Raises:
        ConflictError: its node runs.
        NotFoundError: the home holds no network, or no institution of this name.
    """
    with ExitStack() as stack:
        stack.enter_context(home.locked())
        founding = load_founding(home)
        passphrase = home.passphrase(settings)
        institutions = home.institutions()
        institution = home.institution(slug or institutions[0].slug)
        keystores = {item.slug: home.keystore(item.slug, passphrase) for item in institutions}
        state = LmdbState(home.state)
        stack.callback(state.close)
        stored = state.head()
        committed = 0 if stored is None else canonical.decode(stored, Head).height
        blocks = SegmentBlocks(home.segments, committed=committed)
        stack.callback(blocks.close)
        yield Sources(
            home=home,
            state=state,
            blocks=blocks,
            chain=founding.genesis.chain,
            institution=institution.id,
            signer=keystores[institution.slug].load_signer(homes.GATEWAY),
            vault_keys={name: keystore.load(homes.VAULT) for name, keystore in keystores.items()},
            now=now,
        )


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made."""

    file: Path
    size: int
    height: int
    app_hash: str
    operations: int
    parts: int
    blobs: int

    def figures(self) -> dict[str, int | str]:
        """Give what a job or a command says of it; the file without the folders above it."""
        return msgspec.structs.asdict(self) | {"file": self.file.name}


def backup_file(home: Home, settings: Settings, name: str) -> Path:
    """Give where a backup of this name goes: into the folder that the operator configured, never elsewhere.

    Raises:
        SettingsError: no folder is configured, it is absent or lies in the home, or the name is no name of a file.
    """
    if not settings.backup.folder:
        raise SettingsError("no folder for backups is set, expected backup.folder: let the operator set it and restart")
    folder = Path(settings.backup.folder).resolve()
    if not folder.is_dir() or folder.is_relative_to(home.path.resolve()):
        raise SettingsError("backup.folder is absent or lies in the home, expected a folder outside: set another")
    if Path(name).name != name or not name.endswith(SUFFIX):
        raise SettingsError(f"{name!r} is no name of a backup: give one that ends in {SUFFIX}, without folders")
    return folder / name


def make_backup(
    sources: Sources, file: Path, passphrase: bytes, *, with_blobs: bool = True, report: Report = lambda _: None
) -> Made:
    """Write a backup; it has its name only once all of it is durable.

    Args:
        sources: of a running or a stopped node.
        file: to write; its folder exists and has room for the ledger twice.
        passphrase: at least 12 bytes; without it the backup is worth nothing.
        with_blobs: copy the sealed records, and not only the list of them.
        report: told how many parts and bytes are written.

    Raises:
        SettingsError: the passphrase is too short, or the file exists.
        UnavailableError: the disk is full or failed.
        VerificationError: a vault or a database is damaged.
    """
    if len(passphrase) < LEAST_PASSPHRASE:
        raise SettingsError(
            f"the passphrase has {len(passphrase)} bytes, expected at least {LEAST_PASSPHRASE}: write a longer one"
        )
    if file.exists():
        raise SettingsError(f"{file} exists already, expected a new name: a backup is never written over")
    staging = file.parent / f"{_STAGING}{secrets.token_hex(8)}"
    with disk_errors(f"backup {file}"):
        Disk().make_folder(staging)
    try:
        with ContainerWriter(file, passphrase) as out:
            return _Backup(sources, out, staging, report).run(file, with_blobs=with_blobs)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class _Backup:
    def __init__(self, sources: Sources, out: ContainerWriter, staging: Path, report: Report) -> None:
        self._sources, self._out, self._staging, self._report = sources, out, staging, report
        self._home = sources.home.path
        self._bytes = 0

    def run(self, file: Path, *, with_blobs: bool) -> Made:
        # 1.
        for path in sorted((self._home / "ledger").glob("*.db")):
            self._add_database(path)
        # 2.
        head = self._add_ledger()
        files = list(_files(self._home))
        keys = [path for path in files if path.parent.name == "keys"]
        databases = [path for path in files if path.suffix == ".db"]
        # 3.
        for path in files:
            if path not in keys and path not in databases:
                self._add_file(path)
        # 4.
        expected = {path.parent.name: self._add_vault(path) for path in databases if path.name == "vault.db"}
        for path in databases:
            if path.name != "vault.db" and path.parent != self._home / "ledger":
                self._add_database(path)
        # 5.
        for path in keys:
            self._add_file(path)
        # 6.
        blobs = self._add_blobs(expected, with_blobs=with_blobs)
        size = self._finish(head, with_blobs=with_blobs)
        return Made(
            file=file,
            size=size,
            height=head.height,
            app_hash=head.app_hash.hex(),
            operations=head.log_size,
            parts=len(self._out.parts),
            blobs=blobs,
        )

    def _add_ledger(self) -> Head:
        sources = self._sources
        snapshot = Snapshots(self._staging / SNAPSHOT).take(sources.state, sources.blocks, sources.chain)
        for path in sorted(snapshot.path.iterdir()):
            self._add(f"{SNAPSHOT}/{path.name}", path)
        shutil.rmtree(snapshot.path)
        return snapshot.manifest.head

    def _add_vault(self, path: Path) -> tuple[bytes, ...]:
        """Copy a vault, and give the sealed records that the copy counts on."""
        copy = self._copy_database(path)
        key = self._sources.vault_keys.get(path.parent.name)
        try:
            self._add(_name(self._home, path), copy)
            return expected_blobs(copy, key) if key is not None else ()
        finally:
            copy.unlink()

    def _add_database(self, path: Path) -> None:
        copy = self._copy_database(path)
        self._add(_name(self._home, path), copy)
        copy.unlink()

    def _copy_database(self, path: Path) -> Path:
        copy = self._staging / f"{secrets.token_hex(8)}.db"
        try:
            with closing(sqlite3.connect(path, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE").close()
        except sqlite3.DatabaseError as error:
            raise VerificationError(f"database {path} does not copy ({error}): run `yilian node check`") from error
        return copy

    def _add_blobs(self, expected: Mapping[str, tuple[bytes, ...]], *, with_blobs: bool) -> int:
        lists = []
        for slug, wanted in sorted(expected.items()):
            folder = self._home / "institutions" / slug / "blobs"
            roots = []
            for path in sorted(path for path in folder.glob("??/*") if len(path.name) == 62):
                try:
                    if with_blobs:
                        self._add_file(path)
                except UnavailableError:
                    if path.exists():
                        raise
                    continue  # erased meanwhile
                roots.append(bytes.fromhex(path.parent.name + path.name))
            gone = sorted(set(wanted) - set(roots))
            lists.append(BlobList(slug=slug, roots=_digests(roots), gone=_digests(gone)))
        self._out.add_bytes(BLOBS, canonical.encode(lists))
        return sum(len(one.roots) for one in lists)

    def _add_file(self, path: Path) -> None:
        self._add(_name(self._home, path), path)

    def _add(self, name: str, path: Path) -> None:
        with disk_errors(f"file {path}"), path.open("rb") as file:
            size = path.stat().st_size
            self._out.add(name, file, size)
        self._bytes += size
        if len(self._out.parts) % _PROGRESS_EVERY == 1:
            self._report({"done": len(self._out.parts), "bytes": self._bytes})

    def _finish(self, head: Head, *, with_blobs: bool) -> int:
        sources = self._sources
        manifest = BackupManifest(
            version=FORMAT,
            chain=sources.chain,
            head=head,
            time=sources.now,
            institution=sources.institution,
            key_id=sources.signer.key_id,
            with_blobs=with_blobs,
            parts=tuple(self._out.parts),
        )
        signed = SignedManifest(
            manifest=canonical.encode(manifest),
            signature=cose.sign1(manifest.digest, TAG, sources.signer),
            count=len(manifest.parts),
        )
        return self._out.finish(canonical.encode(signed))


def _files(home: Path) -> Iterator[Path]:
    """Give every file of a home that belongs into a backup, but for the ledger's stores and the sealed records."""
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home).parts
        if not path.is_file() or path.is_symlink() or path.name in _SKIPPED_FILES:
            continue
        if path.name.endswith(_SKIPPED_ENDINGS) or any(part.startswith(".") for part in inside):
            continue
        if inside[0] == "ledger" and inside[1] in _LEDGER:
            continue
        if inside[0] == "institutions" and len(inside) > 3 and inside[2] == "blobs":
            continue
        yield path


def _digests(roots: Iterable[bytes]) -> tuple[Digest, ...]:
    return tuple(digest(root) for root in roots)


def _name(home: Path, path: Path) -> str:
    return path.relative_to(home).as_posix()
