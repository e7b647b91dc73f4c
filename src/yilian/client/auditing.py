"""Follow a log from its tiles alone: recompute the root from the leaves, and hold the log to what was seen before.

A folder has `checkpoint` and `tile/…` as `yilian log export` writes them (C2SP tlog-tiles). What was seen is a note in
a file of the auditor's own, outside that folder.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from yilian.crypto import merkle
from yilian.errors import VerificationError
from yilian.ledger.checkpoint import MAX_NOTE, Checkpoint, Note, parse_note
from yilian.ledger.log import TILE, Leaf
from yilian.ledger.tiles import LEVELS, Tile, leaf_hash, parse_bundle, parse_leaf, tiles_of
from yilian.ledger.trust import Believed, Trust, believe
from yilian.values import Digest

MAX_BUNDLE = TILE * (1 << 16)


class Finding(StrEnum):
    """What an audit found, by name."""

    BAD_CHECKPOINT = "BAD_CHECKPOINT"
    """No checkpoint, not in its only form, or not signed as the trust file asks."""
    TRUNCATED_LOG = "TRUNCATED_LOG"
    """The log does not hold the leaves that its checkpoint counts, or has fewer than before."""
    ROLLBACK = "ROLLBACK"
    """The checkpoint is older than the one seen before."""
    SPLIT_VIEW = "SPLIT_VIEW"
    """The log does not begin with the log seen before."""
    WRONG_ROOT = "WRONG_ROOT"
    """The leaves give another root than the checkpoint says."""
    WRONG_TILE = "WRONG_TILE"
    """A tile is not what the leaves give."""
    WRONG_LEAF = "WRONG_LEAF"
    """A leaf is malformed, or height or time run back."""


class AuditError(VerificationError):
    """The log must not be relied on."""

    def __init__(self, finding: Finding, message: str) -> None:
        super().__init__(f"{finding}: {message}")
        self.finding = finding


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """A log that holds."""

    note: Note
    believed: Believed | None
    """Who signed; None where no trust file was given, so that no signature was checked."""
    before: Checkpoint | None
    """What was seen before; None in the first audit."""


def audit(folder: Path, *, seen: Path, trust: Trust | None = None) -> Audited:
    """Audit the log in a folder, and remember its checkpoint where all of it holds.

    Raises:
        AuditError: with the name of what does not hold; nothing is remembered.
    """
    note = _checkpoint(folder / "checkpoint")
    believed = _believed(note, trust)
    before = _checkpoint(seen) if seen.is_file() else None
    if before is not None:
        _check_growth(before.checkpoint, note.checkpoint)
    roots = _recompute(folder / "tile", note.checkpoint, before.checkpoint.log_size if before is not None else 0)
    if before is not None and roots.before != before.checkpoint.log_root:
        raise AuditError(
            Finding.SPLIT_VIEW,
            f"the first {before.checkpoint.log_size} leaves have root {roots.before.hex()}, "
            f"{_named(before.checkpoint)} was seen before, now {_named(note.checkpoint)}: two histories were signed, "
            "keep both, tell the members",
        )
    if roots.whole != note.checkpoint.log_root:
        raise AuditError(
            Finding.WRONG_ROOT,
            f"the leaves have root {roots.whole.hex()}, the checkpoint says {note.checkpoint.log_root.hex()}: "
            "export anew into an empty folder, from another member",
        )
    temporary = seen.with_name(f"{seen.name}.tmp")
    temporary.write_bytes(note.encode())
    temporary.replace(seen)
    return Audited(note=note, believed=believed, before=before.checkpoint if before is not None else None)


class _Roots(msgspec.Struct, frozen=True):
    before: Digest
    whole: Digest


def _checkpoint(file: Path) -> Note:
    try:
        with file.open("rb") as opened:
            return parse_note(opened.read(MAX_NOTE + 1))
    except OSError as error:
        raise AuditError(Finding.BAD_CHECKPOINT, f"{file}: {error.strerror}: export the log first") from error
    except VerificationError as error:
        raise AuditError(Finding.BAD_CHECKPOINT, f"{file}: {error}") from error


def _believed(note: Note, trust: Trust | None) -> Believed | None:
    if trust is None:
        return None
    try:
        return believe(note, trust, executed=False)
    except VerificationError as error:
        raise AuditError(Finding.BAD_CHECKPOINT, str(error)) from error


def _check_growth(before: Checkpoint, now: Checkpoint) -> None:
    if before.chain != now.chain:
        raise AuditError(
            Finding.BAD_CHECKPOINT,
            f"this log is of chain {now.chain.hex()}, audited before was {before.chain.hex()}: name another state file",
        )
    if now.log_size < before.log_size:
        is_truncated = now.height >= before.height
        raise AuditError(
            Finding.TRUNCATED_LOG if is_truncated else Finding.ROLLBACK,
            f"now {_named(now)}, before {_named(before)}: leaves are gone, tell the members",
        )


def _recompute(folder: Path, checkpoint: Checkpoint, size_before: int) -> _Roots:
    """Recompute all hashes from the leaves, comparing every tile; give the roots at the older and the whole size."""
    builder = merkle.RootBuilder()
    root_before = builder.root()
    last_height = last_time = 0
    # of each level of tiles, the hashes that its present tile has so far
    tails: dict[int, list[bytes]] = {}
    for bundle in (tile for tile in tiles_of(checkpoint.log_size) if tile.level is None):
        for raw in _leaves(folder, bundle):
            leaf = _leaf(raw, builder.size)
            if leaf.height < last_height or leaf.time < last_time or leaf.height > checkpoint.height:
                raise AuditError(
                    Finding.WRONG_LEAF,
                    f"leaf {builder.size} is of block {leaf.height} at {leaf.time}, after block {last_height} at "
                    f"{last_time}: export anew into an empty folder, from another member",
                )
            last_height, last_time = leaf.height, leaf.time
            hashed = leaf_hash(raw)
            builder.append(hashed)
            _append(folder, tails, 0, builder.size - 1, hashed)
            if builder.size == size_before:
                root_before = builder.root()
    for level, hashes in tails.items():
        if hashes:
            count = checkpoint.log_size >> (LEVELS * level)
            _compare(folder, Tile(level=level, index=count // TILE, width=len(hashes)), b"".join(hashes))
    return _Roots(root_before, builder.root())


def _append(  # noqa: PLR0917 - recursion over levels, nothing is named twice
    folder: Path, tails: dict[int, list[bytes]], level: int, index: int, hashed: bytes
) -> None:
    tail = tails.setdefault(level, [])
    tail.append(hashed)
    if len(tail) == TILE:
        _compare(folder, Tile(level=level, index=index // TILE), b"".join(tail))
        above = merkle.root(tail)
        tail.clear()
        _append(folder, tails, level + 1, index // TILE, above)


def _compare(folder: Path, tile: Tile, expected: bytes) -> None:
    found = _read(folder, tile, len(expected) + 1)
    if found != expected:
        raise AuditError(
            Finding.WRONG_TILE,
            f"tile {tile.path} is not what the leaves give: export anew into an empty folder, from another member",
        )


def _leaves(folder: Path, bundle: Tile) -> tuple[bytes, ...]:
    try:
        return parse_bundle(_read(folder, bundle, MAX_BUNDLE), bundle.width)
    except AuditError:
        raise
    except VerificationError as error:
        raise AuditError(Finding.TRUNCATED_LOG, f"tile/{bundle.path}: {error}") from error


def _leaf(raw: bytes, index: int) -> Leaf:
    try:
        return parse_leaf(raw)
    except VerificationError as error:
        raise AuditError(Finding.WRONG_LEAF, f"leaf {index}: {error}") from error


def _read(folder: Path, tile: Tile, most: int) -> bytes:
    try:
        with (folder / tile.path).open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise AuditError(
            Finding.TRUNCATED_LOG,
            f"tile/{tile.path} is not there ({error.strerror}), the checkpoint counts it: export again, or tell the "
            "members",
        ) from error


def _named(checkpoint: Checkpoint) -> str:
    return f"size {checkpoint.log_size} at height {checkpoint.height} with root {checkpoint.log_root.hex()}"
