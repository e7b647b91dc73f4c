"""What an institution must have bytes of, how far the check of these bytes has come, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.records import Records, RecordStatus
from yilian.storage.vault.releases import Releases
from yilian.storage.vault.schema import INTEGRITY_FINDINGS, INTEGRITY_PASSES
from yilian.values import CaseId, Digest, EntryId, InstitutionId

_NEWEST = "newest"


class HeldKind(StrEnum):
    """What a blob is here; a pass goes through them in this order."""

    RECORD = "record"
    """Of own custody."""
    COPY = "copy"
    """Delivered by another custodian."""
    FILE = "file"
    """A file as it was received."""
    SUMMARY = "summary"


KINDS = tuple(HeldKind)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that must be here."""

    kind: HeldKind
    key: bytes
    """Its place in the order of its kind."""
    root: Digest
    entry: EntryId | None = None
    """None for files and summaries, which the ledger does not know."""
    use: CaseId | None = None
    """The use that brought a copy."""


class Wrong(StrEnum):
    """What is wrong with a blob."""

    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    """The disk does not give it."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where else the bytes of a blob lie."""

    institution: InstitutionId
    grant: CaseId | None
    """Under which they can be fetched again without another delivery; None where nothing gives a right to."""
    is_intact: bool
    """It has shown hashes of all its segments that give the root; else it is only known to have received them."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that is not as it must be."""

    root: Digest
    kind: HeldKind
    wrong: Wrong
    entry: EntryId | None
    use: CaseId | None
    found: int
    """When it was found first, milliseconds."""
    sources: tuple[Source, ...]
    checked: int
    """Beginning of the pass that looked last, milliseconds."""


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """A run over everything held, which goes on where it stopped."""

    started: int
    """Milliseconds."""
    finished: int | None = None
    is_paused: bool = False
    """Somebody cancelled it: it goes on when somebody starts it, or when the next one is due."""
    kind: HeldKind = HeldKind.RECORD
    after: bytes = b""
    """Key of the last blob that was checked, within its kind."""
    total: int = 0
    """Blobs that were held when it began."""
    done: int = 0
    size: int = 0
    """Bytes read."""


class Integrity:
    """One pass and its findings at a time; written together, so that a crash repeats some blobs and forgets none."""

    def __init__(self, vault: VaultCore, records: Records, releases: Releases) -> None:
        self._vault = vault
        self._records = records
        self._releases = releases
        self._passes = SealedTable(vault, INTEGRITY_PASSES, Pass, columns=lambda _: {"name": _NEWEST})
        self._findings = SealedTable(vault, INTEGRITY_FINDINGS, Finding, columns=lambda one: {"root": one.root})

    def count(self) -> int:
        """Count what is held."""
        return sum(self._records.counts()) + self._releases.count_copies()

    def held_after(self, kind: HeldKind, key: bytes, limit: int) -> tuple[list[Held], bytes | None]:
        """Give blobs of a kind that must be here behind a key, and the last key looked at; None at the end."""
        found: list[Held] = []
        keys: list[bytes] = []
        if kind == HeldKind.RECORD:
            for record in self._records.after(key, limit):
                keys.append(record.entry_id)
                if record.data_key and record.status != RecordStatus.ERASED:
                    found.append(Held(kind=kind, key=record.entry_id, root=record.root, entry=record.entry_id))
        elif kind == HeldKind.COPY:
            for copy in self._releases.copies_after(key, limit):
                if copy.entry_id not in keys[-1:]:  # several uses of an entry brought the same bytes
                    keys.append(copy.entry_id)
                    found.append(
                        Held(kind=kind, key=copy.entry_id, root=copy.root, entry=copy.entry_id, use=copy.use_id)
                    )
        elif kind == HeldKind.FILE:
            for name, file in self._records.files_after(key, limit):
                keys.append(name)
                found.append(Held(kind=kind, key=name, root=file.root))
        else:
            for name, summary in self._records.summaries_after(key, limit):
                keys.append(name)
                found.append(Held(kind=kind, key=name, root=summary.root))
        return found, keys[-1] if keys else None

    def is_held(self, held: Held) -> bool:
        """Say whether a blob must still be here, now."""
        before = int.from_bytes(held.key) - 1
        if before < 0:
            return True
        now, _ = self.held_after(held.kind, before.to_bytes(len(held.key)), 1)
        return any(one.key == held.key and one.root == held.root for one in now)

    def find_pass(self) -> Pass | None:
        """Give the newest pass, running, paused or finished."""
        return self._passes.find(name=_NEWEST)

    def save(self, run: Pass, *, wrong: Sequence[Finding] = (), right: Sequence[bytes] = ()) -> None:
        """Keep how far a pass is, with the findings of what it saw, and drop those of roots that hold."""
        with self._vault.transaction():
            self._passes.put([run])
            known = {one.root: one for one in self._findings.find_in("root", [one.root for one in wrong])}
            self._findings.put(
                msgspec.structs.replace(one, found=known[one.root].found) if one.root in known else one for one in wrong
            )
            for root in right:
                self._findings.delete(INTEGRITY_FINDINGS.c.root == root)

    def finish(self, run: Pass) -> None:
        """End a pass; findings that it did not see again are of blobs that need not be here any more."""
        with self._vault.transaction():
            gone = [one.root for one in self._findings.select() if one.checked != run.started]
            self.save(run, right=gone)

    def findings(self) -> list[Finding]:
        """Give what is wrong as far as is known, by kind and entry."""
        return sorted(self._findings.select(), key=lambda one: (KINDS.index(one.kind), one.entry or b"", one.root))
