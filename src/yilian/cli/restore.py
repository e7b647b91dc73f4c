"""`yilian restore`: another name of `yilian node restore`; it makes a home, so no node has to run."""

from __future__ import annotations

import typer

from yilian.cli.access import HomeOption
from yilian.cli.backup import BackupArgument, PassphraseFile, Verify, restore_home
from yilian.cli.output import say
from yilian.cli.steps import HOME

app = typer.Typer()


@app.command(
    help=say(
        "由备份恢复一个新的主目录：全部核验通过后才可用，否则什么也不留，指名不成立之处并以 5 退出。",
        "Make a new home from a backup: usable only once all of it was recomputed; else nothing is left, what does not "
        "hold is named, and the exit code is 5.",
    )
    + "\n\nExample: yilian restore monday.yilian-backup --home new --passphrase-file backup.txt --verify"
)
def restore(
    file: BackupArgument, *, passphrase_file: PassphraseFile, verify: Verify = False, home: HomeOption = HOME
) -> None:
    """Restore a home."""
    restore_home(file, passphrase_file=passphrase_file, verify=verify, home=home)
