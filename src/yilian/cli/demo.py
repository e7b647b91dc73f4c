"""`yilian demo`: found a consortium, play the whole story, and leave it running to be tried."""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yilian.cli import output
from yilian.cli.output import say
from yilian.errors import SettingsError

if TYPE_CHECKING:
    from yilian.demo.process import RunsNode
    from yilian.demo.stage import Stage

RESIDENTS, MOST_RESIDENTS, SEED = 80, 100_000, 20260601

app = typer.Typer()


@app.command(
    help=say(
        "演示：建立七家机构的联盟，导入病历，筛查，转诊，取回并校验，拒绝该拒绝的，监管提问。"
        "默认用虚构居民；结束后节点继续运行，直到 Ctrl-C。",
        "A demonstration: seven institutions found a consortium, bring in records, screen, refer, fetch and verify, "
        "refuse what must be refused, and a regulator asks. Residents are made up unless data is given; the node then "
        "stays up until Ctrl-C.",
    )
    + "\n\nExample: yilian demo --headless --residents 12"
)
def demo(
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help=say("FHIR 文件、目录或归档。", "FHIR file, folder or archive."))
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            "--home",
            help=say(
                "主目录；默认临时目录，结束即删。", "Folder to keep; by default a temporary one, removed at the end."
            ),
        ),
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help=say("讲完即结束。", "End when the story is told."))
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help=say("报告文件（JSON）。", "Report to write, JSON."))
    ] = None,
    residents: Annotated[
        int, typer.Option("--residents", min=6, max=MOST_RESIDENTS, help=say("虚构居民人数。", "How many are made up."))
    ] = RESIDENTS,
    seed: Annotated[int, typer.Option("--seed", help=say("虚构居民的种子。", "Seed of the made-up residents."))] = SEED,
) -> None:
    """Play the demonstration."""
    from yilian.demo.stage import Options
    from yilian.demo.story import play
    from yilian.demo.telling import Teller
    from yilian.engine.tuning import bound_arenas

    if data is not None and not data.exists():
        raise SettingsError(f"nothing lies at {data}, expected a FHIR file, folder or archive: check --data")
    bound_arenas()
    tell = Teller(output.language())
    _listen_to_signals()
    with ExitStack() as stack:
        if home is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="yilian-demo-"))
            place = Path(folder) / "home"
        else:
            place = home.absolute()
        options = Options(data=data, residents=residents, seed=seed)
        play(place, tell, options, report_to=report, while_up=None if headless else _stay_up)
    if home is None:
        tell.line(f"\n{tell.words('next', 'gone')}")
    else:
        tell.line(f"\n{tell.words('next', 'kept', {'home': place})}")


def _listen_to_signals() -> None:
    """Let SIGTERM, and a terminal that closes, end story and node as Ctrl-C does, after a shell's `&` too."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)


def _stay_up(stage: Stage, node: RunsNode) -> None:
    """Print where everything is and what to try, and wait for Ctrl-C."""
    from yilian.demo.trying import tell_next

    tell_next(stage)
    try:
        while node.is_running():
            time.sleep(1)
    except KeyboardInterrupt:
        stage.tell.line()
