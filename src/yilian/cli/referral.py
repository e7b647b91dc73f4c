"""`yilian referral`: refer a patient, answer a referral, fetch what it opened."""

from __future__ import annotations

import base64
import mimetypes
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from yilian.cli.access import As, DeviceKey, HomeOption, KeyPassphrase, read_bytes
from yilian.cli.fields import field
from yilian.cli.output import coded, is_json, language, progress, say, show, table
from yilian.cli.record import fetch_grant
from yilian.cli.steps import (
    HOME,
    CaseArgument,
    Json,
    Limit,
    Paper,
    States,
    Step,
    Verb,
    WalletFile,
    WalletPassphrase,
    Who,
    add_any_step,
    add_verb,
    colleague,
    hint,
    short,
    show_case,
    show_cases,
    slug_of,
    take,
    take_for_patient,
)
from yilian.errors import NotFoundError, SettingsError, VerificationError

RECEPTION_S, LAG_S, POLL_S = 60.0, 2.0, 0.1
app = typer.Typer(
    no_args_is_help=True, help=say("转诊：发起、接诊、调取、回复。", "Referrals: create, accept, fetch, answer.")
)


@app.command(
    help=say(
        "转诊一名患者（医师）：封存并发布转诊单与同意书扫描件，见证签署同意，发起转诊。",
        "Refer a patient (as a physician): seal and publish request and signed paper, witness the consent, open the "
        "referral.",
    )
    + "\n\nExample: yilian referral create --subject REF --to hospital --purpose 'high risk' --paper consent.pdf "
    "--as centre-physician --home h"
)
def create(
    *,
    subject: Annotated[str, typer.Option(help=say("患者的本地代号。", "The patient, as this institution names it."))],
    to: Annotated[str, typer.Option(help=say("接收机构。", "Receiver: name or id."))],
    purpose: Annotated[
        str, typer.Option(help=say("转诊目的，只给接诊医师看。", "For the receiving physician; sealed."))
    ],
    paper: Annotated[Path, typer.Option(help=say("签署的同意书扫描件。", "Scan of the signed consent."))],
    urgency: Annotated[str, typer.Option(help="emergency, urgent, routine")] = "routine",
    specialty: Annotated[str, typer.Option(help=say("专科，封存。", "Specialty; sealed."))] = "",
    record: Annotated[
        list[str] | None,
        typer.Option(help=say("随附的条目；不给则选最相关的。", "Entries that go along; the most relevant otherwise.")),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help=say("可调取天数。", "Days to fetch in."))] = 90,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Refer a patient."""
    who = Who(as_, home)
    kind = mimetypes.guess_type(paper.name)[0] or "application/octet-stream"
    with who.client() as client:
        asked: Json = {
            "subject": subject,
            "receiver": client.institution(to),
            "purpose": purpose,
            "paper": base64.b64encode(read_bytes(paper)).decode(),
            "paper_type": kind,
            "urgency": urgency,
            "specialty": specialty,
            "records": [client.resolve(one) for one in record or ()],
            "days": days,
            "language": say("zh", "en"),
        }
        done = client.post("/v1/referrals", asked)
        receiver = slug_of(client, asked["receiver"])
    show(done)
    hint(who, f"referral accept {short(done['case_id'])}", as_=colleague(who, receiver, "physician"))


@app.command(
    help=say(
        "接诊（医师）：病历随即向本院开放。刚发起的转诊会先等节点核验、收件。",
        "Take the patient (as a physician); opens the records. A referral just made is waited for until the nodes have "
        "verified and received it.",
    )
    + "\n\nExample: yilian referral accept REFERRAL --as hospital-physician --home h"
)
def accept(
    case: CaseArgument,
    *,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Accept a referral."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        target = client.resolve(case)
        _await_reception(client, target)
        answer = take(who, client, Step("referral", "referral.accept", {}, case=target))
    show(answer)
    hint(who, f"referral fetch {short(target)}")


@app.command(
    "list",
    help=say("列出本机构的转诊。", "List the referrals of this institution.")
    + "\n\nExample: yilian referral list --state received --as hospital-physician --home h",
)
def list_(*, state: States = None, limit: Limit = 20, as_: As = "", home: HomeOption = HOME) -> None:
    """List referrals."""
    who = Who(as_, home)
    columns = (
        ("referrer", say("转出", "from")),
        ("receiver", say("接收", "to")),
        ("urgency", say("缓急", "urgency")),
        ("deadline", say("期限", "deadline")),
    )
    with who.client() as client:
        mine = client.me()["institution"]
        rows = show_cases(client, "referral", columns, limit=limit, state=tuple(state or ()), institution=mine)
    if rows:
        hint(who, f"referral show {short(rows[0]['case_id'])}")


@app.command(
    "show",
    help=say("查看一份转诊及现在可做的事。", "Show a referral and what can be done now.")
    + "\n\nExample: yilian referral show REFERRAL --as hospital-physician --home h",
)
def show_(case: CaseArgument, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Show a referral."""
    who = Who(as_, home)
    with who.client() as client:
        found = show_case(client, case)
        next_ = _next(found, client.me()["institution"])
    if next_:
        hint(who, next_)


@app.command(
    help=say(
        "调取这份转诊授权给本机构的一切：转诊单、病历或结果。",
        "Fetch all that the referral opened to this institution: request, records or result.",
    )
    + "\n\nExample: yilian referral fetch REFERRAL --as hospital-physician --home h"
)
def fetch(
    case: CaseArgument,
    *,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Fetch what a referral opened."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        found = client.case(client.resolve(case))
        mine = client.me()["institution"]
        grants = [one for one in found["fields"]["grants"] if _is_open_to(client, one, mine)]
        if not grants:
            raise NotFoundError(f"referral {found['case_id']} opened nothing to this institution yet: accept it first")
        with progress(say("调取", "fetch"), len(grants)) as told:
            uses = []
            for number, grant in enumerate(grants, 1):
                uses.append(fetch_grant(who, client, grant, []))
                told(number)
        next_ = _next(client.case(found["case_id"]), mine)
    _show_uses(uses)
    if not all(one["verified"] for one in uses):
        raise VerificationError(f"not every use of referral {found['case_id']} was confirmed: ask the custodian")
    hint(who, next_ or f"record show {short(uses[-1]['entries'][0])}")


@app.command(
    help=say("索取缺少的资料。", "Ask for what is missing.")
    + "\n\nExample: yilian referral ask REFERRAL --missing imaging --as hospital-physician --home h"
)
def ask(
    case: CaseArgument,
    *,
    missing: Annotated[list[str], typer.Option(help=say("缺少的资料代码。", "Code of what is missing."))],
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Ask for what is missing."""
    _take(Who(as_, home, key_file, key_passphrase_file), "ask", case, {"missing": missing})


@app.command(
    help=say("补充资料。", "Supply what was asked for.")
    + "\n\nExample: yilian referral supply REFERRAL --add ENTRY --as centre-physician --home h"
)
def supply(
    case: CaseArgument,
    *,
    add: Annotated[list[str] | None, typer.Option(help=say("增加的条目。", "Entry to add."))] = None,
    drop: Annotated[list[str] | None, typer.Option(help=say("撤下的条目。", "Entry to drop."))] = None,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Supply records."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        body = {name: [client.resolve(one) for one in ids or ()] for name, ids in (("add", add), ("drop", drop))}
    _take(who, "supply", case, body)


@app.command(
    help=say("不予接诊。", "Do not take the patient.")
    + "\n\nExample: yilian referral reject REFERRAL --reason no_bed --as hospital-physician --home h"
)
def reject(
    case: CaseArgument,
    *,
    reason: Annotated[str, typer.Option(help="no_bed, out_of_scope, duplicate, patient_refused, insufficient_data")],
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Reject a referral."""
    _take(Who(as_, home, key_file, key_passphrase_file), "reject", case, {"reason": reason})


@app.command(
    help=say("预约就诊日期（再次预约即改期）。", "Give the day of the appointment; again: move it.")
    + "\n\nExample: yilian referral schedule REFERRAL --day 2026-12-01 --as hospital-physician --home h"
)
def schedule(
    case: CaseArgument,
    *,
    day: Annotated[str, typer.Option(help=say("日期，年-月-日。", "Day, year-month-day."))],
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Schedule the visit."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        target = client.resolve(case)
        verb = "reschedule" if client.case(target)["state"] == "scheduled" else "schedule"
    _take(who, verb, target, {"day": _day(day)})
    hint(who, f"referral arrive {short(target)}")


@app.command(
    help=say(
        "回复结果（医师）：封存、发布并授权给转出机构。",
        "Give the result (as a physician): sealed, published, granted to the referrer.",
    )
    + "\n\nExample: yilian referral complete REFERRAL --text 'Seen, treated' --as hospital-physician --home h"
)
def complete(
    case: CaseArgument,
    *,
    text: Annotated[str, typer.Option(help=say("结果正文。", "Text of the result."))] = "",
    text_file: Annotated[Path | None, typer.Option(help=say("正文文件。", "File with the text."))] = None,
    title: Annotated[str, typer.Option(help=say("标题。", "Title."))] = "出院小结",
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Complete a referral."""
    who = Who(as_, home)
    said = read_bytes(text_file).decode() if text_file is not None else text
    if not said:
        raise SettingsError("the result has no text, expected --text or --text-file: write what was found and done")
    with who.client() as client:
        target = client.resolve(case)
        done = client.post(f"/v1/referrals/{target}/result", {"text": said, "title": title})
        referrer = slug_of(client, client.case(target)["fields"]["referrer"])
    show(done)
    hint(who, f"referral fetch {short(target)}", as_=colleague(who, referrer, "physician"))


@app.command(
    help=say("确认已阅结果，转诊结束。", "Say that the result was read; closes the referral.")
    + "\n\nExample: yilian referral acknowledge REFERRAL --as centre-physician --home h"
)
def acknowledge(
    case: CaseArgument,
    *,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Acknowledge the result."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        target = client.resolve(case)
        result = client.case(target)["fields"]["result"]
        mine = client.me()["institution"]
        read = _use_of(client, result, mine)
        refs = [read] if read is not None else []
        answer = take(who, client, Step("referral", "referral.acknowledge", {}, case=target, refs=refs))
        members = client.get("/v1/network/members")
    show(answer)
    regulator = next((one["slug"] or one["name"] for one in members if one["kind"] == "regulator"), "regulator")
    hint(who, f"audit case {short(target)}", as_=colleague(who, regulator, "inspector"))


@app.command(
    help=say("撤回转诊（医师，或患者）。", "Take the request back (the physician, or the patient).")
    + "\n\nExample: yilian referral cancel REFERRAL --reason other_receiver --as centre-physician --home h"
)
def cancel(
    case: CaseArgument,
    *,
    reason: Annotated[
        str, typer.Option(help="patient_refused, no_longer_needed, other_receiver, duplicate, made_in_error")
    ] = "no_longer_needed",
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Cancel a referral."""
    who = Who(as_, home, key_file, key_passphrase_file)
    step = Step("referral", "referral.cancel", {"reason": reason}, case=case)
    answer = take_for_patient(who, step, wallet=wallet, passphrase_file=passphrase_file, paper=paper)
    show(answer)


def _take(who: Who, verb: str, case: str, body: dict[str, Any]) -> None:
    with who.client() as client:
        show(take(who, client, Step("referral", f"referral.{verb}", body, case=client.resolve(case))))


def _is_open_to(client: Any, grant: str, institution: str) -> bool:  # noqa: ANN401 - a Client, loaded late
    found = client.case(grant)
    return bool(found["fields"]["recipient"] == institution and found["state"] == "issued")


def _await_reception(client: Any, case: str) -> None:  # noqa: ANN401 - a Client
    """Wait while the nodes verify and receive a referral, as they do by themselves."""
    deadline = time.monotonic() + RECEPTION_S
    while client.case(case)["state"] in {"requested", "verified"} and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _show_uses(uses: list[Json]) -> None:
    if is_json():
        show({"uses": uses} if len(uses) > 1 else uses[0])
        return
    columns = [(name, field(name, language())) for name in ("use_id", "state", "entries", "verified", "seconds")]
    table([one | {"use_id": short(one["use_id"]), "state": coded(one["state"])} for one in uses], columns)


def _use_of(client: Any, entry: str, institution: str) -> str | None:  # noqa: ANN401 - a Client
    """Find the confirmed use by which an institution read an entry; the read model may be a moment behind."""
    deadline = time.monotonic() + LAG_S
    while True:
        uses = client.pages("/v1/cases", kind="use", state="confirmed", institution=institution, position="recipient")
        found = next((str(one["case_id"]) for one in uses if entry in one["fields"]["entries"]), None)
        if found is not None or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def _next(found: Json, mine: str) -> str:
    """Give the verb that comes next for an institution, empty where it waits for others."""
    case, fields = short(found["case_id"]), found["fields"]
    receiver = {
        "received": f"referral accept {case}",
        "accepted": f"referral arrive {case}",
        "scheduled": f"referral arrive {case}",
        "in_care": f'referral complete {case} --text "{_example_result()}"',
    }
    referrer = {"need_info": f"referral supply {case} --add ENTRY", "completed": f"referral acknowledge {case}"}
    if mine == fields["receiver"]:
        return receiver.get(found["state"], "")
    return referrer.get(found["state"], "") if mine == fields["referrer"] else ""


def _day(text: str) -> int:
    from yilian.values import day_from_civil

    try:
        year, month, day = (int(part) for part in text.split("-"))
        return day_from_civil(year, month, day)
    except ValueError as error:
        raise SettingsError(f"--day is {text} ({error}), expected year-month-day: write 2026-12-01") from None


def _complete_next(who: Who, answer: Json) -> None:
    hint(who, f'referral complete {short(answer["case_id"])} --text "{_example_result()}"')


def _example_result() -> str:
    return say("已评估，回社区随访", "assessed, follow-up in the community")


add_verb(
    app,
    Verb(
        name="arrive",
        workflow="referral",
        command="referral.arrive",
        zh="登记患者到院。",
        en="Say that the patient is here.",
        example="yilian referral arrive REFERRAL --as hospital-physician --home h",
        following=_complete_next,
    ),
)
add_any_step(app, "referral", "yilian referral step referral.no_show REFERRAL --as hospital-data-officer --home h")
