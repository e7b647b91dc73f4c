"""Read FHIR bundles from a file, a folder or an archive, one bundle in memory at a time.

`.json`, `.json.gz`, `.tar`, `.tar.gz`, `.tar.xz` and folders of these; archives are read as a stream, in order.
Whatever cannot be read is reported as a `BrokenInput` and harms nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from yilian.errors import NotFoundError
from yilian.values import Digest, digest

JSON_ENDINGS = (".json", ".json.gz")
ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
BUNDLE_TYPES = frozenset({"transaction", "collection"})

_BOM = b"\xef\xbb\xbf"
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a single input may unpack to; beyond it the input is refused, not read."""

    bundle_bytes: int = 64 << 20
    archive_bytes: int = 16 << 30


class BrokenInput(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was skipped, and where and why. No word of a patient's content stands in it.

    `file` is the name as found and `position` its number within the input: print the position where a file's name may
    name a person. `entry` is −1 where the file as a whole is meant. `element` is a FHIR element path.
    """

    file: str
    position: int
    entry: int
    element: str
    reason: str


class ReceivedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle as received: `raw` are its JSON bytes (unpacked), `entries` slices of them, never re-written."""

    name: str
    position: int
    raw: bytes
    sha256: Digest
    entries: tuple[msgspec.Raw, ...]


class BrokenElementError(ValueError):
    """An element is not as FHIR says; turned into a `BrokenInput` at the file's edge."""

    def __init__(self, entry: int, element: str, reason: str) -> None:
        super().__init__(f"entry {entry}, {element}: {reason}")
        self.entry, self.element, self.reason = entry, element, reason

    @classmethod
    def from_decoding(cls, entry: int, prefix: str, error: Exception) -> BrokenElementError:
        """Take path and reason from a decoding error of msgspec, which names types and never values."""
        if not isinstance(error, msgspec.DecodeError):
            reason = "nested too deep" if isinstance(error, RecursionError) else "text is not UTF-8"
            return cls(entry, prefix, f"{reason}: send valid FHIR JSON")
        reason, _, path = str(error).partition(" - at `$")
        return cls(entry, prefix + path.rstrip("`"), f"{reason}: send valid FHIR JSON")

    def in_file(self, name: str, position: int) -> BrokenInput:
        """Say the same of a file."""
        return BrokenInput(file=name, position=position, entry=self.entry, element=self.element, reason=self.reason)


class _Bundle(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name
    type: str | None = None
    entry: list[msgspec.Raw] = []


_BUNDLE = msgspec.json.Decoder(_Bundle)


def read_bundles(path: Path, limits: Limits | None = None) -> Iterator[ReceivedBundle | BrokenInput]:
    """Give each bundle of a file, a folder (recursively, sorted) or an archive (as a stream, in its order).

    Other files of a folder or archive are passed over. One bundle is held at a time.

    Raises:
        NotFoundError: nothing lies at `path`.
    """
    if not path.exists():
        raise NotFoundError(f"nothing lies at {path}: name a FHIR file, a folder or an archive")
    limits = limits or Limits()
    for position, (name, read) in enumerate(_files(path, limits)):
        if isinstance(read, str):
            yield BrokenInput(file=name, position=position, entry=-1, element="", reason=read)
            continue
        yield parse_bundle(name, read, position=position)


def parse_bundle(name: str, raw: bytes, *, position: int = 0) -> ReceivedBundle | BrokenInput:
    """Find the entries of one transaction or collection bundle without reading them."""
    try:
        entries = _entries(raw)
    except BrokenElementError as broken:
        return broken.in_file(name, position)
    found = digest(hashlib.sha256(raw).digest())
    return ReceivedBundle(name=name, position=position, raw=raw, sha256=found, entries=entries)


def _entries(raw: bytes) -> tuple[msgspec.Raw, ...]:
    try:
        bundle = _BUNDLE.decode(raw.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenElementError.from_decoding(-1, "Bundle", error) from None
    if bundle.resourceType != "Bundle":
        raise BrokenElementError(-1, "resourceType", "not a Bundle: send a transaction or a collection")
    if bundle.type not in BUNDLE_TYPES:
        raise BrokenElementError(-1, "Bundle.type", "another type of Bundle: send a transaction or a collection")
    return tuple(bundle.entry)


def _files(path: Path, limits: Limits) -> Iterator[tuple[str, bytes | str]]:
    """Give (name, content or the reason why there is none)."""
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            for name, read in _file(file, limits):
                yield f"{file.parent.relative_to(path).as_posix()}/{name}".removeprefix("./"), read
        return
    known = path.name.lower().endswith(JSON_ENDINGS + ARCHIVE_ENDINGS)
    if not known:
        yield path.name, f"none of {', '.join(JSON_ENDINGS + ARCHIVE_ENDINGS)}: name it so or pack it so"
        return
    yield from _file(path, limits)


def _file(path: Path, limits: Limits) -> Iterator[tuple[str, bytes | str]]:
    lower = path.name.lower()
    if lower.endswith(ARCHIVE_ENDINGS):
        yield from _members(path, limits)
    elif lower.endswith(JSON_ENDINGS):
        try:
            with path.open("rb") as stream:
                read = _content(stream, lower, limits)
        except _UNREADABLE as error:
            read = _why(error)
        yield path.name, read


def _members(path: Path, limits: Limits) -> Iterator[tuple[str, bytes | str]]:
    unpacked = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                # A stream never goes back: forget what was read, so that memory stays level.
                archive.members = []  # type: ignore[attr-defined] # documented nowhere, there since Python 2
                unpacked += member.size
                if unpacked > limits.archive_bytes:
                    yield path.name, f"unpacks to more than {limits.archive_bytes} bytes: split the archive"
                    return
                lower = member.name.lower()
                if not member.isfile() or not lower.endswith(JSON_ENDINGS):
                    continue
                yield f"{path.name}/{member.name}", _member(archive, member, lower, limits)
    except _UNREADABLE as error:
        yield path.name, _why(error)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, lower: str, limits: Limits) -> bytes | str:
    if member.size > limits.bundle_bytes:
        return f"has {member.size} bytes, at most {limits.bundle_bytes} are read: split the bundle"
    stream = archive.extractfile(member)
    if stream is None:
        return "is no plain file: pack the file itself"
    if not lower.endswith(".gz"):
        return _content(stream, lower, limits)
    try:
        return _content(stream, lower, limits)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return _why(error)


def _content(stream: IO[bytes], lower: str, limits: Limits) -> bytes | str:
    if lower.endswith(".gz"):
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            raw = unpacked.read(limits.bundle_bytes + 1)
    else:
        raw = stream.read(limits.bundle_bytes + 1)
    if len(raw) > limits.bundle_bytes:
        return f"unpacks to more than {limits.bundle_bytes} bytes: split the bundle"
    return raw


def _why(error: Exception) -> str:
    return f"cannot be read ({type(error).__name__}): copy the file again"
