"""`yilian screen`: the cardiovascular risk of an institution's residents, and whom to refer."""

from __future__ import annotations

from typing import Annotated

import typer

from yilian.cli.access import As, HomeOption
from yilian.cli.output import coded, is_json, note, progress, say, show, table
from yilian.cli.steps import HOME, Json, Limit, Who, refer_hint

app = typer.Typer(invoke_without_command=True, help=say("筛查：心血管病风险。", "Screening of cardiovascular risk."))
_AsJson = Annotated[bool, typer.Option("--json", help=say("以 JSON 输出结果。", "Print results as JSON."))]
_Lang = Annotated[str, typer.Option(help=say("zh 或 en，默认按系统语言。", "zh or en; by locale where not given."))]
_COLUMNS = (
    ("subject", say("代号", "subject")),
    ("risk_class", say("风险", "risk")),
    ("percent", "%"),
    ("model", say("模型", "model")),
    ("referred", say("已转诊", "referred")),
)


@app.callback(
    help=say(
        "筛查本机构的居民（医师）：China-PAR 优先，缺腰围等则由 Framingham 判定。结果只留在本机构。",
        "Screen the residents of this institution (as a physician): China-PAR first, Framingham where it lacks an "
        "input. Results stay here.",
    )
    + "\n\nExample: yilian screen --north --urban --as centre-physician --home h"
)
def screen(
    context: typer.Context,
    *,
    north: Annotated[
        bool | None, typer.Option("--north/--south", help=say("长江以北？", "North of the Yangtze?"))
    ] = None,
    urban: Annotated[bool | None, typer.Option("--urban/--rural", help=say("城镇？", "In a town?"))] = None,
    as_: As = "",
    home: HomeOption = HOME,
    as_json: _AsJson = False,  # noqa: ARG001 - read before any command runs
    lang: _Lang = "",  # noqa: ARG001 - as above
) -> None:
    """Screen residents."""
    if context.invoked_subcommand is not None:
        return
    who = Who(as_, home)
    with who.client() as client:
        job = client.post("/v1/screenings", {"north": north, "urban": urban})
        with progress(say("筛查", "screen")) as told:
            done = client.wait_for_job(job["job_id"], lambda figures: told(int(figures.get("done", 0))))
        figures = done["progress"]
        show(figures)
        if north is None or urban is None:
            note(
                say(
                    "China-PAR 需要 --north 或 --south、--urban 或 --rural；缺其所需即由 Framingham 判定。",
                    "China-PAR needs --north or --south, --urban or --rural; where one is missing, Framingham decides.",
                )
            )
        waiting = [one for one in client.get("/v1/screenings/risks", risk_class="high") if not one["referred"]]
        if waiting:
            number = len(waiting)
            who_waits = "1 resident at high risk is" if number == 1 else f"{number} residents at high risk are"
            found = say(f"{number} 名高危居民尚未转诊。", f"{who_waits} not referred yet.")
            note(found)
            refer_hint(who, client, waiting[0]["subject"])


def _printed(row: Json) -> Json:
    percent = row["percent"]
    return row | {"risk_class": coded(row["risk_class"]), "percent": None if percent is None else f"{percent:.1f}"}


@app.command(
    "list",
    help=say("列出筛查结果，风险高者在前。", "List the results, the highest risk first.")
    + "\n\nExample: yilian screen list --class high --as centre-physician --home h",
)
def list_(
    *,
    risk_class: Annotated[str, typer.Option("--class", help="high, medium, low")] = "",
    limit: Limit = 20,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """List results."""
    who = Who(as_, home)
    with who.client() as client:
        rows = client.get("/v1/screenings/risks", risk_class=risk_class or None)[:limit]
        table([row if is_json() else _printed(row) for row in rows], _COLUMNS)
        waiting = [one for one in rows if not one["referred"]]
        if waiting:
            refer_hint(who, client, waiting[0]["subject"])
