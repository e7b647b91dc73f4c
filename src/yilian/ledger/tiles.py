"""Tiles of the log as auditors fetch them: which there are for a size, and their paths (C2SP tlog-tiles). Pure.

    tile/<level>/<index>[.p/<width>]       hashes of a tile: 256, or the first `width` of the last one of its level
    tile/entries/<index>[.p/<width>]       leaves, each behind its length in 2 bytes (big-endian)

An index is written in groups of three digits, all but the last behind an `x`: 1234067 is `x001/x234/067`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec

from yilian import canonical
from yilian.crypto import merkle
from yilian.errors import VerificationError
from yilian.ledger.log import TILE, Leaf

LEVELS = 8
"""Levels of the tree that one level of tiles spans: 256 hashes become one."""
ENTRIES = "entries"
_PATH = re.compile(r"(entries|[0-7])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LENGTH = 2


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One tile; `level` is None for a bundle of leaves."""

    level: int | None
    index: int
    width: int = TILE

    @property
    def path(self) -> str:
        """Its path below `tile/`."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        partial = f".p/{self.width}" if self.width < TILE else ""
        return f"{ENTRIES if self.level is None else self.level}/{'/'.join(groups)}{partial}"


def parse_path(text: str) -> Tile:
    """Take a path below `tile/`; VerificationError where it is none, or not in its only form."""
    matched = _PATH.fullmatch(text)
    if matched is None:
        raise VerificationError(f"{text[:80]!r} is no path of a tile, expected such as 0/x001/067: see C2SP tlog-tiles")
    what, groups, width = matched.groups()
    tile = Tile(
        level=None if what == ENTRIES else int(what),
        index=int(groups.replace("x", "").replace("/", "")),
        width=TILE if width is None else int(width),
    )
    if tile.path != text:
        raise VerificationError(f"{text} is another spelling of {tile.path}: ask for that")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Give every tile of a log of `size` leaves: bundles of leaves first, then hashes level by level."""
    for level in (None, *range(LEVELS)):
        count = size >> (LEVELS * (level or 0))
        for index in range(count // TILE):
            yield Tile(level=level, index=index)
        if count % TILE:
            yield Tile(level=level, index=count // TILE, width=count % TILE)


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Encode leaves as a bundle."""
    return b"".join(len(leaf).to_bytes(_LENGTH, "big") + leaf for leaf in leaves)


def parse_bundle(data: bytes, width: int) -> tuple[bytes, ...]:
    """Split a bundle of `width` leaves; VerificationError where it holds another number, or more bytes."""
    leaves: list[bytes] = []
    at = 0
    while at < len(data) and len(leaves) < width:
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "big")
        leaves.append(data[start:at])
    if len(leaves) != width or at != len(data):
        raise VerificationError(f"a bundle of {len(data)} bytes does not hold exactly {width} leaves: fetch it again")
    return tuple(leaves)


def parse_leaf(data: bytes) -> Leaf:
    """Decode the bytes of a leaf strictly; VerificationError where they are none."""
    return canonical.decode(data, Leaf)


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf (RFC 6962 section 2.1)."""
    return sha256(merkle.LEAF_PREFIX + data).digest()
