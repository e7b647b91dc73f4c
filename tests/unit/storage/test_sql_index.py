"""The read model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from yilian.errors import NotFoundError, SettingsError
from yilian.storage.rows import CaseQuery, CaseRow, EntryQuery, EntryRow, EventRow, Projected, Tally
from yilian.storage.sql import SqlIndex

HOSPITAL, CENTRE = b"h" * 32, b"c" * 32


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqlIndex]:
    opened = SqlIndex(tmp_path / "index.db")
    yield opened
    opened.close()


def case(number: int, *, state: str = "OPEN", height: int = 0, custodian: bytes = HOSPITAL) -> CaseRow:
    return CaseRow(
        case_id=bytes([number]) * 32,
        workflow="consent",
        kind="grant" if number % 2 else "use",
        state=state,
        version=1,
        opener=CENTRE,
        positions=(("custodian", custodian), ("recipient", CENTRE)),
        fields='{"n": 3}',
        flags=("emergency",) if number == 3 else (),
        opened_height=number,
        opened_time=number * 1000,
        changed_height=height or number,
        changed_time=number * 1000,
    )


def entry(number: int, *, restricted: bool = False) -> EntryRow:
    return EntryRow(
        entry_id=bytes([number]) * 32,
        root=bytes([number]) * 32,
        custodian=HOSPITAL if number % 2 else CENTRE,
        kind="C0001",
        level=4,
        month=24_000 + number,
        size_class=4096,
        status="CURRENT",
        restricted=restricted,
        late=False,
        height=number,
        time=number * 1000,
    )


def event(height: int, position: int, *, result: int = 0) -> EventRow:
    return EventRow(
        height=height,
        index=position,
        log_index=height * 10 + position,
        time=height * 1000,
        workflow="consent",
        command="grant.issue",
        case_id=bytes([height]) * 32,
        actor=HOSPITAL,
        op_id=bytes([height, position]) * 8,
        result=result,
    )


def block(number: int) -> Projected:
    return Projected(height=number, events=(event(number, 0),), cases=(case(number),), entries=(entry(number),))


def ids(page: object) -> list[int]:
    return [(row.case_id if isinstance(row, CaseRow) else row.entry_id)[0] for row in page.items]


def test_an_empty_index_stands_at_height_0(index: SqlIndex) -> None:
    assert (index.height(), index.find_cases(CaseQuery()).items, index.tally()) == (0, (), [])


def test_rows_come_back_whole(index: SqlIndex) -> None:
    index.apply([block(3)])
    assert (index.get_case(b"\x03" * 32), index.get_entry(b"\x03" * 32)) == (case(3), entry(3))
    assert index.events_of_case(b"\x03" * 32).items == (event(3, 0),)


def test_a_changed_case_and_entry_replace_what_was(index: SqlIndex) -> None:
    index.apply([block(1)])
    changed = case(1, state="ENDED", height=5, custodian=CENTRE)
    index.apply([Projected(height=5, cases=(changed,), entries=(entry(1, restricted=True),))])
    assert (index.get_case(changed.case_id), index.height()) == (changed, 5)
    assert ids(index.find_cases(CaseQuery(institution=HOSPITAL))) == []
    assert ids(index.find_entries(EntryQuery(restricted=True))) == [1]


def test_the_last_of_several_blocks_counts(index: SqlIndex) -> None:
    index.apply([block(1), Projected(height=2, cases=(case(1, state="ENDED"),))])
    assert index.get_case(b"\x01" * 32).state == "ENDED"


def test_a_block_that_comes_again_is_passed_over(index: SqlIndex) -> None:
    index.apply([block(1), block(2)])
    index.apply([Projected(height=2, cases=(case(2, state="OTHER"),)), block(1)])
    assert (index.get_case(b"\x02" * 32).state, index.height(), index.tally()[0].count) == ("OPEN", 2, 2)


def test_a_block_that_fails_changes_nothing(index: SqlIndex) -> None:
    with pytest.raises(Exception, match="exists already"):
        index.apply([Projected(height=1, events=(event(1, 0), event(1, 0)), cases=(case(1),))])
    assert (index.height(), index.find_cases(CaseQuery()).items) == (0, ())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param(CaseQuery(), [5, 4, 3, 2, 1], id="all-newest-first"),
        pytest.param(CaseQuery(workflow="consent", kind="grant"), [5, 3, 1], id="kind"),
        pytest.param(CaseQuery(workflow="referral"), [], id="workflow"),
        pytest.param(CaseQuery(states=("ENDED", "OTHER")), [5], id="states"),
        pytest.param(CaseQuery(institution=HOSPITAL), [4, 3, 2, 1], id="institution"),
        pytest.param(CaseQuery(institution=CENTRE, position="custodian"), [5], id="institution-at-position"),
        pytest.param(CaseQuery(position="payer"), [], id="position"),
        pytest.param(CaseQuery(flag="emergency"), [3], id="flag"),
        pytest.param(CaseQuery(flag="emerg"), [], id="part-of-a-flag"),
    ],
)
def test_cases_are_found_by(index: SqlIndex, query: CaseQuery, found: list[int]) -> None:
    index.apply([block(number) for number in range(1, 5)])
    index.apply([Projected(height=5, cases=(case(5, state="ENDED", custodian=CENTRE),))])
    assert ids(index.find_cases(query)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param(EntryQuery(), [4, 3, 2, 1], id="all-newest-first"),
        pytest.param(EntryQuery(custodian=HOSPITAL), [3, 1], id="custodian"),
        pytest.param(EntryQuery(kind="C0002"), [], id="kind"),
        pytest.param(EntryQuery(level=4, status="CURRENT", size_class=4096), [4, 3, 2, 1], id="level-status-size"),
        pytest.param(EntryQuery(first_month=24_002, last_month=24_003), [3, 2], id="months"),
        pytest.param(EntryQuery(restricted=False), [4, 3, 2, 1], id="restricted"),
    ],
)
def test_entries_are_found_by(index: SqlIndex, query: EntryQuery, found: list[int]) -> None:
    index.apply([block(number) for number in range(1, 5)])
    assert ids(index.find_entries(query)) == found


def test_pages_join_without_gap_or_repeat_though_rows_come_in_between(index: SqlIndex) -> None:
    index.apply([block(number) for number in range(1, 6)])
    first = index.find_cases(CaseQuery(limit=2))
    index.apply([block(6)])
    second = index.find_cases(CaseQuery(limit=2, cursor=first.next))
    third = index.find_cases(CaseQuery(limit=2, cursor=second.next))
    assert (ids(first), ids(second), ids(third), third.next) == ([5, 4], [3, 2], [1], None)


def test_events_come_in_order_of_the_log(index: SqlIndex) -> None:
    index.apply([Projected(height=height, events=(event(height, 0), event(height, 1))) for height in (1, 2, 3)])
    first = index.events_between(1, 2, limit=3)
    second = index.events_between(1, 2, limit=3, cursor=first.next)
    assert [(row.height, row.index) for row in (*first.items, *second.items)] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert second.next is None


@pytest.mark.parametrize("cursor", ["", "!", "AAAA", "gwECAw", "ggEC", "é"])
def test_a_cursor_of_another_kind_is_refused(index: SqlIndex, cursor: str) -> None:
    with pytest.raises(SettingsError, match="cursor"):
        index.find_cases(CaseQuery(cursor=cursor))


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_limit_outside_its_bounds_is_refused(index: SqlIndex, limit: int) -> None:
    with pytest.raises(SettingsError, match="limit"):
        index.find_cases(CaseQuery(limit=limit))


def test_the_tally_counts_results_apart(index: SqlIndex) -> None:
    index.apply([Projected(height=1, events=(event(1, 0), event(1, 1), event(1, 2, result=1203)))])
    assert index.tally() == [
        Tally(workflow="consent", command="grant.issue", result=0, count=2),
        Tally(workflow="consent", command="grant.issue", result=1203, count=1),
    ]


def test_what_is_not_there_is_not_found(index: SqlIndex) -> None:
    with pytest.raises(NotFoundError, match="height 0"):
        index.get_case(HOSPITAL)
    with pytest.raises(NotFoundError, match="height 0"):
        index.get_entry(HOSPITAL)


def test_a_reset_index_is_built_again(index: SqlIndex) -> None:
    index.apply([block(1)])
    index.reset()
    assert (index.height(), index.find_cases(CaseQuery()).items) == (0, ())
    index.apply([block(1)])
    assert index.height() == 1


def test_what_was_taken_over_is_there_after_opening_again(tmp_path: Path, index: SqlIndex) -> None:
    index.apply([block(1)])
    index.close()
    with closing(SqlIndex(tmp_path / "index.db")) as again:
        assert (again.height(), again.get_case(b"\x01" * 32)) == (1, case(1))


def test_an_index_of_another_release_begins_anew(tmp_path: Path, index: SqlIndex) -> None:
    index.apply([block(1)])
    index.close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema'")
        connection.commit()
    with closing(SqlIndex(tmp_path / "index.db")) as again:
        assert again.height() == 0


def test_an_operation_is_found_by_its_id(index: SqlIndex) -> None:
    index.apply([block(1), block(2)])

    assert index.events_of_operation(b"\x02\x00" * 8) == (event(2, 0),)
    assert index.events_of_operation(bytes(16)) == ()
