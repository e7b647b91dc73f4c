"""What to try once the story is told: addresses, keys, and commands of which each prints the next."""

from __future__ import annotations

from yilian.demo.consortium import LAKESIDE, REGULATOR
from yilian.demo.stage import Stage
from yilian.node.control import read_node_file


def tell_next(stage: Stage) -> None:
    """Print where everything is, and the first commands to type in another terminal."""
    # read anew: whoever joined during the story has opened a door since
    tell, file = stage.tell, read_node_file(stage.home)
    tell.line(f"\n{tell.words('next', 'up')}")
    for key, value in (
        ("api", file.url),
        ("docs", f"{file.url}/openapi.json"),
        ("home", stage.home.path),
        ("keys", stage.home.clients / "*.toml"),
    ):
        tell.line(f"  {tell.words('next', key)}: {value}")
    tell.line(f"  {tell.words('next', 'door')}:")
    for slug, address in file.doors.items():
        tell.line(f"    {slug}: {address}")
    tell.line(f"\n{tell.words('next', 'try')}")
    for command in commands(stage):
        tell.line(f"  {command}")


def commands(stage: Stage) -> tuple[str, ...]:
    """Give the first commands of a visitor; the home is named once, for all that follow."""
    return (
        f"export YILIAN_HOME={stage.home.path}",
        "yilian network members",
        f"yilian screen list --class medium --limit 3 --as {LAKESIDE.slug}-physician",
        f"yilian audit unmatched --as {REGULATOR.slug}-auditor",
    )
