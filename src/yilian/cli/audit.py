"""`yilian audit`: who got what, the course of a case, disclosures that only one side reported."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from yilian.cli.access import As, HomeOption
from yilian.cli.output import coded, is_json, language, note, say, show, table
from yilian.cli.steps import (
    HOME,
    CaseArgument,
    Json,
    Limit,
    States,
    Who,
    add_any_step,
    hint,
    moment,
    names_of,
    short,
    show_cases,
)
from yilian.errors import SettingsError, VerificationError
from yilian.web.kit.text import Language, words


class Titles:
    """Words of cases, states and commands in 中文; English shows the codes, which commands take."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def case(self, kind: str) -> str:
        """Name a type of case."""
        return self._words(self._workflow_of(kind), kind, "cases", kind)

    def state(self, kind: str, state: str) -> str:
        """Name a state of such a case."""
        return self._words(self._workflow_of(kind), state, "states", kind, state) if state else ""

    def command(self, workflow: str, command: str) -> str:
        """Name a command."""
        return self._words(workflow, command, "commands", command)

    def _workflow_of(self, kind: str) -> str:
        from yilian.workflows.registry import WORKFLOWS

        return next((one.name for one in WORKFLOWS if any(case.word == kind for case in one.cases)), "")

    def _words(self, workflow: str, code: str, *path: str) -> str:
        if self._language == "en" or not workflow:
            return code
        return words(f"yilian.workflows.{workflow}", self._language, *path)


app = typer.Typer(
    no_args_is_help=True,
    help=say("审计：谁拿到了什么、案件经过、单方登记。", "Audit: who got what, a case, one-sided."),
)
Id = Annotated[str, typer.Option(help=say("编号，可只写前几位。", "Id; its first digits are enough."))]
Institution = Annotated[str, typer.Option(help=say("机构。", "Institution."))]


@app.command(
    help=say(
        "谁、何时、凭谁的授权、在什么范围内、第几次（共几次）拿到了什么，又转给了谁。",
        "Who got what, when, granted by whom, in what scope, which delivery of how many, passed on to whom.",
    )
    + "\n\nExample: yilian audit who --recipient hospital --as bureau-inspector --home h"
)
def who(
    *,
    entry: Id = "",
    grant: Id = "",
    use: Id = "",
    custodian: Institution = "",
    recipient: Institution = "",
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Say who got what."""
    by = Who(as_, home)
    with by.client() as client:
        query = {
            name: client.resolve(value) for name, value in (("entry", entry), ("grant", grant), ("use", use)) if value
        }
        query |= {
            name: client.institution(value)
            for name, value in (("custodian", custodian), ("recipient", recipient))
            if value
        }
        answer = client.get("/v1/audit/who", **query)
        names = names_of(client)
    if is_json():
        show(answer)
        return
    table([_delivery(row, names) for row in answer["rows"]], _DELIVERY_COLUMNS)
    if answer["rows"]:
        hint(by, f"audit case {short(answer['rows'][0]['grant'])}")


@app.command(
    help=say("按时间顺序说明一个案件的全部经过。", "Tell the whole course of a case, in order.")
    + "\n\nExample: yilian audit case REFERRAL --as bureau-inspector --home h"
)
def case(case: CaseArgument, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Tell a case."""
    by = Who(as_, home)
    with by.client() as client:
        answer = client.get(f"/v1/audit/case/{client.resolve(case)}")
        names = names_of(client)
    if is_json():
        show(answer)
        return
    (told,) = answer["rows"]
    titles = Titles(language())
    state = titles.state(told["kind"], told["state"])
    note(" ".join([titles.case(told["kind"]), told["case"], state, ", ".join(told["flags"])]).rstrip())
    table([_step(one, names, titles) for one in told["steps"]], _STEP_COLUMNS)
    hint(by, "audit unmatched")


@app.command(
    help=say("列出只有一方（或无人）登记的交付。", "List deliveries that are not on record at both sides.")
    + "\n\nExample: yilian audit unmatched --as bureau-inspector --home h"
)
def unmatched(*, as_: As = "", home: HomeOption = HOME) -> None:
    """List one-sided disclosures."""
    by = Who(as_, home)
    with by.client() as client:
        answer = client.get("/v1/audit/unmatched")
        names = names_of(client)
    if is_json():
        show(answer)
        return
    titles = Titles(language())
    rows = [
        {
            "use": short(row["use"]),
            "state": titles.state("use", row["state"]),
            "missing": [names.get(one, short(one)) for one in row["missing"]],
            "since": moment(row["since"]),
        }
        for row in answer["rows"]
    ]
    table(rows, _GAP_COLUMNS)
    if not rows:
        note(say("没有单方登记的交付。", "Every delivery is on record at both sides."))


@app.command(
    help=say("列出各机构的日清单，缺失与缺口也在内。", "List the members' daily statements, missing ones and gaps too.")
    + "\n\nExample: yilian audit statements --state missing --as bureau-inspector --home h"
)
def statements(*, state: States = None, limit: Limit = 20, as_: As = "", home: HomeOption = HOME) -> None:
    """List daily statements."""
    by = Who(as_, home)
    with by.client() as client:
        rows = show_cases(client, "statement", _STATEMENT_COLUMNS, limit=limit, state=tuple(state or ()))
    if rows:
        hint(by, f"audit case {short(rows[0]['case_id'])}")


@app.command(
    help=say(
        "证明本机构某日的清单列入了某条披露事件：给出该行、路径，并与账本上的根核对。",
        "Show that this institution's statement of a day covers an event: the line and its path, checked against the "
        "root on the ledger.",
    )
    + "\n\nExample: yilian audit covered 2026-05-04 17 --as centre-data-officer --home h"
)
def covered(
    day: Annotated[str, typer.Argument(help=say("日期，如 2026-05-04。", "The day, such as 2026-05-04."))],
    number: Annotated[int, typer.Argument(min=1, help=say("事件序号。", "Number of the event."))],
    *,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Show a covered event."""
    by = Who(as_, home)
    with by.client() as client:
        shown = client.get(f"/v1/audit/statements/{_day(day)}/{number}")
        statement = client.case(shown["statement"])["fields"]
    _check_covered(shown, statement)
    show(shown if is_json() else {"covered": True} | shown)
    hint(by, f"audit case {short(shown['pair'])}")


_DELIVERY_COLUMNS = (
    ("when", say("时间", "when")),
    ("recipient", say("接收", "recipient")),
    ("role", say("角色", "role")),
    ("entries", say("条目", "entries")),
    ("granted", say("授权", "granted by")),
    ("purpose", say("目的", "purpose")),
    ("number", say("第几次", "number")),
    ("state", say("状态", "state")),
    ("pair", say("双方登记", "pair")),
)
_STATEMENT_COLUMNS = (
    ("custodian", say("机构", "institution")),
    ("day", say("日期", "day")),
    ("first", say("起始序号", "first")),
    ("count", say("事件数", "events")),
)
_STEP_COLUMNS = (
    ("when", say("时间", "when")),
    ("command", say("步骤", "step")),
    ("actor", say("机构", "by")),
    ("persons", say("签署角色", "signed")),
    ("case", say("案件", "case")),
    ("state", say("结果", "result")),
)
_GAP_COLUMNS = (
    ("use", say("使用", "use")),
    ("state", say("状态", "state")),
    ("missing", say("缺", "missing")),
    ("since", say("自", "since")),
)


def _day(text: str) -> int:
    from datetime import date

    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        raise SettingsError(f"{text} is no day, expected one such as 2026-05-04: correct it") from None


def _check_covered(shown: Json, statement: Json) -> None:
    from yilian.crypto.merkle import verify_inclusion
    from yilian.values import case_id, digest
    from yilian.workflows.audit.statements import statement_leaf

    pair, event = case_id(bytes.fromhex(shown["pair"])), digest(bytes.fromhex(shown["event"]))
    leaf = statement_leaf(shown["number"], pair, event)
    path = [bytes.fromhex(one) for one in shown["path"]]
    root = bytes.fromhex(statement["root"] or "")
    in_place = statement["count"] == shown["size"] and statement["first"] + shown["index"] == shown["number"]
    if not in_place or not verify_inclusion(leaf, shown["index"], shown["size"], path, root):
        raise VerificationError(
            f"event {shown['number']} is not under the root of statement {shown['statement']}: report the gap"
        )


def _delivery(row: Json, names: dict[str, str]) -> dict[str, Any]:
    return {
        "when": moment(row["delivered_at"]),
        "recipient": names.get(row["recipient"], short(row["recipient"])),
        "role": coded(row["role"]),
        "entries": [short(one) for one in row["entries"]],
        "granted": names.get(row["granted_by"], short(row["granted_by"])),
        "purpose": row["purpose"],
        "number": f"{row['first_number']}–{row['last_number']}/{row['allowed']}",
        "state": coded(row["state"]),
        "pair": coded(row["pair"]),
    }


def _step(row: Json, names: dict[str, str], titles: Titles) -> dict[str, Any]:
    refused = "; ".join(f"{workflow} {number}" for workflow, number in row["refused"])
    return {
        "when": moment(row["time"]),
        "command": titles.command(row["workflow"], row["command"]),
        "actor": names.get(row["actor"], short(row["actor"])),
        "persons": [coded(role) for _, role in row["persons"]],
        "case": short(row["case"]),
        "state": say("被拒 ", "refused ") + refused if refused else titles.state(row["kind"], row["state"]),
    }


add_any_step(app, "audit", "yilian audit step inspection.open --body {} --as bureau-inspector --home h")
