"""The institution's own audit record: disclosure events (IHE BALP), and what was refused at its edge."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.schema import AUDIT_EVENTS, EDGE_REFUSALS
from yilian.values import CaseId, OpId


class DisclosureEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A FHIR AuditEvent whose commitment stands on the ledger."""

    seq: int = 0
    """Given by the vault, from 1."""
    kind: str
    """`disclosure.sent` or `disclosure.received`."""
    op_id: OpId
    use_id: CaseId
    body: bytes
    """AuditEvent JSON."""
    commitment: bytes
    salt: bytes


class EdgeRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was refused before it could reach the ledger."""

    seq: int = 0
    """Given by the vault, from 1."""
    time: int
    """Milliseconds."""
    kind: str
    """`TLS_NON_MEMBER`, `NO_GRANT`, `TAMPERED_BLOB` …"""
    number: int
    """Refusal number where there is one, else 0."""
    detail: str


class AuditRecord:
    """Append-only lists, numbered by the vault without a gap."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._events = SealedTable(
            vault,
            AUDIT_EVENTS,
            DisclosureEvent,
            columns=lambda event: {
                "seq": event.seq,
                "use_id": event.use_id,
            },
        )
        self._refusals = SealedTable(
            vault,
            EDGE_REFUSALS,
            EdgeRefusal,
            columns=lambda refusal: {"seq": refusal.seq, "time": refusal.time, "kind": refusal.kind},
        )

    def append(self, event: DisclosureEvent) -> int:
        """Add a disclosure event and give its number."""
        return self._events.append(event)

    def append_refusal(self, refusal: EdgeRefusal) -> int:
        """Add a refusal and give its number."""
        return self._refusals.append(refusal)

    def of_use(self, use_id: bytes) -> list[DisclosureEvent]:
        """Give the events of a use, in order."""
        return self._events.find_all(use_id=use_id)

    def events(self, *, after: int = 0, limit: int = 100) -> list[DisclosureEvent]:
        """Give the events with a number above `after`, in order."""
        return self._events.select(AUDIT_EVENTS.c.seq > after, limit=limit)

    def refusals(self, *, kind: str | None = None, after: int = 0, limit: int = 100) -> list[EdgeRefusal]:
        """Give the refusals with a number above `after`, of one kind or all, in order."""
        where = [EDGE_REFUSALS.c.seq > after]
        if kind is not None:
            where.append(EDGE_REFUSALS.c.kind == kind)
        return self._refusals.select(*where, limit=limit)

    def refusal_counts(self) -> dict[str, int]:
        """Count the refusals by kind."""
        counted = sa.select(EDGE_REFUSALS.c.kind, sa.func.count()).group_by(EDGE_REFUSALS.c.kind)
        with self._vault.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(counted.order_by(EDGE_REFUSALS.c.kind))}
