"""The act of referrals: every resident at high risk goes to a hospital and comes back with a result.

The first is told in full; the others are walked side by side, as many hands work in five institutions. One is rejected;
one is taken back for another hospital, which asks for more before it accepts.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import msgspec

from yilian.demo.consortium import COMMUNITIES, HOSPITALS, Place
from yilian.demo.faces import ids
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.values import DAY, day_of, unix_millis
from yilian.workflows.referral.model import (
    Accept,
    Acknowledge,
    Arrive,
    Ask,
    Cancel,
    CancelReason,
    Missing,
    Reject,
    RejectReason,
    Schedule,
    State,
    Supply,
)

HANDS = 6
SCAN = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
"""An empty PDF: the scan of a signature that nobody gave."""
_TOLD, _REJECTED, _REDIRECTED = "told", "rejected", "redirected"


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    """One referral: from where to where, for whom (as the referrer's vault calls the patient)."""

    referrer: Place
    receiver: Place
    subject: str
    turn: str = ""
    """What happens on the way, where that is not the ordinary course."""


def refer_all(stage: Stage) -> None:
    """Refer everybody of class HIGH, and walk each referral to its end."""
    if stage.is_done("referring"):
        return
    tell = stage.tell
    tell.chapter("referring")
    journeys = plan(stage)
    turns: Counter[str] = Counter()
    for journey in (journey for journey in journeys if journey.turn == _TOLD):
        walk(stage, journey)
    rest = [journey for journey in journeys if journey.turn != _TOLD]
    with tell.work("walking") as report, ThreadPoolExecutor(HANDS, thread_name_prefix="hand") as hands:
        futures = {hands.submit(walk, stage, journey): journey for journey in rest}
        for number, future in enumerate(as_completed(futures), 1):
            turns[future.result()] += 1
            report({"done": number, "total": len(rest)})
    tell.say("referred_many", count=len(journeys) + turns[_REDIRECTED])
    tell.say(
        "closed_many",
        closed=len(journeys) - turns[_REJECTED],
        rejected=turns[_REJECTED],
        redirected=turns[_REDIRECTED],
    )
    stage.finish("referring")


def plan(stage: Stage) -> list[Journey]:
    """Decide who goes where: the communities' residents of class HIGH who were not referred yet."""
    journeys: list[Journey] = []
    for place in COMMUNITIES:
        found = stage.face(place, "physician").get("/v1/screenings/risks", risk_class="high")
        subjects = [item["subject"] for item in found if not item["referred"]]
        for number, subject in enumerate(subjects):
            receiver = HOSPITALS[number % len(HOSPITALS)]
            journeys.append(Journey(referrer=place, receiver=receiver, subject=subject))
    for turn, number in ((_TOLD, 0), (_REDIRECTED, 1), (_REJECTED, 2)):
        if number < len(journeys):
            journeys[number] = msgspec.structs.replace(journeys[number], turn=turn)
    return journeys


def walk(stage: Stage, journey: Journey) -> str:
    """Walk one referral on paper to its end, and give the turn that it took."""
    asked = _refer(stage, journey)
    case, records = asked["case_id"], asked["records"]
    if journey.turn == _TOLD:
        stage.tell.say(
            "referred",
            name=stage.name(journey.referrer),
            receiver=stage.name(journey.receiver),
            case=short(case),
            records=len(records),
        )
    if journey.turn == _REDIRECTED and len(records) > 1:
        _redirect(stage, journey, case, records)
        return _REDIRECTED
    look(stage, journey, case)
    if journey.turn == _REJECTED:
        stage.face(journey.receiver, "physician").take(Reject(reason=RejectReason.OUT_OF_SCOPE), case)
        return _REJECTED
    treat(stage, journey, case)
    return journey.turn


def treat(stage: Stage, journey: Journey, case: str) -> None:
    """Take a received referral to its end: accept, fetch, schedule, arrive, complete, fetch the result, acknowledge."""
    receiver, tell = stage.face(journey.receiver, "physician"), stage.tell
    receiver.take(Accept(), case)
    fields = receiver.case(case)["fields"]
    fetched = receiver.get_records(fields["grants"][1])
    tomorrow = day_of(unix_millis(receiver.get("/v1/ledger")["time"] + DAY))
    receiver.take(Schedule(day=tomorrow), case)
    receiver.take(Arrive(), case)
    note = {"text": tell.words("notes", "result"), "title": tell.words("notes", "title")}
    receiver.post(f"/v1/referrals/{case}/result", note)
    if journey.turn == _TOLD:
        tell.detail("accepted", records=len(fetched["entries"]))
        stage.show(entry=fetched["entries"][0], referral=case, consent=fields["consent"])
    _close(stage, journey, case)


def _refer(stage: Stage, journey: Journey, records: Sequence[str] = ()) -> dict[str, Any]:
    body = {
        "subject": journey.subject,
        "receiver": stage.id(journey.receiver),
        "purpose": stage.tell.words("notes", "purpose"),
        "specialty": "cardiology",
        "paper": base64.b64encode(SCAN).decode(),
        "language": stage.tell.language,
        "records": list(records),
    }
    asked: dict[str, Any] = stage.face(journey.referrer, "physician").post("/v1/referrals", body)
    return asked


def look(stage: Stage, journey: Journey, case: str) -> None:
    """Wait until a referral was verified and received, then fetch and read the request."""
    receiver = stage.face(journey.receiver, "physician")
    fields = receiver.wait_for(case, State.RECEIVED)["fields"]
    receiver.get_records(fields["grants"][0])
    content = receiver.record(fields["request"])
    if journey.turn == _TOLD:
        stage.tell.say("received", receiver=stage.name(journey.receiver))
        stage.tell.detail("read_request", **_read(stage, content))


def _close(stage: Stage, journey: Journey, case: str) -> None:
    referrer = stage.face(journey.referrer, "physician")
    fields = referrer.wait_for(case, State.COMPLETED)["fields"]
    use = referrer.get_records(fields["grants"][2])["use_id"]
    referrer.take(Acknowledge(), case, refs=[use])
    if journey.turn == _TOLD:
        stage.tell.detail("closed", name=stage.name(journey.referrer), case=short(case))


def _redirect(stage: Stage, journey: Journey, case: str, records: Sequence[str]) -> None:
    """Take the referral back, ask the other hospital with one record less, and supply it when asked for."""
    referrer = stage.face(journey.referrer, "physician")
    # a home speaks for the patient, but it is the physician who takes the request back: no paper is needed
    referrer.take(Cancel(reason=CancelReason.OTHER_RECEIVER, paper=None), case)
    other = next(place for place in HOSPITALS if place is not journey.receiver)
    journey = msgspec.structs.replace(journey, receiver=other)
    again = _refer(stage, journey, records[:-1])["case_id"]
    look(stage, journey, again)
    stage.face(other, "physician").take(Ask(missing=(Missing.LABORATORY_REPORT,)), again)
    referrer.take(Supply(add=ids(records[-1:]), drop=()), again)
    stage.face(other, "physician").wait_for(again, State.RECEIVED)
    treat(stage, journey, again)


def _read(stage: Stage, content: bytes) -> dict[str, object]:
    """Give what the physician reads; of given data no name."""
    patient = stage.tell.words("notes", "unnamed")
    if not stage.is_anonymous:
        patient = _name_in(msgspec.json.decode(content).get("entry", ())) or patient
    return {"text": stage.tell.words("notes", "purpose"), "patient": patient}


def _name_in(entries: Iterable[dict[str, Any]]) -> str:
    for entry in entries:
        resource = entry.get("resource", {})
        if resource.get("resourceType") == "Patient":
            for name in resource.get("name", ()):
                return str(name.get("text") or name.get("family", ""))
    return ""
