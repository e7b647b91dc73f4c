"""Open and verify sealed records: one's own, received copies, patients' summaries, files as received.

Nothing is given that was not proven: the key by `key_check`, every segment and the root, and for what stands in the
catalogue the commitment of the ledger. Source: spec/release.md, Sealed record and Commitment.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from yilian.crypto.commitment import Commitment, record_commitment
from yilian.crypto.intl import hpke_wrap
from yilian.crypto.seal import BlobReader, key_fits, new_data_key, new_salt, open_sealed, root_of_blob, seal, seal_bytes
from yilian.crypto.suite import sha256
from yilian.crypto.tags import subject_key_info
from yilian.errors import ConflictError, NotFoundError, UnavailableError, VerificationError
from yilian.storage.port import BlobWriter
from yilian.storage.vault.records import ReceivedFile, Record, RecordStatus, Summary
from yilian.values import Digest, EntryId, InstitutionId
from yilian.workflows.catalog.service import (
    Label,
    Ports,
    SealedRecord,
    candidate,
    check_labels,
    ledger_entry,
    publish_rows,
    row_of,
    take,
)

READ_SIZE = 1 << 20
SMALL_FILE, SMALL_FILES = 8 << 20, 256


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What holds of a record kept here: blob against root, key against header, bytes against commitment."""

    entry_id: EntryId
    state: str
    root: Digest
    commitment: Digest
    true_size: int


class WalletKey(msgspec.Struct, frozen=True, kw_only=True):
    """A subject key K(custodian, year), sealed to the patient's wallet: 32 bytes under HPKE."""

    custodian: InstitutionId
    year: int
    wrapped: bytes


def open_record(ports: Ports, entry_id: EntryId) -> bytes:
    """Open a record of one's own, and check its bytes against the vault's commitment.

    Raises:
        NotFoundError: no such record, or its blob is gone.
        ConflictError: it was erased.
        VerificationError: blob, key or bytes are not those that were published.
    """
    out = io.BytesIO()
    open_record_to(ports, entry_id, out)
    return out.getvalue()


def open_record_to(ports: Ports, entry_id: EntryId, out: BinaryIO) -> int:
    """Open a record of one's own in constant memory, and give its size; errors as `open_record`.

    Where one is raised, what `out` has got so far is to be thrown away.
    """
    return _open_row_to(ports, _own(ports, entry_id), out)


def open_row(ports: Ports, row: Record) -> bytes:
    """Open a record of one's own by its row in the vault; errors as `open_record`."""
    out = io.BytesIO()
    _open_row_to(ports, row, out)
    return out.getvalue()


def open_copy(ports: Ports, entry_id: EntryId, use_id: bytes | None = None) -> bytes:
    """Open a record that another institution delivered, and check it against the ledger's commitment.

    Without `use_id` any delivery of this entry serves.

    Raises:
        NotFoundError: it was not delivered here, or is erased.
        VerificationError: blob, key or bytes are not those that its custodian published.
    """
    releases = ports.vault.releases
    found = releases.copies_of_entry(entry_id)
    copy = next((item for item in found if use_id is None or item.use_id == use_id), None)
    if copy is None:
        raise NotFoundError(f"entry {entry_id.hex()} was not delivered here: fetch it under a grant")
    _, entry = ledger_entry(ports, entry_id)
    made = record_commitment(ports.gateway.engine.chain, entry.custodian, entry_id, copy.salt)
    out = io.BytesIO()
    with ports.blobs.open(entry.root) as blob:
        open_sealed(blob, copy.data_key, entry.root, _tee(out, made))
    _check_commitment(entry_id, made.digest(), entry.commitment)
    return out.getvalue()


def verify_record(ports: Ports, entry_id: EntryId) -> Verified:
    """Check a record of one's own whole: blob root, key check, every segment, and the ledger's commitment.

    Raises:
        NotFoundError: the vault, the store or the ledger has no such record.
        ConflictError: it was erased.
        VerificationError: names what differs.
    """
    row = _own(ports, entry_id)
    state, entry = ledger_entry(ports, entry_id)
    if entry.root != row.root:
        raise VerificationError(
            f"the vault has root {row.root.hex()}, the ledger {entry.root.hex()}: restore the vault from a backup"
        )
    with ports.blobs.open(row.root) as blob:
        found = root_of_blob(blob)
        if found != row.root:
            raise VerificationError(
                f"the blob has root {found.hex()}, the ledger says {row.root.hex()}: restore it from a backup"
            )
        blob.seek(0)
        if not key_fits(BlobReader(blob).header_bytes, row.data_key):
            raise VerificationError(f"the vault's key does not fit root {row.root.hex()}: restore the vault")
    size = open_record_to(ports, entry_id, cast("BinaryIO", _Nowhere()))
    _check_commitment(entry_id, row.commitment, entry.commitment)
    return Verified(entry_id=entry_id, state=state, root=row.root, commitment=entry.commitment, true_size=size)


def publish_file(ports: Ports, label: Label, source: BinaryIO) -> EntryId:
    """Seal and publish a record of any size from a file that can be read twice, in constant memory.

    Raises:
        ConflictError: the file changed while it was read.
        SettingsError, Refused, UnavailableError: as `publish_records`.
    """
    check_labels(ports, [label])
    sealed, seen = _seal_file(ports, source)
    while True:
        key, j, entry_id = candidate(ports, label.subject_ref)
        salt = new_salt()
        made = record_commitment(ports.gateway.engine.chain, ports.gateway.institution, entry_id, salt)
        if _read_again(source, made) != seen:
            raise ConflictError("the file changed while it was read: publish it again once it rests")
        row = row_of(label, sealed, key, j, entry_id=entry_id, salt=salt, commitment=made.digest())
        try:
            with ports.vault.transaction():
                take(ports, key, j)
                ports.vault.records.insert([row])
        except ConflictError:
            continue
        publish_rows(ports, [row])
        return entry_id


def keep_received(ports: Ports, paths: Sequence[Path]) -> list[tuple[ReceivedFile, bool]]:
    """Seal files as they were received into the vault, unpublished; gives each, and whether it was there before.

    Small files share a few waits for the disk; large ones take constant memory.

    Raises:
        ConflictError: a file changed while it was read.
        UnavailableError: the disk is full or failed, or a file cannot be read; its name may be a person's and is not
            repeated.
    """
    kept: list[tuple[ReceivedFile, bool]] = []
    try:
        for path, content in _contents(paths):
            if content is None:
                kept.append(_keep_large(ports, path))
            else:
                kept += _keep_small(ports, content)
    except OSError as error:
        raise UnavailableError(
            f"file {len(kept)} of {len(paths)} cannot be read ({error.strerror}): make it readable for the node"
        ) from None
    return kept


def mark_imported(ports: Ports, files: Sequence[ReceivedFile]) -> None:
    """Say of files that all of their records are published."""
    with ports.vault.transaction():
        for file in files:
            ports.vault.records.put_file(msgspec.structs.replace(file, is_imported=True))


def give_back(ports: Ports, digest: bytes, out: BinaryIO) -> int:
    """Write the bytes of a file exactly as they were received, and give their number.

    Raises:
        NotFoundError: no file with this digest was received here.
        VerificationError: the sealed file is damaged.
    """
    file = ports.vault.records.find_file(digest)
    if file is None:
        raise NotFoundError(f"no file with digest {digest.hex()} was received here: check the digest")
    hasher = hashlib.sha256()
    with ports.blobs.open(file.root) as blob:
        size = open_sealed(blob, file.data_key, file.root, _tee(out, hasher))
    if hasher.digest() != file.digest:
        raise VerificationError(f"the sealed file {file.root.hex()} is not what was received: restore the store")
    return size


class NewSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to no encounter of a patient; `level` is the true one, 1 to 5."""

    subject_ref: bytes
    payload: bytes
    level: int
    sensitivity: tuple[str, ...] = ()


def keep_summaries(ports: Ports, batch: Sequence[NewSummary]) -> int:
    """Seal what belongs to no encounter of patients, each in place of what was kept; gives how many changed."""
    changed = [item for item in batch if _differs(ports, item)]
    sealed = [seal_bytes(item.payload) for item in changed]
    ports.blobs.put_many((bytes(form.root), blob) for blob, form, _ in sealed)
    gone = []
    with ports.vault.transaction():
        for item, (_, form, data_key) in zip(changed, sealed, strict=True):
            known = ports.vault.records.find_summary(item.subject_ref)
            gone += [known.root] if known is not None else []
            summary = Summary(
                subject_ref=item.subject_ref,
                root=form.root,
                data_key=data_key,
                salt=new_salt(),
                true_size=len(item.payload),
                level=item.level,
                sensitivity=item.sensitivity,
            )
            ports.vault.records.put_summary(summary)
    for root in gone:
        ports.blobs.delete(root)
    return len(changed)


def open_summary(ports: Ports, subject_ref: bytes) -> bytes | None:
    """Open what belongs to no encounter of a patient; None where this institution is not the patient's home."""
    summary = ports.vault.records.find_summary(subject_ref)
    if summary is None:
        return None
    out = io.BytesIO()
    with ports.blobs.open(summary.root) as blob:
        open_sealed(blob, summary.data_key, summary.root, out)
    return out.getvalue()


def register_wallet(ports: Ports, subject_ref: bytes, public_key: bytes) -> list[WalletKey]:
    """Bind a patient's wallet (X25519 public key) to the registration, and seal all subject keys to it.

    Raises:
        NotFoundError: no such patient.
        VerificationError: no usable X25519 key.
    """
    with ports.vault.transaction():
        subject = ports.vault.subjects.get(subject_ref)
        wrapped = _wrap_keys(ports, subject_ref, public_key)
        ports.vault.subjects.put([msgspec.structs.replace(subject, wallet=public_key)])
    return wrapped


def _wrap_keys(ports: Ports, subject_ref: bytes, public_key: bytes) -> list[WalletKey]:
    chain, custodian = ports.gateway.engine.chain, ports.gateway.institution
    return [
        WalletKey(
            custodian=custodian,
            year=key.year,
            wrapped=hpke_wrap(public_key, key.key, subject_key_info(chain, custodian, key.year)),
        )
        for key in ports.vault.subjects.keys_of(subject_ref)
    ]


def _differs(ports: Ports, item: NewSummary) -> bool:
    known = ports.vault.records.find_summary(item.subject_ref)
    if known is None or (known.true_size, known.level) != (len(item.payload), item.level):
        return True
    return open_summary(ports, item.subject_ref) != item.payload


def _open_row_to(ports: Ports, row: Record, out: BinaryIO) -> int:
    made = record_commitment(ports.gateway.engine.chain, ports.gateway.institution, row.entry_id, row.salt)
    with ports.blobs.open(row.root) as blob:
        size = open_sealed(blob, row.data_key, row.root, _tee(out, made))
    _check_commitment(row.entry_id, made.digest(), row.commitment)
    return size


def _own(ports: Ports, entry_id: EntryId) -> Record:
    row = ports.vault.records.get(entry_id)
    if row.status == RecordStatus.ERASED:
        raise ConflictError(f"record {entry_id.hex()} was erased: nothing opens it any more")
    return row


def _check_commitment(entry_id: EntryId, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise VerificationError(
            f"the bytes of {entry_id.hex()} give commitment {found.hex()}, the ledger has {expected.hex()}: "
            "do not use them"
        )


def _contents(paths: Sequence[Path]) -> Iterator[tuple[Path, list[tuple[str, bytes]] | None]]:
    """Give lots of small files as (name, bytes), and each large file alone with None, in order."""
    lot: list[tuple[str, bytes]] = []
    for path in paths:
        if path.stat().st_size > SMALL_FILE:
            if lot:
                yield path, lot
                lot = []
            yield path, None
            continue
        lot.append((path.name, path.read_bytes()))
        if sum(len(content) for _, content in lot) > SMALL_FILE or len(lot) >= SMALL_FILES:
            yield path, lot
            lot = []
    if lot:
        yield paths[-1], lot


def _keep_small(ports: Ports, lot: Sequence[tuple[str, bytes]]) -> list[tuple[ReceivedFile, bool]]:
    kept: list[tuple[ReceivedFile, bool]] = []
    fresh: list[tuple[ReceivedFile, bytes]] = []
    for name, content in lot:
        seen = sha256(content)
        twin = next((file for file, _ in fresh if file.digest == seen), None)
        known = ports.vault.records.find_file(seen) or twin
        if known is not None:
            kept.append((known, True))
            continue
        blob, form, data_key = seal_bytes(content)
        file = _received(name, seen, SealedRecord(root=form.root, data_key=data_key, true_size=len(content)))
        fresh.append((file, blob))
        kept.append((file, False))
    ports.blobs.put_many((bytes(file.root), blob) for file, blob in fresh)
    with ports.vault.transaction():
        for file, _ in fresh:
            ports.vault.records.put_file(file)
    return kept


def _keep_large(ports: Ports, path: Path) -> tuple[ReceivedFile, bool]:
    with path.open("rb") as source:
        seen = _read_again(source, None)
        known = ports.vault.records.find_file(seen)
        if known is not None:
            return known, True
        sealed, again = _seal_file(ports, source)
    if again != seen:
        raise ConflictError("the file changed while it was read: import it again once it rests")
    file = _received(path.name, seen, sealed)
    ports.vault.records.put_file(file)
    return file, False


def _received(name: str, seen: bytes, sealed: SealedRecord) -> ReceivedFile:
    return ReceivedFile(
        digest=seen,
        root=sealed.root,
        data_key=sealed.data_key,
        true_size=sealed.true_size,
        name=name,
        is_imported=False,
    )


def _seal_file(ports: Ports, source: BinaryIO) -> tuple[SealedRecord, bytes]:
    """Seal a file from its start into the store, and give what came of it and the digest of the bytes seen."""
    length = source.seek(0, io.SEEK_END)
    source.seek(0)
    hasher = hashlib.sha256()
    data_key = new_data_key()
    with ports.blobs.writer(f"own-{secrets.token_hex(16)}") as writer:
        try:
            sealed = seal(_pieces(source, hasher), length, cast("BinaryIO", _Appending(writer)), data_key)
            writer.commit(sealed.root)
        except BaseException:
            writer.discard()
            raise
    return SealedRecord(root=sealed.root, data_key=data_key, true_size=length), hasher.digest()


def _pieces(source: BinaryIO, hasher: hashlib._Hash) -> Iterator[bytes]:
    while piece := source.read(READ_SIZE):
        hasher.update(piece)
        yield piece


def _read_again(source: BinaryIO, commitment: Commitment | None) -> bytes:
    source.seek(0)
    hasher = hashlib.sha256()
    for piece in _pieces(source, hasher):
        if commitment is not None:
            commitment.update(piece)
    return hasher.digest()


def _tee(out: BinaryIO, seen: Commitment | hashlib._Hash) -> BinaryIO:
    return cast("BinaryIO", _Tee(out, seen))


class _Tee(io.RawIOBase):
    """Writes on, and lets a hash see what passes."""

    def __init__(self, out: BinaryIO, seen: Commitment | hashlib._Hash) -> None:
        super().__init__()
        self._out = out
        self._seen = seen

    def write(self, data: bytes) -> int:  # type: ignore[override]  # `seal` writes bytes alone
        self._seen.update(data)
        return self._out.write(data)


class _Nowhere(io.RawIOBase):
    """Takes bytes and keeps none."""

    def write(self, data: bytes) -> int:  # type: ignore[override]  # `seal` writes bytes alone
        return len(data)


class _Appending(io.RawIOBase):
    """Lets `seal` write into a blob that arrives in pieces."""

    def __init__(self, writer: BlobWriter) -> None:
        super().__init__()
        self._writer = writer

    def write(self, data: bytes) -> int:  # type: ignore[override]  # `seal` writes bytes alone
        self._writer.append(data)
        return len(data)
