"""`yilian log`: fetch the log as static tiles, audit it from them alone, and see what the sequencer was caught at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yilian.cli import anchors
from yilian.cli.access import As, HomeOption, read_bytes
from yilian.cli.output import coded, is_json, note, progress, say, show, table
from yilian.cli.steps import HOME, Who, moment
from yilian.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from yilian.client.http import Client
    from yilian.ledger.tiles import Tile

app = typer.Typer(
    no_args_is_help=True,
    help=say("日志：导出、审计、警报。", "The log: export, audit, alerts."),
)
Folder = Annotated[Path, typer.Argument(help=say("存放日志的文件夹。", "Folder of the log."))]


@app.command(
    help=say(
        "把整个日志导出为静态文件：检查点、杂凑块、叶（C2SP tlog-tiles）；再次运行只取新增部分。",
        "Export the whole log as static files: checkpoint, tiles, leaves (C2SP tlog-tiles); again, it fetches what "
        "is new.",
    )
    + "\n\nExample: yilian log export tiles --as bureau-inspector --home h"
)
def export(folder: Folder, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Export the log."""
    from yilian.ledger.checkpoint import parse_note
    from yilian.ledger.tiles import tiles_of

    with Who(as_, home).client() as client:
        content = client.content("/v1/log/checkpoint")
        checkpoint = parse_note(content).checkpoint
        tiles = tuple(tiles_of(checkpoint.log_size))
        fetched = 0
        with progress(say("取日志", "fetching"), len(tiles)) as tell:
            for done, tile in enumerate(tiles, start=1):
                fetched += _fetch(client, folder / "tile" / tile.path, tile)
                tell(done)
        # the checkpoint last: what it counts is there
        _store(folder / "checkpoint", content)
    show({"folder": str(folder), "log_size": checkpoint.log_size, "height": checkpoint.height, "fetched": fetched})
    if not is_json():
        note(say("下一步：", "next: ") + f"yilian log audit {folder} --trust FILE")


@app.command(
    help=say(
        "只凭导出的文件审计日志：由叶重算根，核对签名，并与上次所见比对；不成立则指名并以 5 退出。",
        "Audit a log from its files alone: recompute the root from the leaves, check the signatures, compare with what "
        "was seen before; what does not hold is named, and the exit code is 5.",
    )
    + "\n\nExample: yilian log audit tiles --trust lake.trust"
)
def audit(
    folder: Folder,
    *,
    trust: Annotated[
        Path | None,
        typer.Option(
            help=say(
                "信任文件；不给则不核对签名。", "Trust file of `network trust`; without it no signature is checked."
            )
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help=say(
                "记录上次所见的文件，默认在文件夹旁：<文件夹>.audited。",
                "File with what was seen before; by default <folder>.audited beside the folder.",
            )
        ),
    ] = None,
) -> None:
    """Audit a log."""
    from yilian.client.auditing import audit as audit_log
    from yilian.ledger.trust import parse_trust

    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder: run `yilian log export {folder}` first")
    believed_in = parse_trust(read_bytes(trust)) if trust is not None else None
    seen = state or folder.absolute().with_name(f"{folder.absolute().name}.audited")
    found = audit_log(folder, seen=seen, trust=believed_in)
    checkpoint, believed = found.note.checkpoint, found.believed
    show(
        {
            "ok": True,
            "log_size": checkpoint.log_size,
            "height": checkpoint.height,
            "root": checkpoint.log_root.hex(),
            "before": found.before.log_size if found.before is not None else None,
            "signed": believed is not None,
            "witnesses": [one.key.institution for one in believed.cosigners] if believed is not None else [],
        },
        named={"root": say("日志根", "root"), "signed": say("签名已核对", "signed")},
    )
    if believed is None:
        note(say("未给信任文件：签名没有核对。", "No trust file was given: no signature was checked."))
    elif not believed.split_view_excluded:
        note(say("没有见证者签名：不能排除两份历史。", "No witness signed: a split view is not excluded."))


@app.command(
    help=say(
        "列出警报：两份历史、回退、截断、时间偏差、扣留、状态不符，连同作为证据的检查点。",
        "List alerts by name: split view, rollback, truncated log, wrong time, withheld operation, other state; with "
        "the checkpoints that show them.",
    )
    + "\n\nExample: yilian log alerts --as bureau-inspector --home h"
)
def alerts(*, as_: As = "", home: HomeOption = HOME) -> None:
    """List alerts."""
    with Who(as_, home).client() as client:
        found = client.get("/v1/alerts")
        while len(found) and len(found) % 200 == 0:
            more = client.get("/v1/alerts", after=found[-1]["id"])
            if not more:
                break
            found += more
    columns = [
        ("time", say("时间", "time")),
        ("kind", say("警报", "alert")),
        ("text", say("内容", "what was found")),
    ]
    if is_json():
        table(found, columns)
        return
    table([row | {"time": moment(row["time"]), "kind": coded(row["kind"])} for row in found], columns)
    if not found:
        note(say("没有警报。", "There is no alert."))


def _fetch(client: Client, file: Path, tile: Tile) -> int:
    """Fetch a tile that is not there yet, and say how many were fetched; whole and partial tiles never change."""
    if file.is_file():
        return 0
    _store(file, client.content(f"/v1/log/tile/{tile.path}"))
    return 1


def _store(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.tmp")
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError as error:
        raise UnavailableError(f"{file}: {error.strerror}: free space or name another folder") from error


anchors.add_verbs(app)
