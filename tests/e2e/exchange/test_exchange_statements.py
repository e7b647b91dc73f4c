"""The nodes state each day which disclosure events they have, show that one is covered, and report who does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.exchange.pair import MEMBERS, SETTINGS, Pair, found_home
from yilian.crypto import merkle
from yilian.errors import NotFoundError
from yilian.node import compose
from yilian.node.home import Home
from yilian.node.host import Host
from yilian.node.network import NetworkSpec, found_demo
from yilian.node.stating import MARGIN_MS, report_missing, state_days
from yilian.values import DAY, HOUR, Day, UnixMillis, day_of, end_of_day, unix_millis
from yilian.workflows.audit.listing import show_covered
from yilian.workflows.audit.model import Disclosure, DisclosureState
from yilian.workflows.audit.statements import Statement, StatementState, statement_id
from yilian.workflows.audit.table import disclosure_id

REAL = compose.now


class Clock:
    """The machine's clock, moved on."""

    def __init__(self) -> None:
        self.shift = 0

    def __call__(self) -> UnixMillis:
        return unix_millis(REAL() + self.shift)

    def move_past(self, day: Day, after: int) -> None:
        """Go to a time after the end of a day."""
        self.shift = end_of_day(day) + after - REAL()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(compose, "now", made)
    return made


@pytest.fixture
def quiet(tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    running = Pair(found_home(tmp_path)).start(reactors=False)
    running.register()
    yield running
    running.stop()


@pytest.fixture
def busy(tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    running = Pair(found_home(tmp_path)).start()
    running.register()
    yield running
    running.stop()


def _statement(pair: Pair, host: Host, day: Day) -> tuple[str, Statement]:
    found = pair.get(Statement, statement_id(pair.node.chain, host.id, day))
    return found.state, found.fields


def _read_model_is_there(pair: Pair) -> bool:
    return pair.node.index.height() == pair.node.engine.head().height


def test_a_day_is_stated_by_both_sides_and_each_event_is_shown_to_be_covered(busy: Pair, clock: Clock) -> None:
    day = day_of(clock())
    fetched = [busy.fetch(busy.grant(busy.publish(b"record %d" % number))) for number in range(3)]
    pairs = [disclosure_id(busy.node.chain, one.use_id) for one in fetched]
    busy.wait(lambda: all(busy.get(Disclosure, one).state == DisclosureState.MATCHED for one in pairs))
    busy.wait(lambda: _read_model_is_there(busy))
    clock.move_past(day, MARGIN_MS + 1)
    hosts = [busy.centre, busy.hospital]
    assert state_days(busy.node, hosts) == 2
    assert state_days(busy.node, hosts) == 0
    for host in hosts:
        state, fields = _statement(busy, host, day)
        assert (state, fields.first, fields.count) == (StatementState.PUBLISHED, 1, 3)
        assert fields.root is not None
        shown = [show_covered(host, day, number) for number in (1, 2, 3)]
        assert {one.line.pair for one in shown} == set(pairs)
        for one in shown:
            assert merkle.verify_inclusion(one.line.leaf(), one.index, one.size, one.path, fields.root)
        with pytest.raises(NotFoundError):
            show_covered(host, day, 4)
    clock.move_past(day + 1, MARGIN_MS + 1)
    assert state_days(busy.node, hosts) == 2
    state, fields = _statement(busy, busy.centre, day + 1)
    assert (fields.first, fields.count, fields.root) == (4, 0, merkle.EMPTY_ROOT)


def test_a_day_is_not_stated_before_it_is_over(quiet: Pair, clock: Clock) -> None:
    day = day_of(clock())
    clock.move_past(day, MARGIN_MS - 60_000)
    assert state_days(quiet.node, list(quiet.node.hosts.values())) == 0


def test_what_others_do_not_state_by_six_is_reported_and_published_late(quiet: Pair, clock: Clock) -> None:
    day, hosts = day_of(clock()), list(quiet.node.hosts.values())
    clock.move_past(day, 5 * HOUR)
    assert report_missing(quiet.node, hosts) == 0
    clock.move_past(day, 6 * HOUR + MARGIN_MS + 1)
    assert report_missing(quiet.node, hosts) == len(hosts)
    assert report_missing(quiet.node, hosts) == 0
    assert _statement(quiet, quiet.centre, day)[0] == StatementState.MISSING
    quiet.wait(lambda: _read_model_is_there(quiet))
    assert state_days(quiet.node, [quiet.centre]) == 1
    assert _statement(quiet, quiet.centre, day)[0] == StatementState.PUBLISHED_LATE


def test_each_hour_another_member_reports(quiet: Pair, clock: Clock) -> None:
    day, hosts = day_of(clock()), list(quiet.node.hosts.values())
    reported = []
    for hour in range(7, 7 + len(hosts)):
        clock.move_past(day, hour * HOUR)
        reported.append(report_missing(quiet.node, [quiet.node.host("bureau")]))
    assert sum(reported) == len(hosts) - 1


def test_a_node_that_was_off_for_days_states_them_in_order_once_it_runs(tmp_path: Path) -> None:
    home, begun = Home(tmp_path / "home"), unix_millis(REAL() - 3 * DAY)
    found_demo(home, SETTINGS, NetworkSpec(name="off", institutions=MEMBERS, tree_depth=8), begun)
    running = Pair(home).start()
    try:
        for host in running.node.hosts.values():
            for day in range(day_of(begun), day_of(unix_millis(REAL() - MARGIN_MS))):
                case = statement_id(running.node.chain, host.id, day)
                running.wait(lambda case=case: running.node.engine.find_case(case) is not None)
                assert _statement(running, host, day)[0] == StatementState.PUBLISHED
    finally:
        running.stop()
