"""Seal a record of any size in constant memory, and open it again; spec/release.md, Sealed record.

STREAM over AES-256-GCM: nonce = 7 random bytes ‖ 4-byte counter ‖ last flag; the header is bound to every segment.
AES-GCM commits to no key (one ciphertext can be built that opens under two): `key_check` in the header does.
What needs no key (layout, root, checks of single segments) is in `blob`, and can be imported from here too.

Source: Hoang, Reyhanitabar, Rogaway, Vizár 2015, Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance (STREAM).
"""

from __future__ import annotations

import hmac
import io
import secrets
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from yilian import canonical, values
from yilian.crypto import blob as blobs
from yilian.crypto import merkle
from yilian.crypto.blob import (
    FORMAT_VERSION,
    SEGMENT_SIZE,
    TAG_SIZE,
    BlobReader,
    Header,
    SegmentChecker,
    SegmentProof,
    blob_prefix,
    leaf_hashes,
    padded_size,
    parse_header,
    root_of_blob,
    segment_with_proof,
    size_class,
    verify_segment,
)
from yilian.crypto.suite import SuiteId, derive_key, framed
from yilian.errors import ConflictError, VerificationError
from yilian.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "SEGMENT_SIZE",
    "BlobReader",
    "Header",
    "Sealed",
    "SegmentChecker",
    "SegmentProof",
    "blob_prefix",
    "key_fits",
    "leaf_hashes",
    "new_data_key",
    "new_salt",
    "open_bytes",
    "open_checked",
    "open_sealed",
    "padded_size",
    "parse_header",
    "root_of_blob",
    "seal",
    "seal_bytes",
    "segment_with_proof",
    "size_class",
    "verify_segment",
]

DATA_KEY_SIZE = SALT_SIZE = 32
NONCE_PREFIX_SIZE: Final = 7
KEY_CHECK_TAG, LENGTH_TAG = "yilian/key-check/v1", "yilian/true-length/v1"

# Last byte of a nonce. The third value keeps the nonce of the sealed length apart from that of every segment.
MORE, LAST, LENGTH = 0, 1, 2


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What sealing gives beside the blob. Sizes in bytes; `size_class(padded_size)` goes on the ledger."""

    header: bytes
    root: Digest
    padded_size: int
    blob_size: int
    segments: int


def new_data_key() -> bytes:
    """Draw the key of one record: 32 random bytes, never used for a second one."""
    return secrets.token_bytes(DATA_KEY_SIZE)


def new_salt() -> bytes:
    """Draw the salt of one commitment: 32 random bytes."""
    return secrets.token_bytes(SALT_SIZE)


def seal(
    source: BinaryIO | Iterable[bytes],
    true_length: int,
    out: BinaryIO,
    data_key: bytes,
    *,
    segment_size: int = SEGMENT_SIZE,
) -> Sealed:
    """Read a record once and write its blob; memory stays at about two segments.

    Args:
        source: a file read from where it stands to its end, or pieces of any size.
        true_length: bytes that the source will give.
        out: gets the whole blob; durable only when the caller makes it so.
        data_key: 32 fresh random bytes (`new_data_key`).
        segment_size: bytes of plaintext a segment, 1 KiB to 1 MiB; ledger chains use the default.

    Raises:
        ConflictError: the source gives another number of bytes than `true_length`: it changed meanwhile.
        ValueError: the data key has not 32 bytes.
    """
    cipher = _cipher(data_key)
    header = _make_header(cipher, data_key, true_length, segment_size)
    raw = canonical.encode(header)
    builder = merkle.RootBuilder()
    builder.append(merkle.leaf_hash(raw))
    out.write(blob_prefix(raw))
    feed = _Feed(source, true_length)
    buffer = memoryview(bytearray(header.cipher_size(0)))
    for index in range(header.segments):
        plaintext = feed.take(header.plain_size(index))
        ciphertext = buffer[: len(plaintext) + TAG_SIZE]
        cipher.encrypt_into(_nonce(header, index), plaintext, raw, ciphertext)
        builder.append(merkle.leaf_hash(ciphertext))
        out.write(ciphertext)
    feed.check_end()
    return Sealed(
        header=raw,
        root=builder.root(),
        padded_size=header.padded_size,
        blob_size=blobs.LENGTH_SIZE + len(raw) + header.body_size,
        segments=header.segments,
    )


def seal_bytes(plaintext: bytes, data_key: bytes | None = None) -> tuple[bytes, Sealed, bytes]:
    """Seal a record in memory under a fresh key (or the given one); gives blob, what `seal` gives, and the key."""
    key = new_data_key() if data_key is None else data_key
    out = io.BytesIO()
    sealed = seal((plaintext,), len(plaintext), out, key)
    return out.getvalue(), sealed, key


def open_sealed(blob: BinaryIO, data_key: bytes, root: bytes, out: BinaryIO) -> int:
    """Open a blob from where it stands, in constant memory, and give the bytes written to `out`.

    1. The key is the one that `key_check` names. 2. Every segment opens at its place, under this header, the last one
    as last. 3. Nothing follows it. 4. Header and segments give `root`. 5. Padding is what the true length asks for.
    Where any fails, what `out` has got so far is to be thrown away: the whole was not proven.

    Raises:
        VerificationError: any of these; the message names the root and the segment.
    """
    builder = merkle.RootBuilder()
    true_length = _open(blob, data_key, root, out, lambda leaf: builder.append(merkle.leaf_hash(leaf)))
    if builder.root() != root:
        raise VerificationError(
            f"blob has root {builder.root().hex()}, the ledger says {root.hex()}: fetch it from another holder"
        )
    return true_length


def open_checked(blob: BinaryIO, data_key: bytes, root: bytes, out: BinaryIO) -> int:
    """Open a blob whose root was compared when it came, as `open_sealed` does but without hashing the ciphertext again.

    Only for who compares the plaintext with its commitment: the tags and the key check show every change under this
    key, but who made the blob could have made another one under it.

    Raises:
        VerificationError: as `open_sealed`, but for step 4.
    """
    return _open(blob, data_key, root, out, lambda _: None)


def open_bytes(blob: bytes, data_key: bytes, root: bytes) -> bytes:
    """Open a blob in memory; nothing comes back unless all of it holds. Errors as `open_sealed`."""
    out = io.BytesIO()
    open_sealed(io.BytesIO(blob), data_key, root, out)
    return out.getvalue()


def key_fits(header: bytes, data_key: bytes) -> bool:
    """Say whether a data key is the one a header commits to; in constant time. Shows who lied about a key.

    Raises:
        VerificationError: the bytes are no header.
    """
    return _fits(parse_header(header), data_key)


def _open(  # noqa: PLR0917 - a private half
    blob: BinaryIO, data_key: bytes, root: bytes, out: BinaryIO, hashed: Callable[[bytes], None]
) -> int:
    raw = blobs.read_header(blob)
    header = parse_header(raw)
    if not _fits(header, data_key):
        raise VerificationError(
            f"the key of {len(data_key)} bytes does not fit the key check of root {root.hex()}: "
            "dispute the delivery, or check which record the key belongs to"
        )
    cipher = _cipher(data_key)
    true_length = _true_length(cipher, header, root)
    hashed(raw)
    left = true_length
    for index in range(header.segments):
        ciphertext = blobs.read_segment(blob, header, index)
        plaintext = _open_segment(cipher, header, index, ciphertext, raw=raw, root=root)
        hashed(ciphertext)
        if left < len(plaintext) and plaintext.count(0, left) != len(plaintext) - left:
            raise VerificationError(f"padding in segment {index} of root {root.hex()} is not zero: dispute the record")
        out.write(plaintext[:left])
        left -= min(left, len(plaintext))
    blobs.check_end(blob, header)
    return true_length


class _Feed:
    """Cut a source into plaintext segments of exact size, with zeros after its end."""

    def __init__(self, source: BinaryIO | Iterable[bytes], true_length: int) -> None:
        read = getattr(source, "read", None)
        self._pieces: Iterator[bytes] = iter(source) if read is None else iter(lambda: read(SEGMENT_SIZE), b"")
        self._rest = memoryview(b"")
        self._left = self._true_length = true_length

    def take(self, size: int) -> bytes | bytearray | memoryview:
        wanted = min(size, self._left)
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        if wanted == size <= len(self._rest):
            taken, self._rest = self._rest[:size], self._rest[size:]
            self._left -= size
            return taken
        segment = bytearray(size)
        filled = 0
        while filled < wanted:
            if not self._rest:
                self._rest = memoryview(self._next(filled))
            piece = self._rest[: wanted - filled]
            segment[filled : filled + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            filled += len(piece)
        self._left -= wanted
        return segment

    def check_end(self) -> None:
        if self._rest or any(self._pieces):
            raise self._changed("more")

    def _next(self, filled: int) -> bytes:
        for piece in self._pieces:
            if piece:
                return piece
        raise self._changed(str(self._true_length - self._left + filled))

    def _changed(self, found: str) -> ConflictError:
        return ConflictError(
            f"the source gave {found} bytes, expected {self._true_length}: it changed meanwhile, seal it again"
        )


def _cipher(data_key: bytes) -> AESGCM:
    if len(data_key) != DATA_KEY_SIZE:
        raise ValueError(f"data key has {len(data_key)} bytes, expected {DATA_KEY_SIZE}")
    return AESGCM(data_key)


def _make_header(cipher: AESGCM, data_key: bytes, true_length: int, segment_size: int) -> Header:
    prefix = secrets.token_bytes(NONCE_PREFIX_SIZE)
    open_header = Header(
        version=FORMAT_VERSION,
        suite=SuiteId.INTL,
        segment_size=segment_size,
        padded_size=padded_size(true_length),
        nonce_prefix=prefix,
        sealed_length=bytes(24),
        key_check=values.digest(bytes(32)),
    )
    sealed_length = cipher.encrypt(_length_nonce(prefix), true_length.to_bytes(8, "big"), _length_aad(open_header))
    header = msgspec.structs.replace(open_header, sealed_length=sealed_length)
    return msgspec.structs.replace(header, key_check=_key_check(header, data_key))


def _fields(header: Header) -> bytes:
    return canonical.encode(
        [header.version, int(header.suite), header.segment_size, header.padded_size, header.nonce_prefix]
    )


def _length_aad(header: Header) -> bytes:
    return framed(LENGTH_TAG, _fields(header))


def _length_nonce(prefix: bytes) -> bytes:
    return prefix + bytes(4) + bytes((LENGTH,))


def _key_check(header: Header, data_key: bytes) -> Digest:
    return values.digest(derive_key(data_key, framed(KEY_CHECK_TAG, _fields(header), header.sealed_length)))


def _fits(header: Header, data_key: bytes) -> bool:
    return len(data_key) == DATA_KEY_SIZE and hmac.compare_digest(_key_check(header, data_key), header.key_check)


def _nonce(header: Header, index: int) -> bytes:
    flag = LAST if index == header.segments - 1 else MORE
    return header.nonce_prefix + index.to_bytes(4, "big") + bytes((flag,))


def _true_length(cipher: AESGCM, header: Header, root: bytes) -> int:
    try:
        length = cipher.decrypt(_length_nonce(header.nonce_prefix), header.sealed_length, _length_aad(header))
    except InvalidTag as error:
        raise VerificationError(
            f"the sealed length in the header of root {root.hex()} does not open: dispute the record"
        ) from error
    true_length = int.from_bytes(length, "big")
    if padded_size(true_length) != header.padded_size:
        raise VerificationError(
            f"padded size {header.padded_size} under root {root.hex()}, expected {padded_size(true_length)}: "
            "dispute the record"
        )
    return true_length


def _open_segment(cipher: AESGCM, header: Header, index: int, ciphertext: bytes, *, raw: bytes, root: bytes) -> bytes:
    try:
        return cipher.decrypt(_nonce(header, index), ciphertext, raw)
    except InvalidTag as error:
        raise VerificationError(
            f"segment {index} of {header.segments} under root {root.hex()} does not open, expected its own place, "
            "header and key: fetch it again"
        ) from error
