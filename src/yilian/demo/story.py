"""The whole story, from founding to the regulator's questions, played through the node's public faces.

What it does is what people and machines of seven institutions would do: over HTTP with API keys, with keys on a phone
and a tablet, and between institutions over mutual TLS. It has no way around a gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from yilian.demo import auditing, followers, founding, journeys, loading, proving, refusals, supervising, wallets
from yilian.demo.process import MemoryWatch, NodeProcess, RunsNode
from yilian.demo.report import Report, Seconds, count
from yilian.demo.stage import Options, Stage
from yilian.demo.telling import Teller
from yilian.node.home import Home, store_private
from yilian.node.settings import ApiSettings, PeerSettings, Settings, load, to_toml

ANY_PORT = Settings(api=ApiSettings(port=0), peer=PeerSettings(base_port=0))

_EQUAL = {True: "equal", False: "unequal"}
WhileUp = Callable[[Stage, RunsNode], None]


def play(
    path: Path,
    tell: Teller,
    options: Options,
    *,
    report_to: Path | None = None,
    while_up: WhileUp | None = None,
    start: Callable[[Home], RunsNode] = NodeProcess,
) -> Report:
    """Play the story in a home, new or with a network in it already, and give the figures counted at the end.

    `while_up` is called before the node stops, such as to wait for Ctrl-C. `start` starts the node of a home, by
    default as a process of its own.

    Raises:
        VerificationError: something that must be refused was not.
        UnavailableError: the node did not come up, or stopped answering.
        what a step raises that should have been done.
    """
    home, began = Home(path), time.monotonic()
    home.make()
    if not home.settings_file.exists():
        store_private(home.settings_file, to_toml(ANY_PORT).encode())
    stage = Stage(home, load(home.settings_file), tell, options)
    with MemoryWatch() as memory:

        def finish(told: float) -> Report:
            """Count, print and write the figures."""
            memory.sample()
            seconds = _seconds(stage, told, time.monotonic() - began)
            report = count(home, stage.settings, seconds, peak_rss_mb=memory.peak_mb, made=stage.done.proofs)
            tell_report(tell, report)
            if report_to is not None:
                _write(report_to, report, tell)
            return report

        if home.genesis_file.exists():
            tell.say("continuing", home=path)
        else:
            founding.found(stage)
        followers.move_all_out(stage)
        with start(home) as node, closing(stage):
            ready = node.wait_ready()
            stage.open(ready.url)
            tell.say("started")
            with followers.Followers(stage, start, ready):
                told = _acts(stage)
                memory.sample()
                if while_up is not None:
                    report = finish(told)
                    while_up(stage, node)
                    return report
        return finish(told)


def _seconds(stage: Stage, told: float, total: float) -> Seconds:
    return Seconds(
        importing=round(stage.seconds["import"], 2),
        screen=round(stage.seconds["screen"], 2),
        story=round(told, 2),
        total=round(total, 2),
    )


def _acts(stage: Stage) -> float:
    """Play all acts, and give the seconds of those beside import and screening."""
    founding.admit(stage)
    loading.load(stage)
    loading.screen(stage)
    began = time.monotonic()
    journeys.refer_all(stage)
    refusals.refuse_all(stage, wallets.decide(stage))
    supervising.have_an_emergency(stage)
    auditing.rest(stage)
    auditing.ask(stage)
    auditing.rest(stage)
    proving.prove(stage)
    auditing.rest(stage)
    followers.wait_equal(stage)
    return time.monotonic() - began


def tell_report(tell: Teller, report: Report) -> None:
    """Print the figures."""
    tell.chapter("report")
    referrals, refused, ledger, seconds = report.referrals, report.refused, report.ledger, report.seconds
    rows: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("institutions", (report.institutions,)),
        ("patients", (report.patients,)),
        ("records", (report.records,)),
        ("screened", (report.screened, report.high_risk)),
        ("referrals", (referrals.requested, referrals.accepted, referrals.completed, referrals.closed)),
        ("fetches", (report.fetches.attempted, report.fetches.verified)),
        (
            "refused",
            (
                refused.stranger,
                refused.revoked,
                refused.exhausted,
                refused.expired,
                refused.wider_delegation,
                refused.tampered,
            ),
        ),
        ("audit", (report.audit.pairs, report.audit.one_sided, report.audit.questions_answered)),
        ("ledger", (ledger.height, ledger.operations, ledger.refused_operations)),
        ("app_hash", (ledger.app_hash,)),
        ("followers", (report.followers.count, tell.words("report", _EQUAL[report.followers.app_hash_equal]))),
        ("proofs", tuple(f"{name} {int(each['bytes'])}" for name, each in report.proofs.items())),
        ("seconds", (seconds.importing, seconds.screen, seconds.story, seconds.total)),
        ("memory", (f"{report.peak_rss_mb} MB",)),
    )
    for key, values in rows:
        tell.line(f"  {tell.words('report', key)}: {' / '.join(str(value) for value in values)}")


def _write(file: Path, report: Report, tell: Teller) -> None:
    store_private(file.absolute(), msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    tell.line(f"  {tell.words('report', 'written', {'file': file})}")
