"""Showing that a daily statement covers a disclosure event: over HTTP and on the command line of a running node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.exchange.pair import Pair
from yilian.cli.main import main
from yilian.crypto.intl import Ed25519Signer
from yilian.crypto.suite import sha256
from yilian.errors import NoGrantError, NotFoundError, VerificationError
from yilian.node import compose
from yilian.node.stating import MARGIN_MS, state_days
from yilian.storage.vault.subjects import new_subject_ref
from yilian.testing.served import Served, serve
from yilian.values import UnixMillis, day_of, end_of_day, unix_millis
from yilian.workflows.audit.model import Disclosure, DisclosureState
from yilian.workflows.audit.statements import Statement, statement_id
from yilian.workflows.audit.table import disclosure_id

REAL = compose.now
Run = Callable[..., tuple[int, str]]


class Told(Pair):
    """What the pair of institutions does, on a node that is served."""

    def __init__(self, served: Served) -> None:
        self.node = served.node
        self.wallet = Ed25519Signer.from_seed(sha256(b"wallet"))
        self.subject = new_subject_ref()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    shift = [0]

    def clock() -> UnixMillis:
        return unix_millis(REAL() + shift[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "now", clock)
        with serve(tmp_path_factory.mktemp("covered")) as node:
            told = Told(node)
            told.register()
            use = told.fetch(told.grant(told.publish(b"delivered"))).use_id
            pair = disclosure_id(node.node.chain, use)
            told.wait(lambda: told.get(Disclosure, pair).state == DisclosureState.MATCHED)
            node.wait_projected()
            shift[0] = end_of_day(day_of(REAL())) + MARGIN_MS + 1 - REAL()
            state_days(node.node, list(node.node.hosts.values()))
            yield node


@pytest.fixture(scope="module")
def day(served: Served) -> int:
    return day_of(served.node.clock()) - 1


@pytest.fixture
def run(served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = main([*words, "--lang", "en"])
        return code, capfd.readouterr().out

    return call


def _date(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()


def test_the_line_of_an_event_leads_to_the_root_on_the_ledger(served: Served, day: int) -> None:
    host = served.node.hosts["centre"]
    with served.client("centre-data-officer") as client:
        shown = client.get(f"/v1/audit/statements/{day}/1")
    statement = host.gateway.find(Statement, statement_id(served.node.chain, host.id, day))
    assert statement is not None
    assert (shown["statement"], shown["size"], shown["index"]) == (statement.header.id.hex(), 1, 0)


def test_what_a_statement_does_not_cover_is_not_found(served: Served, day: int) -> None:
    with served.client("hospital-data-officer") as client:
        for path in (f"{day}/2", f"{day - 400}/1"):
            with pytest.raises(NotFoundError):
                client.get(f"/v1/audit/statements/{path}")
    with served.client("centre-physician") as client, pytest.raises(NoGrantError):
        client.get(f"/v1/audit/statements/{day}/1")


@pytest.mark.parametrize("slug", ["centre", "hospital"])
def test_the_command_line_checks_the_line_against_the_root(served: Served, run: Run, day: int, slug: str) -> None:
    served.wait_projected()
    code, out = run("audit", "covered", _date(day), "1", "--as", f"{slug}-data-officer", "--json")
    assert (code, json.loads(out)["number"]) == (0, 1)
    code, out = run("audit", "statements", "--as", f"{slug}-data-officer")
    assert code == 0
    assert _date(day) in out


def test_the_command_line_says_what_is_wrong(run: Run, day: int) -> None:
    officer = ("--as", "centre-data-officer")
    assert run("audit", "covered", _date(day), "7", *officer)[0] == 3
    assert run("audit", "covered", "yesterday", "1", *officer)[0] == 2


def test_a_line_that_does_not_lead_to_the_root_is_refused() -> None:
    from yilian.cli.audit import _check_covered  # noqa: PLC0415

    shown = {"number": 1, "pair": "07" * 32, "event": "08" * 32, "index": 0, "size": 1, "path": [], "statement": "s"}
    with pytest.raises(VerificationError, match="report the gap"):
        _check_covered(shown, {"first": 1, "count": 1, "root": "09" * 32})
