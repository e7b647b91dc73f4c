"""Ciphertext from a custodian: each segment checked on arrival against the ledger's root, resumed where it was cut.

Records of one segment are fetched together, whole; of a longer one the leaf hashes come first, so that a wrong segment
is seen before the next is asked for. Memory stays at a few segments.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

from yilian.crypto import blob as blobs
from yilian.crypto.blob import LENGTH_SIZE, MAX_HEADER, SEGMENT_SIZE, TAG_SIZE, SegmentChecker
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.ledger.cases import Found
from yilian.storage.port import Blobs, BlobWriter
from yilian.values import CaseId, Digest
from yilian.workflows.catalog.interface import Entry
from yilian.workflows.consent.ports import Peers

Progress = Callable[[int], None]
"""Told the bytes that have arrived since it was told last."""

ONE_SEGMENT = SEGMENT_SIZE.bit_length() - 1
"""Greatest size class of a record that one segment holds."""
MOST_TOGETHER = 32
"""Blobs asked for in one request."""
FRAME = 8
"""Bytes of the length before each blob file of such an answer."""
_SMALL = LENGTH_SIZE + MAX_HEADER + SEGMENT_SIZE + 1024 * TAG_SIZE
_BATCH = 8 << 20
_ATTEMPTS = 3
"""Tries without a single new segment before a transfer is given up."""


def fetch_ciphertext(
    store: Blobs, peers: Peers, entries: tuple[Found[Entry], ...], basis: CaseId, *, progress: Progress
) -> None:
    """Make the ciphertext of entries of one custodian durable here; what is whole here already is not fetched again.

    Raises:
        UnavailableError: the line was cut too often; asking again goes on at the segment that is missing.
        VerificationError: other bytes than the ledger names; nothing of them is kept.
        NotFoundError: the custodian has no such blob.
    """
    fetch_missing(store, peers, missing(store, entries), basis, progress=progress)


def missing(store: Blobs, entries: Sequence[Found[Entry]]) -> list[Found[Entry]]:
    """Give the entries whose ciphertext is not whole here."""
    return [entry for entry in entries if not is_whole(store, entry.fields.root)]


def short_of(entries: Sequence[Found[Entry]]) -> list[Found[Entry]]:
    """Give those of the entries whose ciphertext may come in one answer, 32 at most."""
    return [entry for entry in entries if entry.fields.size_class <= ONE_SEGMENT][:MOST_TOGETHER]


def fetch_missing(
    store: Blobs, peers: Peers, entries: Sequence[Found[Entry]], basis: CaseId, *, progress: Progress
) -> None:
    """Make ciphertext durable here that is not whole here; errors as `fetch_ciphertext`."""
    short = [entry for entry in entries if entry.fields.size_class <= ONE_SEGMENT]
    without_progress = 0
    while short:
        before = len(short)
        try:
            _fetch_short(store, peers, short, basis, progress=progress)
        except UnavailableError:
            without_progress = 0 if len(short) < before else without_progress + 1
            if without_progress == _ATTEMPTS:
                raise
    for entry in entries:
        if entry.fields.size_class > ONE_SEGMENT:
            _fetch_long(store, peers, entry, basis, progress=progress)


def is_whole(store: Blobs, root: Digest) -> bool:
    """Say whether a blob is here with exactly the bytes that its root names; reads the whole of it."""
    try:
        with store.open(root) as blob:
            return blobs.root_of_blob(blob) == root
    except (NotFoundError, VerificationError):
        return False


def _fetch_short(store: Blobs, peers: Peers, wanted: list[Found[Entry]], basis: CaseId, *, progress: Progress) -> None:
    """Fetch records of one segment together, and take what is durable here off the list."""
    asked = wanted[:MOST_TOGETHER]
    with peers.blobs(asked[0].fields.custodian, tuple(entry.fields.root for entry in asked), basis) as pieces:
        keep_files(store, Reader(pieces), wanted, progress=progress)
    if asked[-1] in wanted:
        raise UnavailableError(f"{len(asked)} blobs were asked for and fewer came: ask again")


def keep_files(store: Blobs, reader: Reader, wanted: list[Found[Entry]], *, progress: Progress) -> None:
    """Check and keep the blob files of a stream, which come in the order of `wanted`; what is durable leaves that list.

    Raises:
        VerificationError: other bytes than the ledger names; what came before is kept.
    """
    arrived: list[tuple[bytes, bytes]] = []
    size = 0
    try:
        for entry in tuple(wanted[:MOST_TOGETHER]):
            content = _take_checked(reader, entry.fields.root)
            if content is None:
                break
            arrived.append((entry.fields.root, content))
            progress(len(content))
            size += len(content)
            if size >= _BATCH:
                _keep(store, arrived, wanted)
                size = 0
        else:
            if not reader.is_at_end():  # read to its end, the line can be used again
                raise VerificationError(
                    "more bytes came than the blobs asked for: ask the custodian to repair its node"
                )
    finally:
        _keep(store, arrived, wanted)


def _keep(store: Blobs, arrived: list[tuple[bytes, bytes]], wanted: list[Found[Entry]]) -> None:
    if arrived:
        if len(arrived) == 1:
            store.put(*arrived[0])
        else:
            store.put_many(arrived)
        del wanted[: len(arrived)]
        arrived.clear()


class Reader:
    """Cuts a stream of pieces into parts of exact size with one copy."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, size: int, seen: Callable[[memoryview], None] = lambda _: None) -> bytes | None:
        """Give the next bytes, None where the stream ends before they are whole; `seen` is shown each piece of them."""
        parts: list[memoryview] = []
        missing = size
        while missing:
            if not self._fill():
                return None
            part = self._rest[:missing]
            parts.append(part)
            seen(part)
            self._rest = self._rest[len(part) :]
            missing -= len(part)
        return b"".join(parts)

    def take_framed(self, most: int, seen: Callable[[memoryview], None] = lambda _: None) -> bytes | None:
        """Give what follows its length, None where the stream ends before; VerificationError where it is longer."""
        frame = self.take(FRAME)
        length = int.from_bytes(frame or b"", "big")
        if length > most:
            raise VerificationError(f"{length} bytes came, expected {most} at most: refuse them")
        return None if frame is None else self.take(length, seen)

    def is_at_end(self) -> bool:
        """Say whether nothing more comes."""
        return not self._fill()

    def _fill(self) -> bool:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._rest = memoryview(piece)
        return True


def _take_checked(reader: Reader, root: Digest) -> bytes | None:
    """Give the next blob file, hashed while the rest of it comes; None where the stream ends before it is whole."""
    hasher = blobs.RootHasher()
    content = reader.take_framed(_SMALL, hasher.update)
    if content is None:
        return None
    found = hasher.root()
    if found != root:
        raise VerificationError(
            f"blob {root.hex()} came with root {found.hex()}: the custodian's store changed it, ask it to put it right"
        )
    return content


def _fetch_long(store: Blobs, peers: Peers, entry: Found[Entry], basis: CaseId, *, progress: Progress) -> None:
    fields = entry.fields
    checker = read_leaves(peers.leaves(fields.custodian, fields.root, basis), fields.root, fields.size_class)
    with store.writer(fields.root.hex()) as writer:
        done = _keep_whole_segments(writer, checker)
        without_progress = 0
        while done < checker.segments:
            before = done
            try:
                with peers.blob(fields.custodian, fields.root, basis, start=writer.length) as pieces:
                    for segment in _segments(pieces, checker, done):
                        checker.check(done, segment)
                        writer.append(segment)
                        progress(len(segment))
                        done += 1
                if done < checker.segments:
                    raise UnavailableError(f"the blob ended at segment {done} of {checker.segments}: ask again")
            except UnavailableError:
                without_progress = 0 if done > before else without_progress + 1
                if without_progress == _ATTEMPTS:
                    raise
        writer.commit(fields.root)


def read_leaves(answer: bytes, root: Digest, size_class: int) -> SegmentChecker:
    """Parse what `Peers.leaves` gives, and check it against the root.

    Raises:
        VerificationError: malformed, of another root, or larger than the ledger's size class.
    """
    header = blobs.read_header(io.BytesIO(answer))
    hashes = answer[LENGTH_SIZE + len(header) :]
    if len(hashes) % 32:
        raise VerificationError(f"leaf hashes of root {root.hex()} have {len(hashes)} bytes, expected 32 each: ask")
    checker = SegmentChecker(header, [hashes[at : at + 32] for at in range(0, len(hashes), 32)], root)
    if blobs.size_class(checker.header.padded_size) != size_class:
        raise VerificationError(
            f"root {root.hex()} is a blob of {checker.header.padded_size} bytes, the ledger says class {size_class}: "
            "dispute the entry"
        )
    return checker


def _keep_whole_segments(writer: BlobWriter, checker: SegmentChecker) -> int:
    """Check what an earlier attempt left, drop what is torn or wrong, and give the number of segments kept."""
    prefix = blobs.blob_prefix(checker.header_bytes)
    kept = 0
    with writer.read() as file:
        whole = file.read(len(prefix)) == prefix
        while whole and kept < checker.segments:
            segment = file.read(checker.header.cipher_size(kept))
            try:
                checker.check(kept, segment)
            except VerificationError:
                break
            kept += 1
    if not whole:
        writer.truncate(0)
        writer.append(prefix)
        return 0
    writer.truncate(checker.offset(kept) if kept < checker.segments else _end(checker))
    return kept


def _end(checker: SegmentChecker) -> int:
    last = checker.segments - 1
    return checker.offset(last) + checker.header.cipher_size(last)


def _segments(pieces: Iterator[bytes], checker: SegmentChecker, first: int) -> Iterator[bytes]:
    """Cut a stream into the ciphertext segments from `first` on; what is cut off at its end is dropped."""
    reader = Reader(pieces)
    for index in range(first, checker.segments):
        segment = reader.take(checker.header.cipher_size(index))
        if segment is None:
            return
        yield segment
    if not reader.is_at_end():
        raise VerificationError(f"bytes follow the last segment of root {checker.root.hex()}: refuse the blob")
