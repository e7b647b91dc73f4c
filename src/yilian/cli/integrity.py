"""`yilian record verify-all` and `record integrity`: are all sealed bytes of the institution still what they were."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from yilian.cli.access import As, HomeOption
from yilian.cli.output import is_json, note, progress, say, show, table
from yilian.cli.steps import HOME, Json, Who, hint, moment, names_of, short
from yilian.errors import VerificationError


def add_verbs(app: typer.Typer) -> None:
    """Add both verbs to the noun `record`."""
    app.command(
        "verify-all",
        help=say(
            "重新读取本机构保管的全部密文并核对，限速、可续；有缺失或改动则以 5 退出。",
            "Read all sealed bytes of this institution again and check them, at a bounded rate, from where the last "
            "check stopped; exit code 5 where something is missing or changed.",
        )
        + "\n\nExample: yilian record verify-all --as centre-data-officer --home h",
    )(verify_all)
    app.command(
        "integrity",
        help=say(
            "最近一次核对到了哪里，什么缺失或被改动、还能从哪里取回；有问题则以 5 退出。",
            "How far the newest check is, what is missing or changed, and where it can be fetched again; "
            "exit code 5 where something is.",
        )
        + "\n\nExample: yilian record integrity --as centre-data-officer --home h",
    )(integrity)


def verify_all(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help=say(
                "损坏的副本从其保管机构重新取回，不占用授权次数。",
                "Fetch damaged copies again from their custodians; spends no delivery.",
            ),
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help=say("等到核对结束。", "Wait for the end."))] = True,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Check all sealed bytes."""
    who = Who(as_, home)
    with who.client() as client:
        job = client.post("/v1/integrity", {"repair": repair})
        if not wait:
            show(job)
            hint(who, "record integrity")
            return
        with progress(say("核对", "checking")) as told:
            client.wait_for_job(job["job_id"], lambda figures: told(int(figures.get("done", 0))))
        _tell(client.get("/v1/integrity"), names_of(client))


def integrity(*, as_: As = "", home: HomeOption = HOME) -> None:
    """Show what the newest check found."""
    who = Who(as_, home)
    with who.client() as client:
        found = client.get("/v1/integrity")
        if found["started"] is None and not is_json():
            show({"started": say("尚未核对", "not yet"), "total": found["total"]})
            hint(who, "record verify-all")
            return
        _tell(found, names_of(client))


def _tell(found: Json, names: dict[str, str]) -> None:
    findings = found["findings"]
    if is_json():
        show(found)
    else:
        show(
            {
                "started": moment(found["started"]),
                "finished": moment(found["finished"]) if found["finished"] else say("进行中", "under way"),
                "done": found["done"],
                "total": found["total"],
                "bytes": found["bytes"],
            }
        )
        if findings:
            table([_row(one, names) for one in findings], _columns())
    if findings:
        raise VerificationError(
            f"{len(findings)} sealed blobs are missing or changed, expected none: fetch them again where the list says "
            "so (--repair), else restore them from the backup"
        )
    if not is_json():
        note(say("全部完好。", "all of it holds."))


def _row(one: Json, names: dict[str, str]) -> dict[str, Any]:
    sources = [
        names.get(source["institution"], short(source["institution"]))
        + (say("（完好）", " (intact)") if source["intact"] else "")
        for source in one["sources"]
    ]
    return {
        "entry": short(one["entry"]) if one["entry"] else "–",
        "kind": _word(one["kind"]),
        "wrong": _word(one["wrong"]),
        "found": moment(one["found"]),
        "sources": ", ".join(sources),
    }


def _word(value: str) -> str:
    words = {
        "record": say("病历", "record"),
        "copy": say("副本", "copy"),
        "file": say("原始文件", "file"),
        "summary": say("摘要", "summary"),
        "missing": say("缺失", "missing"),
        "changed": say("被改动", "changed"),
        "unreadable": say("无法读取", "unreadable"),
    }
    return words.get(value, value)


def _columns() -> list[tuple[str, str]]:
    return [
        ("entry", say("条目", "entry")),
        ("kind", say("种类", "kind")),
        ("wrong", say("问题", "wrong")),
        ("found", say("首次发现", "found")),
        ("sources", say("还在何处", "also at")),
    ]
