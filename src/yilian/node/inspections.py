"""A custodian's answer to an inspection: one statutory grant for each own entry that was asked for, till it is over.

It answers `inspection.request_content`. One grant an entry, so that no list on the ledger says
which entries are of one patient. The id of a grant follows from inspection and entry: asked twice, it is issued once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from yilian.crypto.suite import tagged_hash
from yilian.engine.gateway import Signed
from yilian.ledger.cases import Found
from yilian.node.host import Host
from yilian.storage.vault.releases import Note, NoteKind
from yilian.values import DAY, CaseId, EntryId, InstitutionId, OpId, UnixMillis, op_id, unix_millis
from yilian.workflows.audit.model import Inspection, InspectionState
from yilian.workflows.catalog.interface import current
from yilian.workflows.consent.model import LIVING, Basis, Grant, GrantIssue, GrantRevoke
from yilian.workflows.consent.policy import Purpose

GRANTED_FOR_MS = 30 * DAY
"""How long such a grant holds where its inspection does not end before."""
GRANT, END = "grant_content", "end_content"
"""Kinds of work: to grant what was asked for, to take back what the end of the inspection left over."""
_TAG = "yilian/reactor/inspection-content/v1"
_OVER = (InspectionState.CLOSED, InspectionState.CANCELLED)


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """A grant that an inspection is owed over one own entry."""

    grant: CaseId
    entry: EntryId
    operation: Signed | None
    """What issues it; None where it stands."""


def kind_of(me: InstitutionId, fields: Inspection, state: str) -> str | None:
    """Say which work an inspection makes for an institution, if any."""
    if me not in fields.institutions or not fields.content:
        return None
    if state == InspectionState.SCOPE_APPROVED:
        return GRANT
    return END if state in _OVER else None


def owed(host: Host, inspection: Found[Inspection]) -> Sequence[Owed]:
    """Give the grants over own current entries that an inspection asked for; none but while its scope is approved."""
    asker = inspection.fields.asker
    if inspection.state != InspectionState.SCOPE_APPROVED or asker is None or asker == host.id:
        return ()
    reads = host.gateway.engine.reads()
    found = []
    for entry_id in inspection.fields.content:
        grant = _grant_of(host, inspection, entry_id)
        stands = host.gateway.find(Grant, grant) is not None
        entry = current(reads, entry_id)
        if stands or (entry is not None and entry.fields.custodian == host.id):
            operation = None if stands else _issue(host, inspection, asker, entry_id)
            found.append(Owed(grant=grant, entry=entry_id, operation=operation))
    return found


def note_patients(host: Host, inspection: Found[Inspection], grants: Sequence[Owed], now: UnixMillis) -> None:
    """Note for each grant that stands whom to tell of it, unless the legal basis forbids that; read in the vault."""
    releases = host.vault.releases
    for one in grants:
        stands = host.gateway.find(Grant, one.grant) is not None
        if not stands or releases.find_note(one.grant, NoteKind.PATIENT_TO_TELL) is not None:
            continue
        record = host.vault.records.find(one.entry)
        subject = record.subject_ref if record is not None else b""
        by = inspection.fields.asker or inspection.fields.regulator
        releases.put_note(Note(about=one.grant, kind=NoteKind.PATIENT_TO_TELL, by=by, time=now, body=subject))


def left_over(host: Host, inspection: Found[Inspection]) -> Sequence[Signed]:
    """Give what takes back the own grants that the end of an inspection did not name (it names 64 at most)."""
    if inspection.state not in _OVER:
        return ()
    ids = (_grant_of(host, inspection, entry) for entry in inspection.fields.content)
    living = [
        one for one in (host.gateway.find(Grant, case) for case in ids) if one is not None and one.state in LIVING
    ]
    drafts = [host.gateway.draft(GrantRevoke(paper=None), one.header.id, version=one.header.version) for one in living]
    return [Signed(core=draft.core) for draft in drafts]


def _issue(host: Host, inspection: Found[Inspection], asker: InstitutionId, entry: EntryId) -> Signed:
    drawn = _drawn(inspection, entry)
    command = _command(asker, entry, inspection.header.changed_time)
    return Signed(core=host.gateway.draft(command, refs=(inspection.header.id,), op=drawn, version=0).core)


def _command(asker: InstitutionId, entry: EntryId, begins: UnixMillis) -> GrantIssue:
    return GrantIssue(
        basis=Basis.STATUTORY,
        covered_by=None,
        recipient=asker,
        purpose=Purpose.HOPERAT,
        entries=(entry,),
        level_cap=4,
        begins=begins,
        ends=unix_millis(begins + GRANTED_FOR_MS),
        deliveries=1,
        depth=0,
    )


def _grant_of(host: Host, inspection: Found[Inspection], entry: EntryId) -> CaseId:
    anyone = inspection.fields.regulator  # the id follows from the operation id alone, not from the terms
    command = _command(anyone, entry, inspection.header.changed_time)
    return host.gateway.derive_id(command, _drawn(inspection, entry), (inspection.header.id,))


def _drawn(inspection: Found[Inspection], entry: EntryId) -> OpId:
    return op_id(tagged_hash(_TAG, inspection.header.id, entry)[:16])
