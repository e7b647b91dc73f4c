"""`yilian grant`: who may fetch which entries, how often: issue, pass on, halt, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from yilian.cli.access import As, DeviceKey, HomeOption, KeyPassphrase
from yilian.cli.output import say, show
from yilian.cli.steps import (
    HOME,
    CaseArgument,
    Json,
    Limit,
    Paper,
    States,
    Step,
    WalletFile,
    WalletPassphrase,
    Who,
    add_any_step,
    colleague,
    hint,
    short,
    show_case,
    show_cases,
    slug_of,
    take,
    take_for_patient,
)

if TYPE_CHECKING:
    from yilian.client.http import Client

DAY_MS = 86_400_000
app = typer.Typer(
    no_args_is_help=True, help=say("授权令：发出、转授、暂停、撤销。", "Grants: issue, pass on, halt, revoke.")
)

To = Annotated[str, typer.Option(help=say("接收机构。", "Recipient: name or id."))]
Entries = Annotated[
    list[str], typer.Option("--entry", help=say("条目，可重复，至多 32。", "Entry; repeat, 32 at most."))
]
Purpose = Annotated[str, typer.Option(help="TREAT, HPAYMT, HOPERAT, HRESCH, ETREAT, PUBHLTH, LOCATE")]
Deliveries = Annotated[int, typer.Option(min=1, max=10_000, help=say("交付次数 N。", "Deliveries N."))]
Days = Annotated[int, typer.Option(min=1, max=3_650, help=say("有效天数。", "Days."))]
Level = Annotated[int, typer.Option(min=1, max=4, help=say("最高级别。", "Highest level."))]
Depth = Annotated[int, typer.Option(min=0, max=3, help=say("可再转授几层。", "How often it may be passed on."))]


@app.command(
    help=say(
        "凭同意把本机构保管的条目授权给一个接收机构（数据管理员；由网关密钥签署）。",
        "Grant entries of this institution to one recipient, on a consent (as a data officer; the gateway key signs).",
    )
    + "\n\nExample: yilian grant issue --consent CONSENT --to hospital --entry ENTRY --deliveries 2 "
    "--as centre-data-officer --home h"
)
def issue(
    *,
    consent: Annotated[str, typer.Option(help=say("所依据的同意。", "Consent that it relies on."))] = "",
    to: To,
    entry: Entries,
    purpose: Purpose = "TREAT",
    basis: Annotated[str, typer.Option(help="CONSENT, STATUTORY …")] = "CONSENT",
    inspection: Annotated[str, typer.Option(help=say("所依据的检查。", "Inspection that it relies on."))] = "",
    deliveries: Deliveries = 2,
    days: Days = 30,
    level: Level = 4,
    depth: Depth = 0,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Issue a grant."""
    who = Who(as_, home)
    with who.client() as client:
        body = _terms(client, to, entry, purpose, (deliveries, days, level, depth)) | {
            "basis": basis,
            "covered_by": client.resolve(consent) if consent else None,
        }
        if consent:
            body["ends"] = min(body["ends"], client.case(body["covered_by"])["fields"]["ends"])
        refs = [client.resolve(inspection)] if inspection else []
        answer = take(who, client, Step("consent", "grant.issue", body, refs=refs))
        recipient = slug_of(client, body["recipient"])
    show(answer)
    hint(who, f"record fetch {short(answer['case_id'])}", as_=colleague(who, recipient, "physician"))


@app.command(
    help=say(
        "把收到的授权令的一部分转授给另一机构，不得更宽。",
        "Pass a part of a received grant on to another institution, never wider.",
    )
    + "\n\nExample: yilian grant delegate GRANT --to laboratory --entry ENTRY --deliveries 1 "
    "--as hospital-physician --home h"
)
def delegate(
    grant: CaseArgument,
    *,
    to: To,
    entry: Entries,
    purpose: Purpose = "TREAT",
    deliveries: Deliveries = 1,
    days: Days = 7,
    level: Level = 4,
    depth: Depth = 0,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Pass a grant on."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        target = client.resolve(grant)
        parent = client.case(target)["fields"]
        body = _terms(client, to, entry, purpose, (deliveries, days, min(level, parent["level_cap"]), depth))
        body["ends"] = min(body["ends"], parent["ends"])
        answer = take(who, client, Step("consent", "grant.delegate", body, case=target))
    show(answer)
    hint(who, f"grant show {short(target)}")


@app.command(
    help=say("撤销授权令及其全部转授。", "Take a grant back, and all that was passed on from it.")
    + "\n\nExample: yilian grant revoke GRANT --as centre-data-officer --home h"
)
def revoke(
    grant: CaseArgument,
    *,
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Revoke a grant."""
    who = Who(as_, home, key_file, key_passphrase_file)
    step = Step("consent", "grant.revoke", {}, case=grant)
    answer = take_for_patient(who, step, wallet=wallet, passphrase_file=passphrase_file, paper=paper)
    show(answer)
    hint(who, f"grant show {short(answer['case_id'])}")


@app.command(
    help=say("暂停授权令。", "Halt a grant.")
    + "\n\nExample: yilian grant suspend GRANT --reason suspected_misuse --as centre-data-officer --home h"
)
def suspend(
    grant: CaseArgument,
    *,
    reason: Annotated[str, typer.Option(help="dispute, suspected_misuse, patient_request")],
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Suspend a grant."""
    who = Who(as_, home, key_file, key_passphrase_file)
    step = Step("consent", "grant.suspend", {"reason": reason}, case=grant)
    answer = take_for_patient(who, step, wallet=wallet, passphrase_file=passphrase_file, paper=paper)
    show(answer)
    hint(who, f"grant resume {short(answer['case_id'])}")


@app.command(
    help=say("恢复被暂停的授权令（由当初暂停者）。", "Let a halted grant go on (by who halted it).")
    + "\n\nExample: yilian grant resume GRANT --as centre-data-officer --home h"
)
def resume(
    grant: CaseArgument,
    *,
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Resume a grant."""
    who = Who(as_, home, key_file, key_passphrase_file)
    step = Step("consent", "grant.resume", {}, case=grant)
    answer = take_for_patient(who, step, wallet=wallet, passphrase_file=passphrase_file, paper=paper)
    show(answer)


@app.command(
    "list",
    help=say("列出与本机构有关的授权令。", "List the grants that concern this institution.")
    + "\n\nExample: yilian grant list --state issued --as hospital-physician --home h",
)
def list_(*, state: States = None, limit: Limit = 20, as_: As = "", home: HomeOption = HOME) -> None:
    """List grants."""
    who = Who(as_, home)
    columns = (
        ("custodian", say("保管", "custodian")),
        ("recipient", say("接收", "recipient")),
        ("purpose", say("目的", "purpose")),
        ("entries", say("条目", "entries")),
        ("ends", say("到期", "ends")),
    )
    with who.client() as client:
        mine = client.me()["institution"]
        rows = show_cases(client, "grant", columns, limit=limit, state=tuple(state or ()), institution=mine)
    if rows:
        hint(who, f"grant show {short(rows[0]['case_id'])}")


@app.command(
    "show",
    help=say("查看一份授权令、余量与现在可做的事。", "Show a grant, what is left of it, and what can be done now.")
    + "\n\nExample: yilian grant show GRANT --as hospital-physician --home h",
)
def show_(grant: CaseArgument, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Show a grant."""
    who = Who(as_, home)
    with who.client() as client:
        found = show_case(client, grant)
        mine = client.me()["institution"]
    if found["state"] == "issued" and found["fields"]["recipient"] == mine:
        hint(who, f"record fetch {short(found['case_id'])}")


def _terms(client: Client, to: str, entries: list[str], purpose: str, numbers: tuple[int, int, int, int]) -> Json:
    deliveries, days, level, depth = numbers
    now = int(client.get("/v1/ledger")["time"])
    return {
        "recipient": client.institution(to),
        "purpose": purpose,
        "entries": [client.resolve(one) for one in entries],
        "level_cap": level,
        "begins": now,
        "ends": now + days * DAY_MS,
        "deliveries": deliveries,
        "depth": depth,
    }


add_any_step(app, "consent", "yilian grant step grant.expire GRANT --as centre-data-officer --home h")
