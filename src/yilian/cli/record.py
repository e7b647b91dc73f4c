"""`yilian record`: import, list, show, fetch, verify and erase records."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from yilian.cli.access import As, DeviceKey, HomeOption, KeyPassphrase, find_access, load_key
from yilian.cli.integrity import add_verbs
from yilian.cli.output import coded, is_json, language, note, progress, say, show, table
from yilian.cli.steps import (
    HOME,
    CaseArgument,
    Json,
    Limit,
    Step,
    Who,
    add_any_step,
    colleague,
    hint,
    names_of,
    refer_hint,
    short,
    take_together,
)
from yilian.errors import NotFoundError, SettingsError, VerificationError
from yilian.web.kit.text import mapping_line

app = typer.Typer(
    no_args_is_help=True,
    help=say("病历：导入、列出、查看、调取、校验。", "Records: import, list, show, fetch, verify."),
)


@app.command(
    "import",
    help=say(
        "导入 FHIR 文件、文件夹或压缩包：只收本机构产生的就诊，加密保存并以随机顺序发布到目录。路径在节点所在机器上。",
        "Import a FHIR file, folder or archive: what this institution made, sealed, published in random order. "
        "The path is on the node's machine.",
    )
    + "\n\nExample: yilian record import bundles/ --as centre-data-officer --home h",
)
def import_(
    path: Annotated[Path, typer.Argument(help=say("文件、文件夹或压缩包。", "File, folder or archive."))],
    *,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help=say(
                "TOML 文件，organisations 表下列出“机构标识 = 成员”。",
                "TOML file whose table organisations lists identifier = member.",
            )
        ),
    ] = None,
    only_mapped: Annotated[
        bool, typer.Option("--only-mapped", help=say("只收对照表列出的机构。", "Only what the mapping lists."))
    ] = False,
    wait: Annotated[bool, typer.Option(help=say("等到导入结束。", "Wait for the end."))] = True,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Import FHIR."""
    who = Who(as_, home)
    asked = {"path": str(path.absolute()), "mapping": _mapping(mapping), "only_mapped": only_mapped}
    with who.client() as client:
        job = client.post("/v1/imports", asked)
        if not wait:
            show(job)
            return
        with progress(say("导入", "import")) as told:
            done = client.wait_for_job(job["job_id"], lambda figures: told(_done(figures)))
    figures = done["progress"]
    _show_import(figures)
    if not figures["files"]:
        raise NotFoundError(f"no FHIR file lies in {path}, expected .json, .json.gz or an archive: name another folder")
    if figures["broken"] and not any(figures[name] for name in ("patients", "homeless", "others", "files_known")):
        raise SettingsError("nothing in it could be read, expected FHIR R4 bundles: see why each was skipped")
    if figures["residents"]:
        hint(who, "screen", as_=colleague(who, _slug(who), "physician"))


@app.command(
    "list",
    help=say("列出目录中的条目，或交付给本机构的副本。", "List entries of the catalogue, or copies delivered here.")
    + "\n\nExample: yilian record list --mine --limit 5 --as centre-physician --home h",
)
def list_(
    *,
    mine: Annotated[bool, typer.Option("--mine", help=say("只列本机构的。", "Only this institution's."))] = False,
    received: Annotated[
        bool, typer.Option("--received", help=say("列出交付来的副本。", "Copies that were delivered here."))
    ] = False,
    custodian: Annotated[str, typer.Option(help=say("保管机构。", "Custodian."))] = "",
    kind: Annotated[str, typer.Option(help=say("类别代码。", "Class code."))] = "",
    status: Annotated[str, typer.Option(help=say("状态，如 current。", "State, such as current."))] = "",
    limit: Limit = 20,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """List entries."""
    who = Who(as_, home)
    with who.client() as client:
        names = names_of(client)
        if received:
            rows = client.get("/v1/records/received")[:limit]
            _table(rows, names, (("entry_id", say("条目", "entry")), ("custodian", say("保管机构", "custodian"))))
        else:
            holder = client.me()["institution"] if mine else (client.institution(custodian) if custodian else None)
            query = {"custodian": holder, "kind": kind or None, "status": status or None}
            rows = list(client.pages("/v1/entries", most=limit, **query))
            _table(rows, names, _ENTRY_COLUMNS)
        me = client.me()["institution"]
    opens = next((row["entry_id"] for row in rows if received or row["custodian"] == me), None)
    if opens is not None:
        hint(who, f"record show {short(opens)}")


@app.command(
    "show",
    help=say(
        "解密并显示本机构的病历，或交付来的副本；内容写到标准输出或文件。",
        "Decrypt a record of this institution, or a copy delivered to it, to stdout or a file.",
    )
    + "\n\nExample: yilian record show ENTRY --as centre-physician --home h --out record.json",
)
def show_(
    entry: CaseArgument,
    *,
    out: Annotated[Path | None, typer.Option(help=say("写入的文件。", "File to write."))] = None,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Open a record."""
    with Who(as_, home).client() as client:
        content = client.record(client.resolve(entry))
    if out is None:
        typer.echo(content.decode(errors="replace"))
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror}: name a file that can be written") from error
    show({"file": str(out), "bytes": len(content)})


@app.command(
    help=say(
        "凭授权令调取：先取密文与保管机构签名的消息，再由账本排序、交付，最后核对。",
        "Fetch under a grant: ciphertext and the custodian's message first, then ordered and delivered by the ledger, "
        "then verified.",
    )
    + "\n\nExample: yilian record fetch GRANT --as hospital-physician --home h"
)
def fetch(
    grant: CaseArgument,
    *,
    entry: Annotated[list[str] | None, typer.Option(help=say("只取这些条目。", "Only these entries."))] = None,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Fetch entries of a grant."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        entries = [client.resolve(one) for one in entry or ()]
        found = fetch_grant(who, client, client.resolve(grant), entries)
    show(found)
    _judge(found)
    hint(who, f"record show {short(found['entries'][0])}")


@app.command(
    help=say(
        "校验本机构的病历：密文与根、密钥、承诺值都与账本一致。",
        "Verify records of this institution: blob, root, key and commitment against the ledger.",
    )
    + "\n\nExample: yilian record verify ENTRY --as centre-data-officer --home h"
)
def verify(entry: CaseArgument, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Verify a record."""
    who = Who(as_, home)
    with who.client() as client:
        found = client.post(f"/v1/records/{client.resolve(entry)}/verify")
    show(found if is_json() else {"holds": True} | found)
    hint(who, f"audit who --entry {short(entry)}")


@app.command(
    help=say(
        "按证件号查找本机构的患者，给出其本地代号与条目。证件号从标准输入读取，不出现在命令行里。",
        "Find a patient of this institution by an identifier, read from stdin so that it stands in no command line.",
    )
    + "\n\nExample: yilian record find --as centre-physician --home h < identifier.txt"
)
def find(*, as_: As = "", home: HomeOption = HOME) -> None:
    """Find a patient."""
    who = Who(as_, home)
    identifier = str(typer.prompt(say("标识（系统|值）", "identifier (system|value)"), err=True)).strip()
    with who.client() as client:
        found = client.post("/v1/subjects/find", {"identifier": identifier})
        show(found)
        refer_hint(who, client, found["subject"])


@app.command(
    help=say(
        "决定销毁一份病历：数据管理员与出域审核员两人签署；列出曾收到副本的机构，由各节点销毁或说明保留义务。",
        "Erase a record, signed by a data officer and a disclosure officer: it names who received copies; "
        "the nodes destroy them or name their duty to keep one.",
    )
    + "\n\nExample: yilian record erase ENTRY --basis patient_right --second centre-disclosure-officer "
    "--as centre-data-officer --home h"
)
def erase(
    entry: CaseArgument,
    *,
    basis: Annotated[
        str,
        typer.Option(
            help=say(
                "依据：retention_over（保存期满）或 patient_right（患者权利）。", "retention_over or patient_right."
            )
        ),
    ],
    second: Annotated[str, typer.Option(help=say("出域审核员的访问文件。", "Access file of the disclosure officer."))],
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Erase a record."""
    who = Who(as_, home)
    with who.client() as client:
        target = client.resolve(entry)
        rows = client.get("/v1/audit/who", entry=target)["rows"]
        recipients = list(dict.fromkeys(row["recipient"] for row in rows))
        body = {"basis": basis, "recipients": recipients}
        answer = take_together(client, second, home, Step("catalog", "catalog.erase", body, case=target))
    show(answer)
    hint(who, f"audit case {short(target)}")


def fetch_grant(who: Who, client: Any, grant: str, entries: list[str]) -> Json:  # noqa: ANN401 - a Client, loaded late
    """Fetch under a grant; a key on a device signs the reservation here, then the node goes on."""
    found: Json = client.fetch(grant, entries)
    if found.get("draft") is None:
        return found
    signer = load_key(find_access(who.name, who.home), who.home, key=who.key, passphrase_file=who.passphrase_file)
    client.sign_and_submit(found["draft"], signer)
    use = found["use_id"]
    case = _wait_delivered(client, use)
    return found | {"draft": None, "state": case["state"], "verified": case["state"] == "confirmed"}


def _wait_delivered(client: Any, use: str) -> Json:  # noqa: ANN401 - a Client
    import time

    deadline = time.monotonic() + 700
    while True:
        case: Json = client.case(use)
        if case["state"] not in {"reserved", "delivered"} or time.monotonic() > deadline:
            return case
        time.sleep(0.2)


def _judge(found: Json) -> None:
    if not found["verified"]:
        why = found["reason"] or ", ".join(short(one) for one in found["disputed"]) or found["state"]
        raise VerificationError(
            f"use {found['use_id']} ended as {found['state']} ({why}), expected confirmed: ask the custodian"
        )


def _slug(who: Who) -> str:
    return find_access(who.name, who.home).institution


def _mapping(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"mapping {file}: {error.strerror}: name the file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"mapping {file} does not read ({error}): correct it") from error
    rows = content.get("organisations", {})
    if not isinstance(rows, dict) or not all(isinstance(value, str) for value in rows.values()):
        raise SettingsError(f"mapping {file} has no table [organisations] of identifier = member: write one")
    return {str(name): str(value) for name, value in rows.items()}


def _done(figures: Json) -> int:
    return int(figures.get("done", 0))


def _show_import(figures: Json) -> None:
    if is_json():
        show(figures)
        return
    for line in figures.get("mapping", ()):
        note(mapping_line(str(line), language()))
    for one in figures.get("broken", ()):
        entry = "" if one["entry"] < 0 else say(f"第 {one['entry'] + 1} 条 ", f"entry {one['entry'] + 1} ")
        place = say(f"第 {one['position'] + 1} 份输入 ", f"input {one['position'] + 1} ")
        note(say("已跳过：", "skipped: ") + f"{place}{entry}{one['element']}".rstrip() + f": {one['reason']}")
    others = sum(figures.get("others", {}).values())
    if others:
        verb = "is" if others == 1 else "are"
        note(
            say(
                f"另有 {others} 次就诊属于其他机构，未收。",
                f"{others} of the encounters {verb} others' and left to them.",
            )
        )
    hidden = {"mapping", "broken", "others"}
    show({name: value for name, value in figures.items() if name not in hidden})


_ENTRY_COLUMNS = (
    ("entry_id", say("条目", "entry")),
    ("custodian", say("保管机构", "custodian")),
    ("kind", say("类别", "class")),
    ("level", say("级别", "level")),
    ("month", say("月份", "month")),
    ("status", say("状态", "state")),
)


def _table(rows: list[Json], names: dict[str, str], columns: tuple[tuple[str, str], ...]) -> None:
    if is_json():
        table(rows, columns)
        return
    printed = [
        row
        | {
            "entry_id": short(row["entry_id"]),
            "custodian": names.get(row["custodian"], short(row["custodian"])),
            "status": coded(row.get("status", "")),
            "month": f"{row['month'] // 12}-{row['month'] % 12 + 1:02}" if "month" in row else "",
        }
        for row in rows
    ]
    table(printed, columns)


add_any_step(app, "catalog", "yilian record step catalog.restrict ENTRY --as centre-data-officer --home h")
add_verbs(app)
