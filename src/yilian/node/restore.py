"""Restore a home from a backup: everything is recomputed in a folder of another name before the home has its own.

A restored home has a file `restored`: a sequencer that was restored signs nothing before it has asked its followers for
newer blocks (`node.resume`), or before the operator says that there are none.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from yilian import canonical
from yilian.crypto import cose
from yilian.crypto.suite import SuiteId
from yilian.engine.tuning import anonymous_memory
from yilian.errors import ConflictError, SettingsError, VerificationError
from yilian.ledger.checkpoint import Checkpoint
from yilian.ledger.members import Key, Role
from yilian.ledger.results import Head
from yilian.ledger.snapshot import Restoration, check_head
from yilian.ledger.state import decode_case, key_hash
from yilian.node.backup import BLOBS, SNAPSHOT, TAG, BackupManifest, BlobList, SignedManifest
from yilian.node.check import Counts, Finding, check_institution
from yilian.node.checking import check_all, institution_paths
from yilian.node.genesis import load_founding
from yilian.node.home import Home
from yilian.node.settings import Settings, load
from yilian.node.stores import NewStores
from yilian.storage.container import MANIFEST, Part, PartDigest, read_container
from yilian.storage.disk import FILE_MODE, Disk, disk_errors
from yilian.storage.snapshots import Snapshot
from yilian.values import case_id

RESTORED_FILE = "restored"
_RESTORING = ".restoring-"
_LISTED = 5

Progress = Callable[[str, int], None]
"""(what, so many done)."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored. `gone`: sealed records that were erased while the backup was made; `blobs`: those restored."""

    home: str
    height: int
    operations: int
    app_hash: str
    parts: int
    blobs: int
    gone: int
    vaults: int
    """Vaults that were opened and read as a whole; needs the passphrase of the keystores beside the new home."""


def restore_backup(
    file: Path, home: Home, passphrase: bytes, *, thorough: bool = False, progress: Progress = lambda _what, _done: None
) -> Restored:
    """Make a home from a backup, or nothing.

    1. The container opens, every part of it, and its manifest lists exactly these parts.
    2. The genesis is signed by its founders.
    3. The ledger's snapshot: every chunk, state root, log root, parameters root, app hash, the chain of blocks.
    4. The manifest is signed by a gateway key which that ledger registers, and names that head.
    5. Key files have their digests, sealed records their roots; vaults open and read, where the passphrase of the
       keystores lies beside the new home; what a vault counts on is there.
    6. `thorough`: every block that is carried is executed again, as `node check` does.

    Args:
        file: of the backup.
        home: where nothing is yet.
        passphrase: of the backup.
        thorough: as above.
        progress: told what is being done.

    Raises:
        ConflictError: the home exists.
        NotFoundError: there is no such backup.
        SettingsError: another passphrase.
        VerificationError: what does not hold, by name; no home is made.
        UnavailableError: the disk is full or failed.
    """
    if home.path.exists():
        raise ConflictError(f"{home.path} exists already, expected a new home: name another, or move it away")
    with disk_errors(f"home {home.path}"):
        Disk().make_folder(home.path.parent)
        for left in home.path.parent.glob(f"{home.path.name}{_RESTORING}*"):
            shutil.rmtree(left)
        folder = home.path.with_name(f"{home.path.name}{_RESTORING}{secrets.token_hex(8)}")
        Disk().make_folder(folder)
    try:
        place = _Place(folder, home)
        signed = _extract(file, passphrase, folder, progress)
        head = _restore_ledger(place, signed, progress)
        restored = _check(place, signed, head, thorough=thorough, progress=progress)
        with disk_errors(f"home {home.path}"):
            Disk().store(folder / RESTORED_FILE, f"{head.height} {head.app_hash.hex()}\n".encode())
            # one wait for all files of all sizes: thousands of sealed records would each need one of their own
            os.sync()
            Disk().rename(folder, home.path)
            Disk().sync_folder(home.path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return restored


class _Place(Home):
    """The home while it is restored: another folder, the passphrase beside the final one."""

    def __init__(self, folder: Path, final: Home) -> None:
        super().__init__(folder)
        self.final = final

    def passphrase(self, settings: Settings, *, make: bool = False) -> bytes:
        """Read the passphrase that lies beside the final home."""
        return self.final.passphrase(settings, make=make)


class _Signed(msgspec.Struct, frozen=True, kw_only=True):
    manifest: BackupManifest
    signature: cose.Sign1


def _extract(file: Path, passphrase: bytes, folder: Path, progress: Progress) -> _Signed:
    """Write every part under the folder, and compare them with the manifest. 1."""
    found: list[PartDigest] = []
    signed: SignedManifest | None = None
    made: set[Path] = set()
    for part in read_container(file, passphrase):
        if part.name == MANIFEST:
            signed = canonical.decode(part.content(), SignedManifest)
            continue
        found.append(_write(part, folder / part.name, made))
        progress("parts", len(found))
    if signed is None:
        raise VerificationError(f"{file} has no manifest: it was cut, take another copy")
    manifest = canonical.decode(signed.manifest, BackupManifest)
    if tuple(found) != manifest.parts or signed.count != len(found):
        wrong = next((one.name for one, two in zip(found, manifest.parts, strict=False) if one != two), "their number")
        raise VerificationError(f"the parts of {file} are not those of its manifest ({wrong}): refuse the backup")
    return _Signed(manifest=manifest, signature=signed.signature)


def _write(part: Part, path: Path, made: set[Path]) -> PartDigest:
    with disk_errors(f"file {path}"):
        if path.parent not in made:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.add(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as out:
            return part.copy(out)


def _restore_ledger(place: _Place, signed: _Signed, progress: Progress) -> Head:
    """Verify the genesis and the snapshot, and fill the stores. 2, 3, 4."""
    founding = load_founding(place)
    manifest = signed.manifest
    snapshot = Snapshot(place.path / SNAPSHOT)
    check_head(snapshot.manifest, checkpoint_of(manifest))
    with NewStores(place.ledger, first_block=snapshot.manifest.first_block) as stores:
        restoration = Restoration(
            snapshot.manifest,
            founding.genesis,
            snapshot.chunk,
            stores,
            allocate=anonymous_memory,
            progress=lambda done, _total: progress("chunks", done),
        )
        head = restoration.run()
        if head != manifest.head:
            raise VerificationError("the backup's manifest names another head than its snapshot: refuse the backup")
        _check_signature(stores.get, signed)
        stores.finish(head)
    shutil.rmtree(place.path / SNAPSHOT)
    return head


def checkpoint_of(manifest: BackupManifest) -> Checkpoint:
    """Give the checkpoint that a backup's manifest stands for."""
    return manifest.head.checkpoint(manifest.chain)


def _check_signature(get: Callable[[bytes], bytes | None], signed: _Signed) -> None:
    manifest = signed.manifest
    row = get(key_hash(b"case/" + case_id(manifest.key_id)))
    found = None if row is None else decode_case(row, {"key": Key})
    key = None if found is None else found[1].fields
    if not isinstance(key, Key) or key.owner != manifest.institution or key.role != Role.NODE:
        raise VerificationError(
            f"the backup names {manifest.key_id.hex()} as gateway key of {manifest.institution.hex()}, its ledger does "
            "not: refuse the backup"
        )
    if signed.signature.payload != manifest.digest or not cose.verify1(
        signed.signature, TAG, SuiteId(key.suite), key.public_key
    ):
        raise VerificationError(
            f"the backup's manifest is not signed by gateway key {manifest.key_id.hex()}: refuse the backup"
        )


def _check(place: _Place, signed: _Signed, head: Head, *, thorough: bool, progress: Progress) -> Restored:
    """Check what the institutions keep. 5, 6."""
    manifest = signed.manifest
    lists = canonical.decode((place.path / BLOBS).read_bytes(), tuple[BlobList, ...])
    (place.path / BLOBS).unlink()
    gone = {bytes(root) for one in lists for root in one.gone}
    settings = load(place.settings_file)
    try:
        secret: bytes | None = place.passphrase(settings)
    except SettingsError:
        secret = None

    def expected(roots: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(root for root in roots if root not in gone) if manifest.with_blobs else ()

    def tell(what: str, done: int, _total: int) -> None:
        progress(what, done)

    counts = Counts()
    findings: list[Finding] = []
    if thorough:
        if secret is None:
            raise SettingsError(
                f"{place.final.path}.passphrase is absent, a thorough check opens the vaults: put the passphrase of "
                "the keystores there"
            )
        findings += check_all(place, settings, counts, tell, expected=expected)
    for institution in () if thorough else place.institutions():
        place.ca_der(institution.slug)
        paths = institution_paths(place, institution, secret, expected=expected)
        findings += check_institution(paths, counts=counts, progress=tell)
    if findings:
        shown = "; ".join(str(finding) for finding in findings[:_LISTED])
        raise VerificationError(f"{len(findings)} parts of the backup do not hold, expected none: {shown}")
    return Restored(
        home=str(place.final.path),
        height=head.height,
        operations=head.log_size,
        app_hash=head.app_hash.hex(),
        parts=len(manifest.parts),
        blobs=counts.blobs,
        gone=len(gone),
        vaults=len(place.institutions()) if secret is not None else 0,
    )
