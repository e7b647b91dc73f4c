"""`yilian log anchors` and `log anchor`: which checkpoints outside authorities stamped, and a token to take away."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from yilian.cli.access import As, HomeOption
from yilian.cli.output import is_json, note, say, show, table
from yilian.cli.steps import HOME, Limit, Who, moment
from yilian.errors import SettingsError, UnavailableError


def add_verbs(app: typer.Typer) -> None:
    """Add both verbs to the noun `log`."""
    app.command(
        "anchors",
        help=say(
            "外部时间戳机构盖过戳的检查点，最新的在前。",
            "Checkpoints that outside time-stamping authorities stamped, the newest first.",
        )
        + "\n\nExample: yilian log anchors --limit 5 --as centre-officer --home h",
    )(anchors)
    app.command(
        "anchor",
        help=say(
            "取出某高度的时间戳：FILE.tsr 为令牌，FILE.txt 为被盖戳的文本，FILE.note 为签名检查点；openssl ts 可核验。",
            "Take away the timestamp that covers a height: FILE.tsr is the token, FILE.txt the text that was stamped, "
            "FILE.note the signed checkpoint; `openssl ts` checks it.",
        )
        + "\n\nExample: yilian log anchor 12 -o anchor.tsr --as centre-officer --home h",
    )(anchor)


def anchors(*, limit: Limit = 20, as_: As = "", home: HomeOption = HOME) -> None:
    """List timestamps."""
    with Who(as_, home).client() as client:
        found = client.get("/v1/anchors", limit=min(limit, 1000))
    if is_json():
        show(found)
        return
    age = say("没有时间戳", "no timestamp") if found["age_s"] is None else f"{found['age_s']} s"
    limit_s = f"{found['max_age_s']} s" if found["max_age_s"] else say("不限", "off")
    show({"age": age, "max_age": limit_s, "authorities": ", ".join(found["authorities"]) or "–"})
    columns = [
        ("height", say("高度", "height")),
        ("time", say("时间", "time")),
        ("authority", say("时间戳机构", "authority")),
    ]
    table([one | {"time": moment(one["time"])} for one in found["items"]], columns)


def anchor(
    height: Annotated[int, typer.Argument(min=0, help=say("要证明的高度。", "Height to be covered."))],
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help=say("令牌文件，以 .tsr 结尾。", "File for the token, ending in .tsr.")),
    ],
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Take a timestamp away."""
    if out.suffix != ".tsr":
        raise SettingsError(f"{out} does not end in .tsr, beside which .txt and .note are written: name such a file")
    with Who(as_, home).client() as client:
        found = client.get(f"/v1/anchors/{height}")
    text = found["note"].partition("\n\n")[0] + "\n"
    files = {
        out: base64.b64decode(found["response"]),
        out.with_suffix(".txt"): text.encode(),
        out.with_suffix(".note"): found["note"].encode(),
    }
    for path, content in files.items():
        try:
            path.write_bytes(content)
        except OSError as error:
            raise UnavailableError(f"{path}: {error.strerror}: choose another place, or free space") from error
    show(
        {
            "height": found["height"],
            "time": found["time"] if is_json() else moment(found["time"]),
            "authority": found["authority"],
            "files": [str(path) for path in files] if is_json() else " ".join(str(path) for path in files),
        }
    )
    if not is_json():
        check = f"openssl ts -verify -in {out} -data {out.with_suffix('.txt')} -CAfile ROOTS.pem"
        note(say("下一步：", "next: ") + check)
