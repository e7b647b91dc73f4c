"""The last act: the regulator asks, and everybody's automatic work comes to rest before anything is counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from yilian.demo.consortium import REGULATOR
from yilian.demo.faces import wait_until
from yilian.demo.stage import Stage
from yilian.demo.supervising import check_a_paper
from yilian.demo.telling import short
from yilian.web.kit.text import words

CHINA = timezone(timedelta(hours=8))
CONSENT = "yilian.workflows.consent"
MOST_ROWS = 4
REST_S = 120.0
_PENDING_USES = ("reserved", "delivered")
_PENDING_REFERRALS = ("requested", "verified")


def rest(stage: Stage) -> None:
    """Wait until nothing is pending: deliveries confirmed and on record at both sides, the read model up to date."""
    auditor = stage.face(REGULATOR, "auditor")

    def is_quiet() -> bool:
        stage.catch_up(REGULATOR)
        ledger = auditor.get("/v1/ledger")
        if ledger["projected"] < ledger["height"] or auditor.get("/v1/audit/unmatched")["rows"]:
            return False
        pending = _any(stage, "use", _PENDING_USES) or _any(stage, "referral", _PENDING_REFERRALS)
        owed = any(
            not row["fields"]["copies"] or not row["fields"]["stopped"] for row in _all(stage, "grant", "revoked")
        )
        return not pending and not owed

    if not is_quiet():
        stage.tell.say("resting")
        wait_until(is_quiet, "all deliveries to be on record at both sides", REST_S)


def ask(stage: Stage) -> None:
    """Ask who got a record, how a referral went, and whether anything is one-sided."""
    tell, shown = stage.tell, stage.done.shown
    tell.chapter("auditing")
    inspector = stage.face(REGULATOR, "inspector")
    for name in ("entry", "passed_on"):
        if name in shown:
            tell.say("who", entry=short(shown[name]))
            rows = inspector.get("/v1/audit/who", entry=shown[name])["rows"]
            for row in rows[:MOST_ROWS]:
                tell.under(_row(stage, row))
    if "referral" in shown:
        (course,) = inspector.get(f"/v1/audit/case/{shown['referral']}")["rows"]
        steps = course["steps"]
        tell.say(
            "course",
            case=short(shown["referral"]),
            steps=len(steps),
            cases=len(course["related"]),
            first=_time(steps[0]["time"]),
            last=_time(steps[-1]["time"]),
        )
    check_a_paper(stage)
    rest(stage)
    gaps = inspector.get("/v1/audit/unmatched")["rows"]
    if gaps:
        tell.say("unmatched_some", count=len(gaps))
    else:
        tell.say("unmatched_none", pairs=len(inspector.get("/v1/audit/who")["rows"]))


def _row(stage: Stage, row: dict[str, Any]) -> str:
    names = [stage.name_of(item["recipient"]) for item in row["passed_on"]]
    onward = stage.tell.words("story", "onward", {"names": ", ".join(names)}) if names else ""
    scope = row["scope"]
    values = {
        "time": _time(row["delivered_at"]),
        "recipient": stage.name_of(row["recipient"]),
        "granter": stage.name_of(row["granted_by"]),
        "why": stage.tell.join(_why(stage, scope)),
        "ends": _time(scope["ends"])[:10],
        "first": _numbers(row["first_number"], row["last_number"]),
        "allowed": row["allowed"],
        "onward": onward,
    }
    return stage.tell.words("story", "who_row", values)


def _why(stage: Stage, scope: dict[str, Any]) -> list[str]:
    """Give basis and purpose in words, once where these are the same."""
    return list(
        dict.fromkeys(words(CONSENT, stage.tell.language, "values", scope[name]) for name in ("basis", "purpose"))
    )


def _numbers(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _time(millis: int) -> str:
    return f"{datetime.fromtimestamp(millis / 1000, UTC).astimezone(CHINA):%Y-%m-%d %H:%M:%S+08}"


def _any(stage: Stage, kind: str, states: Sequence[str]) -> bool:
    return any(_all(stage, kind, state) for state in states)


def _all(stage: Stage, kind: str, state: str) -> list[dict[str, Any]]:
    return list(stage.face(REGULATOR, "auditor").pages("/v1/cases", kind=kind, state=[state], limit=200))
