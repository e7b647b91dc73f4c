r"""Backup files: named parts of any size in one encrypted container, written and read in constant memory.

    file = "YLNBAK1\n" ‖ framed(key) ‖ part … ‖ part "manifest"
    part = framed(head) ‖ 8-byte length ‖ blob
    framed(x) = 4-byte big-endian length ‖ x

`key` holds 32 random bytes under the passphrase (`crypto.keyfile`, Argon2id). A head is [number, name, size] under a
key derived of them, bound to its number; a blob is a sealed record (`crypto.seal`, STREAM over AES-256-GCM) under a key
of its own. The part named `manifest` is the last: a file without it was cut.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.crypto.keyfile import (
    KEY_SIZE,
    open_with_key,
    open_with_passphrase,
    seal_with_key,
    seal_with_passphrase,
)
from yilian.crypto.seal import open_checked, seal
from yilian.crypto.suite import derive_key, framed
from yilian.errors import NotFoundError, SettingsError, UnavailableError, VerificationError
from yilian.storage.disk import TEMPORARY, Disk, disk_errors
from yilian.values import Digest, Natural, digest

MAGIC: Final = b"YLNBAK1\n"
MANIFEST: Final = "manifest"
MAX_HEAD: Final = 4096
_AAD: Final = b"yilian/backup/v1"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,7}\Z")
_FRAME, _LENGTH = 4, 8
_PIECE = 1 << 20


class PartHead(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What stands before a part."""

    number: Natural
    name: Annotated[str, Meta(max_length=512)]
    size: Natural
    """Bytes of its content."""


class PartDigest(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A part as the manifest lists it."""

    name: Annotated[str, Meta(max_length=512)]
    size: Natural
    digest: Digest
    """SHA-256 of its content."""


class ContainerWriter:
    """Writes a container beside its final name; `finish` makes it durable and gives it that name.

    A context manager: what was not finished is removed.
    """

    def __init__(self, path: Path, passphrase: bytes) -> None:
        """Begin.

        Raises:
            SettingsError: the passphrase is empty.
            UnavailableError: the folder is absent, or the disk failed.
        """
        if not passphrase:
            raise SettingsError("the passphrase of the backup is empty, expected at least one byte: write one")
        self._path = path
        self._temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
        self._key = secrets.token_bytes(KEY_SIZE)
        self.parts: list[PartDigest] = []
        with disk_errors(f"backup {path}"):
            self._file = os.fdopen(Disk().create(self._temporary), "w+b")
            self._file.write(MAGIC)
            self._frame(seal_with_passphrase(passphrase, self._key, _AAD))

    def __enter__(self) -> ContainerWriter:  # noqa: PYI034 - final in use
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, name: str, source: BinaryIO, size: int) -> None:
        """Add a part of `size` bytes from where the source stands.

        Raises:
            ConflictError: the source has another size: it changed meanwhile.
            ValueError: the name is none of a part.
        """
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of a part")
        number = len(self.parts)
        hashing = _Hashing(source)
        with disk_errors(f"backup {self._path}"):
            head = canonical.encode(PartHead(number=number, name=name, size=size))
            self._frame(seal_with_key(_head_key(self._key), head, _head_aad(number)))
            at = self._file.tell()
            self._file.write(bytes(_LENGTH))
            sealed = seal(hashing.pieces(), size, self._file, _part_key(self._key, number))
            end = self._file.tell()
            self._file.seek(at)
            self._file.write(sealed.blob_size.to_bytes(_LENGTH, "big"))
            self._file.seek(end)
        self.parts.append(PartDigest(name=name, size=size, digest=hashing.digest))

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a part from memory."""
        self.add(name, io.BytesIO(content), len(content))

    def finish(self, manifest: bytes) -> int:
        """Add the manifest, make the file durable, and give its size in bytes."""
        self.add_bytes(MANIFEST, manifest)
        with disk_errors(f"backup {self._path}"):
            self._file.flush()
            size = self._file.tell()
            Disk().sync(self._file.fileno())
            self._file.close()
            Disk().rename(self._temporary, self._path)
            Disk().sync_folder(self._path.parent)
        return size

    def _frame(self, content: bytes) -> None:
        self._file.write(len(content).to_bytes(_FRAME, "big") + content)


class Part:
    """A part being read; `copy` its content before the next one is asked for."""

    def __init__(self, head: PartHead, blob: _Slice, key: bytes, place: str) -> None:
        self.name, self.size = head.name, head.size
        self._blob, self._key, self._place = blob, key, place

    def copy(self, out: BinaryIO) -> PartDigest:
        """Decrypt it into a file, and give what it was; VerificationError, naming the part, where it does not hold."""
        writing = _Writing(out)
        try:
            length = open_checked(self._blob, self._key, b"", writing)  # type: ignore[arg-type]  # has read
        except VerificationError as error:
            raise VerificationError(f"{self._place} ({self.name}) does not hold: {error}") from error
        if length != self.size:
            raise VerificationError(f"{self._place} ({self.name}) has {length} bytes, its head says {self.size}")
        return PartDigest(name=self.name, size=length, digest=writing.digest)

    def content(self) -> bytes:
        """Decrypt it into memory; errors as `copy`."""
        out = io.BytesIO()
        self.copy(out)
        return out.getvalue()


def read_container(path: Path, passphrase: bytes) -> Iterator[Part]:
    """Read the parts of a container in order; the last is named `manifest`.

    Raises:
        NotFoundError: there is no such file.
        SettingsError: the passphrase is another, or the key's bytes are damaged.
        VerificationError: no container, damaged or cut; names the part.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no backup {path}: check the name") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}, expected a readable file: repair it") from error
    with file, disk_errors(f"backup {path}"):
        key = _open_key(file, path, passphrase)
        number, name = 0, ""
        while name != MANIFEST:
            place = f"part {number} of {path.name}, offset {file.tell()}"
            head = _read_head(file, key, number, place)
            length = int.from_bytes(_exactly(file, _LENGTH, place), "big")
            blob = _Slice(file, length)
            yield Part(head, blob, _part_key(key, number), place)
            blob.check_read(place)
            number, name = number + 1, head.name
        if file.read(1):
            raise VerificationError(f"bytes follow the manifest of {path.name}: take another copy of the backup")


def _open_key(file: BinaryIO, path: Path, passphrase: bytes) -> bytes:
    if file.read(len(MAGIC)) != MAGIC:
        raise VerificationError(f"{path} does not begin as a backup: name a .yilian-backup file")
    sealed = _framed(file, f"the key of {path.name}")
    try:
        return open_with_passphrase(passphrase, sealed, _AAD)
    except VerificationError as error:
        raise SettingsError(
            f"the passphrase does not open the key of {path.name}: give the one it was made with; where it is right, "
            "the file's first bytes are damaged: take another copy"
        ) from error


def _read_head(file: BinaryIO, key: bytes, number: int, place: str) -> PartHead:
    sealed = _framed(file, place)
    try:
        head = canonical.decode(open_with_key(_head_key(key), sealed, _head_aad(number)), PartHead)
    except VerificationError as error:
        raise VerificationError(f"the head of {place} does not hold: take another copy of the backup") from error
    if head.number != number or not _NAME.match(head.name):
        raise VerificationError(f"the head of {place} names {head.name!r} as part {head.number}: refuse the backup")
    return head


def _framed(file: BinaryIO, place: str) -> bytes:
    length = int.from_bytes(_exactly(file, _FRAME, place), "big")
    if length > MAX_HEAD:
        raise VerificationError(f"{place} announces a head of {length} bytes, at most {MAX_HEAD}: take another copy")
    return _exactly(file, length, place)


def _exactly(file: BinaryIO, size: int, place: str) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise VerificationError(f"the file ends at {place}, before its manifest: it was cut, take another copy")
    return content


class _Slice:
    """A stretch of a file."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        content = self._file.read(wanted)
        self._left -= len(content)
        return content

    def check_read(self, place: str) -> None:
        if self._left:
            raise VerificationError(f"{place} has {self._left} bytes that were not read: copy each part in turn")


class _Hashing:
    """Hashes what is read of a source."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._hash = source, sha256()

    def pieces(self) -> Iterator[bytes]:
        while piece := self._source.read(_PIECE):
            self._hash.update(piece)
            yield piece

    @property
    def digest(self) -> Digest:
        return digest(self._hash.digest())


class _Writing(io.RawIOBase):
    """Hashes what is written to a file."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out, self._hash = out, sha256()

    def write(self, content: bytes, /) -> int:  # type: ignore[override]  # takes what `seal` gives
        self._hash.update(content)
        return self._out.write(content)

    @property
    def digest(self) -> Digest:
        return digest(self._hash.digest())


def _head_key(key: bytes) -> bytes:
    return derive_key(key, framed("yilian/backup-heads/v1"))


def _part_key(key: bytes, number: int) -> bytes:
    return derive_key(key, framed("yilian/backup-part/v1", number.to_bytes(8, "big")))


def _head_aad(number: int) -> bytes:
    return _AAD + number.to_bytes(8, "big")
