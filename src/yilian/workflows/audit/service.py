"""Disclosure events (IHE BALP) of both sides of a use: kept sealed at home, committed to on the ledger.

Source: IHE BALP 1.1, PrivacyDisclosure.Source and .Recipient. `X-Request-Id` ties both sides:
the operation id of the `use.reserve`.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from yilian.crypto.commitment import attachment_commitment
from yilian.engine.gateway import Gateway, Signed
from yilian.ledger.cases import Command, Found
from yilian.storage.vault import Vault
from yilian.storage.vault.audit import DisclosureEvent
from yilian.values import CaseId, InstitutionId, OpId, UnixMillis, digest
from yilian.workflows.audit.model import Disclosure, DisclosureReceived, DisclosureSent
from yilian.workflows.audit.table import disclosure_id
from yilian.workflows.consent.interface import Use

EVENT_TAG = "yilian/audit-event/v1"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure."
_ID = "urn:yilian:"


class Side(StrEnum):
    """Which side of a disclosure speaks."""

    SENT = "disclosure.sent"
    RECEIVED = "disclosure.received"


class Bookkeeper(Protocol):
    """What keeping disclosure events needs of an institution."""

    @property
    def id(self) -> InstitutionId:
        """Its id."""
        ...

    @property
    def gateway(self) -> Gateway:
        """Its hand on the ledger."""
        ...

    @property
    def vault(self) -> Vault:
        """Where its events are kept."""
        ...


def disclosure(
    keeper: Bookkeeper, use: Found[Use], request_id: OpId, *, recorded: UnixMillis, subject: bytes = b""
) -> Signed | None:
    """Keep this side's event of a use, durably, and give the operation that commits to it; None where it stands.

    Asked twice it gives the same event again, so that a crash between both steps loses nothing and doubles nothing.
    `request_id` is the operation id of the `use.reserve`, `recorded` when this side released or opened the data,
    `subject` the custodian's own reference of the patient, for its own event alone, which stays in the vault.
    """
    side = Side.SENT if use.fields.custodian == keeper.id else Side.RECEIVED
    chain, pair = keeper.gateway.engine.chain, disclosure_id(keeper.gateway.engine.chain, use.header.id)
    standing = keeper.gateway.find(Disclosure, pair)
    if standing is not None:
        there = standing.fields.source_event if side == Side.SENT else standing.fields.recipient_event
        if there is not None:
            return None
    kept = [event for event in keeper.vault.audit.of_use(use.header.id) if event.kind == side]
    if kept:
        event = kept[0]
    else:
        body, salt = audit_event(side, use, request_id, recorded=recorded, subject=subject), secrets.token_bytes(32)
        event = DisclosureEvent(
            kind=side.value,
            op_id=request_id,
            use_id=use.header.id,
            body=body,
            commitment=attachment_commitment(EVENT_TAG, chain, pair, salt, body),
            salt=salt,
        )
        keeper.vault.audit.append(event)
    return Signed(core=_core(keeper.gateway, side, event, pair=pair, standing=standing))


def audit_event(side: Side, use: Found[Use], request_id: OpId, *, recorded: UnixMillis, subject: bytes = b"") -> bytes:
    """Give the FHIR R4 AuditEvent of one side of a use, as JSON bytes."""
    fields, is_source = use.fields, side == Side.SENT
    resource: dict[str, object] = {
        "resourceType": "AuditEvent",
        "meta": {"profile": [_PROFILE + ("Source" if is_source else "Recipient")]},
        "type": _coding(_DCM, *(("110106", "Export") if is_source else ("110107", "Import"))),
        "subtype": [_coding("http://hl7.org/fhir/restful-interaction", "read", "read")],
        "action": "R" if is_source else "C",
        "recorded": _instant(recorded),
        "outcome": "0",
        "purposeOfEvent": [{"coding": [_coding(_PURPOSES, fields.purpose.value, fields.purpose.value)]}],
        "agent": _agents(
            fields.custodian, fields.recipient, fields.person.hex(), fields.role.value, is_source=is_source
        ),
        "source": {
            "observer": _reference((fields.custodian if is_source else fields.recipient).hex(), "Organization"),
            "type": [_coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": _entities(request_id, use, subject),
    }
    return msgspec.json.encode(resource)


def _agents(
    custodian: InstitutionId, recipient: InstitutionId, person: str, role: str, *, is_source: bool
) -> list[dict[str, object]]:
    return [
        {
            "type": {"coding": [_coding(_DCM, "110153", "Source Role ID")]},
            "who": _reference(custodian.hex(), "Organization"),
            "requestor": False,
        },
        {
            "type": {"coding": [_coding(_DCM, "110152", "Destination Role ID")]},
            "who": _reference(recipient.hex(), "Organization"),
            "requestor": False,
        },
        {
            "type": {
                "coding": [_coding(_ROLES, "CST" if is_source else "IRCP", "custodian" if is_source else "recipient")]
            },
            "role": [{"coding": [_coding("urn:yilian:role", role, role)]}],
            "who": {"identifier": {"system": _ID + "key", "value": person}},
            "requestor": True,
        },
    ]


def _entities(request_id: OpId, use: Found[Use], subject: bytes) -> list[dict[str, object]]:
    entities: list[dict[str, object]] = [
        {
            "what": {"identifier": {"system": _ID + "entry", "value": entry.hex()}},
            "type": _coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "2", "System Object"),
            "role": _coding("http://terminology.hl7.org/CodeSystem/object-role", "3", "Report"),
        }
        for entry in use.fields.entries
    ]
    if subject:
        entities.append(
            {
                "what": {"identifier": {"system": _ID + "subject", "value": subject.hex()}},
                "type": _coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "1", "Person"),
                "role": _coding("http://terminology.hl7.org/CodeSystem/object-role", "1", "Patient"),
            }
        )
    entities.append({"what": {"identifier": {"system": _ID + "grant", "value": use.fields.grant.hex()}}})
    entities.append({"what": {"identifier": {"system": _ID + "use", "value": use.header.id.hex()}}})
    entities.append(
        {
            "what": {"identifier": {"value": request_id.hex()}},
            "type": _coding(
                "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId", "X-Request-Id"
            ),
        }
    )
    return entities


def _core(
    gateway: Gateway, side: Side, event: DisclosureEvent, *, pair: CaseId, standing: Found[Disclosure] | None
) -> bytes:
    commitment = digest(event.commitment)
    command: Command = DisclosureSent(event=commitment) if side == Side.SENT else DisclosureReceived(event=commitment)
    version = standing.header.version if standing is not None else 0
    return gateway.draft(command, pair, refs=(event.use_id,), version=version).core


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def _reference(value: str, kind: str) -> dict[str, object]:
    return {"type": kind, "identifier": {"system": _ID + "institution", "value": value}}


def _instant(time: UnixMillis) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
