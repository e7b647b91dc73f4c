"""The form of a sealed record, checked without any key: header, ciphertext segments, root.

Blob = 4-byte big-endian length of the header ‖ header ‖ ciphertext segments, nothing between and nothing after.
Root = RFC 6962 root with leaf 0 = header, leaves 1 … = ciphertext segments, so every segment is checked on arrival.
Segments are numbered from 0 here: segment i is leaf i + 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import msgspec
from msgspec import Meta

from yilian import canonical, values
from yilian.crypto import merkle
from yilian.crypto.suite import SuiteId
from yilian.errors import VerificationError
from yilian.values import Digest, Natural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT_VERSION: Final = 1
SEGMENT_SIZE: Final = 1 << 20
LEAST_SEGMENT_SIZE: Final = 1 << 10
TAG_SIZE: Final = 16
LENGTH_SIZE: Final = 4
MAX_HEADER: Final = 256
# STREAM counts segments in four bytes.
MAX_SEGMENTS: Final = 1 << 32


class Header(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What stands before the segments; its bytes are the associated data of each of them."""

    version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    suite: SuiteId
    segment_size: Annotated[int, Meta(ge=LEAST_SEGMENT_SIZE, le=SEGMENT_SIZE)]
    padded_size: Natural
    nonce_prefix: Annotated[bytes, Meta(min_length=7, max_length=7)]
    sealed_length: Annotated[bytes, Meta(min_length=24, max_length=24)]
    """The true length, encrypted: padding would hide nothing if it stood here in the open."""
    key_check: Digest

    @property
    def segments(self) -> int:
        """How many segments there are; an empty record has one."""
        return max(1, -(-self.padded_size // self.segment_size))

    def plain_size(self, index: int) -> int:
        """Give the padded plaintext bytes of one segment."""
        return min(self.segment_size, self.padded_size - index * self.segment_size)

    def cipher_size(self, index: int) -> int:
        """Give the ciphertext bytes of one segment."""
        return self.plain_size(index) + TAG_SIZE

    @property
    def body_size(self) -> int:
        """Ciphertext bytes of all segments."""
        return self.padded_size + self.segments * TAG_SIZE


def parse_header(header: bytes) -> Header:
    """Parse the bytes of a header strictly.

    Raises:
        VerificationError: no header of a known version, or more segments than STREAM can count.
    """
    parsed = canonical.decode(header, Header)
    if parsed.segments > MAX_SEGMENTS:
        raise VerificationError(f"header announces {parsed.segments} segments, expected at most 2³²: refuse the blob")
    return parsed


def blob_prefix(header: bytes) -> bytes:
    """Give what a blob file starts with; the segments follow it."""
    return len(header).to_bytes(LENGTH_SIZE, "big") + header


def padded_size(true_length: int) -> int:
    """Give the size to which a record is padded: at most 12 % more.

    Source: Padmé; Nikitin et al. 2019, Reducing Metadata Leakage from Encrypted Files, algorithm 1.
    """
    if true_length < 2:
        return true_length
    exponent = true_length.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (true_length + mask) & ~mask


def size_class(padded_size: int) -> int:
    """Give the class that the ledger shows: the smallest c with padded size ≤ 2^c bytes."""
    return max(0, padded_size - 1).bit_length()


class BlobReader:
    """Read a blob in a seekable file segment by segment, as a custodian does that serves it. Checks form, not root."""

    def __init__(self, blob: BinaryIO) -> None:
        """Read the header, from the file's beginning.

        Raises:
            VerificationError: the file does not start with a header.
        """
        blob.seek(0)
        self._blob = blob
        self.header_bytes = read_header(blob)
        self.header = parse_header(self.header_bytes)
        self._start = LENGTH_SIZE + len(self.header_bytes)

    @property
    def segments(self) -> int:
        """How many segments the header announces."""
        return self.header.segments

    def segment(self, index: int) -> bytes:
        """Read one ciphertext segment.

        Raises:
            IndexError: the header announces no such segment.
            VerificationError: the file ends before or inside it.
        """
        if not 0 <= index < self.segments:
            raise IndexError(f"segment {index} of {self.segments}")
        self._blob.seek(self._start + index * (self.header.segment_size + TAG_SIZE))
        return read_segment(self._blob, self.header, index)

    def leaf_hashes(self) -> list[Digest]:
        """Hash header and segments: what a receiver needs to check each segment on arrival. 32 bytes a segment.

        Raises:
            VerificationError: the file ends early, or goes on after its last segment.
        """
        self._blob.seek(0)
        return list(_leaves(self._blob))


def leaf_hashes(blob: BinaryIO) -> list[Digest]:
    """Read a blob once, from where it stands, and give its leaf hashes; errors as `BlobReader.leaf_hashes`."""
    return list(_leaves(blob))


def root_of_blob(blob: BinaryIO) -> Digest:
    """Read a blob once, from where it stands, in constant memory, and give its root; errors as `leaf_hashes`."""
    builder = merkle.RootBuilder()
    for leaf in _leaves(blob):
        builder.append(leaf)
    return builder.root()


class RootHasher:
    """Hash a blob that arrives in pieces of any size, in constant memory: its root is known with its last byte."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._header: Header | None = None
        self._builder = merkle.RootBuilder()
        self._leaf = merkle.leaf_hasher()
        self._left = 0
        self._segments = 0

    def update(self, piece: memoryview) -> None:
        """Take the next bytes.

        Raises:
            VerificationError: the blob does not start with a header, or goes on after its last segment.
        """
        rest = piece
        while rest:
            if self._header is None:
                rest = self._take_header(rest)
                continue
            if self._segments == self._header.segments:
                raise VerificationError(
                    f"bytes follow the last of {self._segments} segments, expected the end: fetch the record again"
                )
            part = rest[: self._left]
            self._leaf.update(part)
            self._left -= len(part)
            rest = rest[len(part) :]
            if not self._left:
                self._end_segment(self._header)

    def root(self) -> Digest:
        """Give the root; VerificationError where the blob was cut."""
        if self._header is None or self._segments < self._header.segments:
            raise VerificationError(f"the blob was cut in segment {self._segments}, expected all of it: fetch it again")
        return self._builder.root()

    def _take_header(self, rest: memoryview) -> memoryview:
        wanted = LENGTH_SIZE
        if len(self._head) >= LENGTH_SIZE:
            wanted += header_length(bytes(self._head[:LENGTH_SIZE]))
        part = rest[: wanted - len(self._head)]
        self._head += part
        if len(self._head) == wanted > LENGTH_SIZE:
            raw = bytes(self._head[LENGTH_SIZE:])
            self._header = parse_header(raw)
            self._builder.append(merkle.leaf_hash(raw))
            self._left = self._header.cipher_size(0)
        return rest[len(part) :]

    def _end_segment(self, header: Header) -> None:
        self._builder.append(values.digest(self._leaf.digest()))
        self._segments += 1
        if self._segments < header.segments:
            self._leaf, self._left = merkle.leaf_hasher(), header.cipher_size(self._segments)


class SegmentChecker:
    """Check segments as they arrive, in any order, against the root on the ledger; a cut transfer goes on anywhere."""

    def __init__(self, header: bytes, leaf_hashes: Sequence[bytes], root: bytes) -> None:
        """Take header and leaf hashes from the sender and the root from the ledger.

        Raises:
            VerificationError: leaf hashes do not give the root, or are not those of the header.
        """
        self.header_bytes = header
        self.header = parse_header(header)
        self.root = bytes(root)
        self._leaves = tuple(leaf_hashes)
        found = merkle.root(self._leaves)
        if found != root:
            raise VerificationError(
                f"leaf hashes give root {found.hex()}, the ledger says {root.hex()}: fetch them from another holder"
            )
        if merkle.leaf_hash(header) != self._leaves[0] or len(self._leaves) != self.header.segments + 1:
            raise VerificationError(
                f"the header does not belong to root {root.hex()} with {len(self._leaves)} leaves: "
                "fetch it from another holder"
            )

    @property
    def segments(self) -> int:
        """How many segments make the record."""
        return self.header.segments

    def offset(self, index: int) -> int:
        """Give the place of a segment in the blob file."""
        start = LENGTH_SIZE + len(self.header_bytes)
        return start + index * (self.header.segment_size + TAG_SIZE)

    def check(self, index: int, segment: bytes) -> None:
        """Make sure that a ciphertext segment is the one which the root names at this index.

        Raises:
            VerificationError: no such index, or other bytes.
        """
        if not 0 <= index < self.segments:
            raise VerificationError(
                f"segment {index} came for root {self.root.hex()}, expected 0 … {self.segments - 1}: stop the transfer"
            )
        found = merkle.leaf_hash(segment)
        if found != self._leaves[index + 1] or len(segment) != self.header.cipher_size(index):
            raise VerificationError(
                f"segment {index} of root {self.root.hex()} came with {len(segment)} bytes and hash {found.hex()}, "
                f"expected {self.header.cipher_size(index)} and {self._leaves[index + 1].hex()}: fetch it again"
            )


class SegmentProof(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One segment, and the header that says how many there are, each with its path: the answer to a challenge."""

    header: Annotated[bytes, Meta(max_length=MAX_HEADER)]
    header_path: Annotated[tuple[Digest, ...], Meta(max_length=33)]
    index: Natural
    segment: Annotated[bytes, Meta(max_length=SEGMENT_SIZE + TAG_SIZE)]
    segment_path: Annotated[tuple[Digest, ...], Meta(max_length=33)]


def segment_with_proof(blob: BinaryIO, index: int) -> SegmentProof:
    """Prove that a blob in a seekable file still holds one segment; reads the whole of it.

    Raises:
        IndexError: there is no such segment.
        VerificationError: the file is no whole blob.
    """
    reader = BlobReader(blob)
    segment, leaves = reader.segment(index), reader.leaf_hashes()
    return SegmentProof(
        header=reader.header_bytes,
        header_path=_path(leaves, 0),
        index=index,
        segment=segment,
        segment_path=_path(leaves, index + 1),
    )


def verify_segment(proof: SegmentProof, index: int, root: Digest) -> None:
    """Make sure that a proof shows exactly the asked segment of the blob with this root.

    1. The header stands at leaf 0 of the root: so its number of segments is the true one.
    2. The segment stands at leaf index + 1.

    Raises:
        VerificationError: another index, or a path that does not lead to the root.
    """
    size = parse_header(proof.header).segments + 1
    if not merkle.verify_inclusion(merkle.leaf_hash(proof.header), 0, size, proof.header_path, root):
        raise VerificationError(f"the header does not belong to root {root.hex()}: the challenge is not answered")
    leaf = merkle.leaf_hash(proof.segment)
    if proof.index != index or not merkle.verify_inclusion(leaf, index + 1, size, proof.segment_path, root):
        raise VerificationError(
            f"segment {proof.index} is not segment {index} of root {root.hex()}: the challenge is not answered"
        )


def read_header(blob: BinaryIO) -> bytes:
    """Read the header's bytes from the beginning of a blob, and leave it at the first segment.

    Raises:
        VerificationError: the blob ends before, or announces too long a header.
    """
    return _read(blob, header_length(_read(blob, LENGTH_SIZE, "length of the header")), "header")


def header_length(prefix: bytes) -> int:
    """Give the length of a header from the bytes before it; VerificationError where it is none of a sealed record."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= MAX_HEADER:
        raise VerificationError(f"header of {length} bytes, expected 1 … {MAX_HEADER}: this is no sealed record")
    return length


def read_segment(blob: BinaryIO, header: Header, index: int) -> bytes:
    """Read the next ciphertext segment, which is the `index`-th; VerificationError where the blob ends early."""
    return _read(blob, header.cipher_size(index), f"segment {index} of {header.segments}")


def check_end(blob: BinaryIO, header: Header) -> None:
    """Make sure that nothing follows the last segment; VerificationError where something does."""
    if blob.read(1):
        raise VerificationError(
            f"bytes follow the last of {header.segments} segments, expected the end: fetch the record again"
        )


def _leaves(blob: BinaryIO) -> Iterator[Digest]:
    raw = read_header(blob)
    header = parse_header(raw)
    yield merkle.leaf_hash(raw)
    for index in range(header.segments):
        yield merkle.leaf_hash(read_segment(blob, header, index))
    check_end(blob, header)


def _read(blob: BinaryIO, size: int, what: str) -> bytes:
    """Read exactly `size` bytes; sockets and pipes may give less at once."""
    got = blob.read(size)
    while got and len(got) < size:
        more = blob.read(size - len(got))
        if not more:
            break
        got += more
    if len(got) != size:
        raise VerificationError(f"{what} has {len(got)} bytes, expected {size}: the blob was cut, fetch it again")
    return got


def _path(leaves: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    return tuple(values.digest(step) for step in merkle.inclusion_proof(leaves, index))
