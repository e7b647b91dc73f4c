"""`yilian backup`: the running node in one encrypted file; and what `node backup` and `node restore` do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from yilian.cli.access import As, HomeOption, read_bytes
from yilian.cli.output import note, progress, say, show
from yilian.cli.steps import HOME, Who
from yilian.errors import SettingsError

app = typer.Typer()
Out = Annotated[
    str, typer.Option("--out", "-o", help=say("备份文件名，以 .yilian-backup 结尾。", "Name ending in .yilian-backup."))
]
PassphraseFile = Annotated[
    Path,
    typer.Option(
        "--passphrase-file",
        envvar="YILIAN_BACKUP_PASSPHRASE_FILE",
        help=say("备份口令所在文件，至少 12 字节。", "File with the backup's passphrase, 12 bytes at least."),
    ),
]
WithoutBlobs = Annotated[
    bool,
    typer.Option("--without-blobs", help=say("只列出密封病历，不复制。", "List the sealed records, do not copy them.")),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help=say("并重新执行所含的全部区块、打开保管库。", "Also execute its blocks again and open the vaults."),
    ),
]
BackupArgument = Annotated[Path, typer.Argument(metavar="FILE", help=say("备份文件。", "The backup file."))]


@app.command(
    help=say(
        "备份运行中的节点（机构管理员）：文件由节点写入其运维者设定的文件夹（backup.folder），此处只给文件名。",
        "Back up the running node (as an officer): it writes the file into the folder that its operator set "
        "(backup.folder), here only its name is given.",
    )
    + "\n\nExample: yilian backup -o monday.yilian-backup --passphrase-file backup.txt --as centre-officer --home h"
)
def backup(
    *,
    out: Out,
    passphrase_file: PassphraseFile,
    without_blobs: WithoutBlobs = False,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Back up the running node."""
    asked = {"name": out, "passphrase": passphrase_of(passphrase_file).decode(), "blobs": not without_blobs}
    with Who(as_, home).client() as client:
        job = client.post("/v1/backups", asked)
        with progress(say("备份", "backup")) as told:
            done = client.wait_for_job(job["job_id"], lambda figures: told(int(figures.get("done", 0))))
    _tell(done["progress"], passphrase_file)


def back_up_closed(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help=say("备份文件。", "The backup file to write."))],
    passphrase_file: PassphraseFile,
    without_blobs: WithoutBlobs = False,
    institution: Annotated[
        str,
        typer.Option(help=say("由哪家机构的网关签名，默认第一家。", "Whose gateway signs it; the first by default.")),
    ] = "",
    home: HomeOption = HOME,
) -> None:
    """Back up a home whose node is stopped."""
    from yilian.node.backup import SUFFIX, closed_sources, make_backup
    from yilian.node.compose import now
    from yilian.node.home import Home
    from yilian.node.settings import load

    place = Home(home)
    file = out.absolute()
    if file.suffix != SUFFIX or file.is_relative_to(place.path):
        raise SettingsError(f"{out}, expected a name outside the home that ends in {SUFFIX}: give another")
    passphrase = passphrase_of(passphrase_file)
    with (
        closed_sources(place, load(place.settings_file), institution, now()) as sources,
        progress(say("备份", "backup")) as told,
    ):
        made = make_backup(
            sources,
            file,
            passphrase,
            with_blobs=not without_blobs,
            report=lambda figures: told(int(figures.get("done", 0))),
        )
    _tell(made.figures(), passphrase_file)


def restore_home(
    file: BackupArgument, *, passphrase_file: PassphraseFile, verify: Verify = False, home: HomeOption = HOME
) -> None:
    """Make a home from a backup."""
    import msgspec

    from yilian.node.home import Home
    from yilian.node.restore import restore_backup

    with progress(say("恢复", "restore")) as told:
        restored = restore_backup(
            file,
            Home(home),
            passphrase_of(passphrase_file),
            thorough=verify,
            progress=lambda _what, done: told(done),
        )
    show(msgspec.structs.asdict(restored))
    if not restored.vaults:
        note(
            say(
                f"保管库未打开核对：{home}.passphrase 不在；放好后运行 yilian node check。",
                f"No vault was opened: {home}.passphrase is absent; put it there, then run yilian node check.",
            )
        )
    note(
        say("下一步：", "next: ")
        + f"yilian node start --home {home}"
        + say(
            "（没有其他节点跟随时加 --no-followers）", " (with --no-followers where no other node follows this chain)"
        )
    )


def passphrase_of(file: Path) -> bytes:
    """Read the passphrase of a backup; SettingsError where it is no text."""
    content = read_bytes(file).strip()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} holds no text, expected a passphrase in UTF-8: write one") from error
    return content


def _tell(figures: dict[str, Any], passphrase_file: Path) -> None:
    show(figures)
    note(
        say(
            "下一步：把文件和口令存到别处，并试着恢复：",
            "next: keep file and passphrase elsewhere, and try a restore: ",
        )
        + f"yilian restore {figures['file']} --home new --passphrase-file {passphrase_file} --verify"
    )
