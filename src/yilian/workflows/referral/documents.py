"""What travels sealed in a referral: the request and the result, as FHIR R4 collections.

The request holds the patient as registered, a ServiceRequest, the screening as a RiskAssessment with rule, version and
class, and what belongs to no encounter; the result holds the patient and a Composition. None of it is on the ledger.
Source: FHIR R4 ServiceRequest, RiskAssessment, Composition.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from yilian.errors import VerificationError
from yilian.values import Day, EntryId, civil_from_day
from yilian.workflows.referral.model import Urgency

ENTRY_SYSTEM, RULE_SYSTEM, CLASS_SYSTEM = "urn:yilian:entry", "urn:yilian:screening-rule", "urn:yilian:risk-class"
WS_T_500_SYSTEM = "urn:oid:2.16.156.10011.2.4"
PATIENT, REQUEST, RISK, RESULT = (
    "urn:yilian:patient",
    "urn:yilian:service-request",
    "urn:yilian:risk-assessment",
    "urn:yilian:result",
)
"""fullUrls inside the collection."""
_PRIORITY = {Urgency.EMERGENCY: "stat", Urgency.URGENT: "urgent", Urgency.ROUTINE: "routine"}
_OPEN, _CLOSE = b'{"resourceType":"Bundle","type":"collection","entry":[', b"]}"


class RiskStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What a screening said: rule, version of its constants, class and percent over ten years."""

    model: str
    version: str
    risk_class: str
    percent: float


class ReferralRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver's physician reads before deciding."""

    purpose: str
    specialty: str
    priority: str
    risk: RiskStatement | None
    records: tuple[str, ...]
    """Ids of the entries that go along, hexadecimal."""
    summary: tuple[str, ...]
    """Types of the resources that belong to no encounter, as they follow."""


class ReferralResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the referrer's physician reads."""

    kind: str
    text: str


class _Entry(msgspec.Struct):
    resource: msgspec.Raw


class _Bundle(msgspec.Struct):
    entry: list[_Entry] = []


class _Kind(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name


def build_request(
    *,
    patient: bytes,
    purpose: str,
    specialty: str,
    urgency: Urgency,
    authored: Day,
    receiver: str,
    records: Sequence[EntryId],
    risk: RiskStatement | None = None,
    summary: Sequence[bytes] = (),
) -> bytes:
    """Write the request.

    Args:
        patient: Patient resource, JSON.
        purpose: why, in the physician's words.
        specialty: which service is asked for.
        urgency: becomes the priority.
        authored: today.
        receiver: display name of the institution asked.
        records: entries that go along.
        risk: what a screening said.
        summary: entries that belong to no encounter, bytes as received.
    """
    year, month, day = civil_from_day(authored)
    request: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "priority": _PRIORITY[urgency],
        "subject": {"reference": PATIENT},
        "authoredOn": f"{year:04}-{month:02}-{day:02}",
        "performer": [{"display": receiver}],
        "performerType": {"text": specialty},
        "reasonCode": [{"text": purpose}],
        "supportingInfo": [{"identifier": {"system": ENTRY_SYSTEM, "value": entry.hex()}} for entry in records],
    }
    parts = [_entry(PATIENT, patient), _entry(REQUEST, msgspec.json.encode(request))]
    if risk is not None:
        request["reasonReference"] = [{"reference": RISK}]
        parts[1] = _entry(REQUEST, msgspec.json.encode(request))
        parts.append(_entry(RISK, msgspec.json.encode(_risk(risk))))
    return _OPEN + b",".join((*parts, *summary)) + _CLOSE


def read_request(content: bytes) -> ReferralRequest:
    """Read a request.

    Raises:
        VerificationError: the bytes are no request of ours.
    """
    resources = _resources(content)
    request = next((item for kind, item in resources if kind == "ServiceRequest"), None)
    if request is None:
        raise VerificationError(f"{len(content)} bytes are no referral request: check which entry was opened")
    risk = next((item for kind, item in resources if kind == "RiskAssessment"), None)
    own = {"Patient", "ServiceRequest", "RiskAssessment"}
    found: dict[str, Any] = msgspec.json.decode(request)
    try:
        return ReferralRequest(
            purpose=found["reasonCode"][0]["text"],
            specialty=found["performerType"]["text"],
            priority=found["priority"],
            risk=None if risk is None else _read_risk(msgspec.json.decode(risk)),
            records=tuple(item["identifier"]["value"] for item in found["supportingInfo"]),
            summary=tuple(kind for kind, _ in resources if kind not in own),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise VerificationError(
            "the request lacks an element, expected one written by yilian: ask for it anew"
        ) from error


def build_result(*, patient: bytes, kind: str, title: str, text: str, authored: Day) -> bytes:
    """Write the result: `kind` is its WS/T 500 class, `text` the physician's words."""
    year, month, day = civil_from_day(authored)
    composition = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"coding": [{"system": WS_T_500_SYSTEM, "code": kind}]},
        "subject": {"reference": PATIENT},
        "date": f"{year:04}-{month:02}-{day:02}",
        "title": title,
        "section": [
            {
                "title": title,
                "text": {
                    "status": "additional",
                    "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{escape(text, quote=False)}</div>',
                },
            }
        ],
        "extension": [{"url": RESULT, "valueString": text}],
    }
    parts = (_entry(PATIENT, patient), _entry(RESULT, msgspec.json.encode(composition)))
    return _OPEN + b",".join(parts) + _CLOSE


def read_result(content: bytes) -> ReferralResult:
    """Read a result.

    Raises:
        VerificationError: the bytes are no result of ours.
    """
    found = next((item for kind, item in _resources(content) if kind == "Composition"), None)
    if found is None:
        raise VerificationError(f"{len(content)} bytes are no result of a referral: check which entry was opened")
    composition: dict[str, Any] = msgspec.json.decode(found)
    try:
        kind = composition["type"]["coding"][0]["code"]
        text = next(item["valueString"] for item in composition["extension"] if item["url"] == RESULT)
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise VerificationError(
            "the result lacks an element, expected one written by yilian: ask for it anew"
        ) from error
    return ReferralResult(kind=kind, text=text)


def patient_of(content: bytes) -> bytes | None:
    """Give the Patient resource of a collection as it stands there, or None."""
    return next((bytes(item) for kind, item in _resources(content) if kind == "Patient"), None)


def _resources(content: bytes) -> list[tuple[str, msgspec.Raw]]:
    try:
        bundle = msgspec.json.decode(content, type=_Bundle)
        return [(msgspec.json.decode(item.resource, type=_Kind).resourceType, item.resource) for item in bundle.entry]
    except msgspec.DecodeError as error:
        raise VerificationError(f"{len(content)} bytes are no FHIR collection: check which entry was opened") from error


def _risk(risk: RiskStatement) -> dict[str, Any]:
    return {
        "resourceType": "RiskAssessment",
        "status": "final",
        "subject": {"reference": PATIENT},
        "method": {"coding": [{"system": RULE_SYSTEM, "version": risk.version, "code": risk.model}]},
        "prediction": [
            {
                "probabilityDecimal": risk.percent,
                "qualitativeRisk": {"coding": [{"system": CLASS_SYSTEM, "code": risk.risk_class}]},
            }
        ],
    }


def _read_risk(found: dict[str, Any]) -> RiskStatement:
    method = found["method"]["coding"][0]
    prediction = found["prediction"][0]
    return RiskStatement(
        model=method["code"],
        version=method["version"],
        risk_class=prediction["qualitativeRisk"]["coding"][0]["code"],
        percent=prediction["probabilityDecimal"],
    )


def _entry(full_url: str, resource: bytes) -> bytes:
    return b'{"fullUrl":"' + full_url.encode() + b'","resource":' + resource + b"}"
