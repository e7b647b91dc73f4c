"""Two acts of supervision: an emergency that is told and reviewed, and a sample of the paper behind a consent."""

from __future__ import annotations

from typing import Any

import msgspec

from yilian.crypto.suite import sha256
from yilian.demo.consortium import HOSPITALS, PLACES, REGULATOR, Place
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.errors import NotFoundError
from yilian.values import case_id
from yilian.workflows.audit.model import JudgePaper, OpenPaper, RequestPaper, Verdict
from yilian.workflows.consent.emergency_model import (
    EmergencyClose,
    EmergencyCosign,
    EmergencyJudge,
    EmergencyNotify,
    EmergencyState,
)

MINUTES = 120


def have_an_emergency(stage: Stage) -> None:
    """Let a resident who was referred come to the hospital again, unable to speak."""
    if stage.is_done("emergency") or "referral" not in stage.done.shown:
        return
    tell = stage.tell
    tell.chapter("emergency")
    fields = stage.face(REGULATOR, "inspector").case(stage.done.shown["referral"])["fields"]
    hospital, home = _place(stage, fields["receiver"]), _place(stage, fields["referrer"])
    physician = stage.face(hospital, "physician")
    asked = {
        "custodian": stage.id(home),
        "identifiers": _identifiers(physician.record(fields["request"])),
        "reason": "unconscious",
        "minutes": MINUTES,
    }
    case = physician.post("/v1/emergencies", asked)["case_id"]
    tell.say("emergency_opened", receiver=stage.name(hospital), case=short(case), name=stage.name(home))
    if physician.wait_for(case, EmergencyState.EMERGENCY_ACTIVE, EmergencyState.AWAITING_COSIGNATURE)["state"] != (
        EmergencyState.EMERGENCY_ACTIVE
    ):
        other = next(place for place in HOSPITALS if place is not hospital)
        stage.face(other, "physician").take(EmergencyCosign(), case)
        tell.detail("emergency_cosigned", name=stage.name(other))
    found = physician.wait_for(case, EmergencyState.EMERGENCY_ACTIVE)
    fetched = physician.get_records(found["fields"]["grant"])
    physician.take(EmergencyClose(), case)
    tell.say(
        "emergency_matched",
        name=stage.name(home),
        receiver=stage.name(hospital),
        entries=len(fetched["entries"]),
    )
    notice = EmergencyNotify(notice=sha256(tell.words("notes", "notice").encode()))
    stage.face(home, "data-officer").take(notice, case)
    finding = EmergencyJudge(justified=True, finding=sha256(tell.words("notes", "finding").encode()))
    stage.face(REGULATOR, "inspector").take(finding, case)
    tell.say("emergency_reviewed", verdict=tell.words("story", "justified"))
    stage.finish("emergency")


def check_a_paper(stage: Stage) -> None:
    """Let the auditor ask one home for the paper behind its signature, and look at it."""
    consent = stage.done.shown.get("consent")
    if stage.is_done("paper") or consent is None:
        return
    auditor = stage.face(REGULATOR, "auditor")
    case = auditor.take(RequestPaper(consent=case_id(bytes.fromhex(consent))))["case_id"]
    fields = auditor.case(case)["fields"]
    home = _place(stage, fields["home"])
    stage.face(home, "data-officer").take(OpenPaper(), case)
    stage.catch_up(REGULATOR)
    auditor.get_records(auditor.case(case)["fields"]["grant"])
    scan = auditor.record(fields["entry"])
    verdict = Verdict.MATCHES if scan.startswith(b"%PDF") else Verdict.OTHER_PAPER
    auditor.take(JudgePaper(verdict=verdict), case)
    stage.tell.say("paper", name=stage.name(home))
    stage.finish("paper")


def _place(stage: Stage, institution: str) -> Place:
    return next(place for place in PLACES if stage.ids.get(place.slug) == institution)


def _identifiers(content: bytes) -> list[str]:
    """Read by what the patient of a request is found."""
    entries: list[dict[str, Any]] = msgspec.json.decode(content)["entry"]
    for entry in entries:
        if entry["resource"]["resourceType"] == "Patient":
            named = entry["resource"].get("identifier", ())
            return [f"{item.get('system', '')}|{item['value']}" for item in named if item.get("value")]
    raise NotFoundError("the request names no patient: ask the referrer")
