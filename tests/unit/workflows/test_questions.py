"""The auditor's questions over the read model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from yilian.errors import NotFoundError
from yilian.ledger.cases import Case
from yilian.ledger.members import Role
from yilian.storage.rows import CaseRow, EventRow, Projected
from yilian.storage.sql import SqlIndex
from yilian.values import CaseId, Digest, InstitutionId, case_id, digest, institution_id, key_id, unix_millis
from yilian.values import public_key as public_key_of
from yilian.web.kit.jsonform import to_json
from yilian.workflows.audit.model import WAS_ONE_SIDED, Disclosure
from yilian.workflows.audit.questions import Gap, PassedOn, Questions
from yilian.workflows.catalog.model import Entry, Origin
from yilian.workflows.consent.model import Basis, Grant, Use
from yilian.workflows.consent.policy import Purpose


def named(text: str) -> bytes:
    return text.encode().ljust(32, b".")


CENTRE, HOSPITAL, LABORATORY = (institution_id(named(name)) for name in ("centre", "hospital", "laboratory"))
RECORD, OTHER = case_id(named("record")), case_id(named("other"))
GRANT, CHILD, ONE, TWO, PAIR = (case_id(named(name)) for name in ("grant", "child", "one", "two", "pair"))
NOTHING = digest(bytes(32))


def grant_of(recipient: InstitutionId, *, ancestors: tuple[CaseId, ...] = ()) -> Grant:
    return Grant(
        basis=Basis.CONSENT,
        covered_by=None,
        custodian=CENTRE,
        recipient=recipient,
        issuer=HOSPITAL if ancestors else CENTRE,
        purpose=Purpose.TREAT,
        entries=(RECORD, OTHER),
        level_cap=4,
        begins=unix_millis(0),
        ends=unix_millis(9_000),
        depth=1,
        ancestors=ancestors,
        suspender=None,
        suspend_reason=None,
        acknowledge_by=unix_millis(0),
        stopped=unix_millis(0),
        copies=None,
    )


def use_of(grant: CaseId, *, first: int, delivered: int) -> Use:
    return Use(
        grant=grant,
        custodian=CENTRE,
        recipient=HOSPITAL,
        person=key_id(named("physician")),
        role=Role.PHYSICIAN,
        entries=(RECORD, OTHER),
        purpose=Purpose.TREAT,
        one_time=public_key_of(bytes(32)),
        message=NOTHING,
        lease_end=unix_millis(0),
        mask=NOTHING,
        first_number=first,
        allowed=6,
        forgiven=0,
        delivered=unix_millis(delivered),
        dispute_until=unix_millis(0),
        failed_guard=0,
        declined=None,
        disputed=(),
        dispute_reason=None,
    )


def pair_of(use: CaseId, *, source: Digest | None, recipient: Digest | None) -> Disclosure:
    return Disclosure(
        use=use,
        source=CENTRE,
        recipient=HOSPITAL,
        first=CENTRE,
        second=HOSPITAL,
        complete_by=unix_millis(8_000),
        source_event=source,
        recipient_event=recipient,
    )


ENTRY = Entry(
    custodian=CENTRE,
    tag=NOTHING,
    root=NOTHING,
    commitment=NOTHING,
    size_class=9,
    kind="C0001",
    level=4,
    month=24_000,
    origin=Origin.SYSTEM,
    late=False,
)


def row(kind: str, case: CaseId, fields: Case, state: str, *, height: int, flags: tuple[str, ...] = ()) -> CaseRow:
    positions = [(name, getattr(fields, name, None)) for name in ("custodian", "recipient", "source")]
    return CaseRow(
        case_id=case,
        workflow="consent",
        kind=kind,
        state=state,
        version=1,
        opener=CENTRE,
        positions=tuple((name, held) for name, held in positions if held is not None),
        fields=msgspec.json.encode(to_json(fields)).decode(),
        flags=flags,
        opened_height=height,
        opened_time=height * 1_000,
        changed_height=height,
        changed_time=height * 1_000,
    )


def event(height: int, case: CaseId, command: str, *, refused: list[list[object]] | None = None) -> EventRow:
    detail: dict[str, object] = {"_persons": [["aa", "physician"]]}
    if refused:
        detail["_refusal"] = refused
    return EventRow(
        height=height,
        index=0,
        log_index=height,
        time=height * 1_000,
        workflow="consent",
        command=command,
        case_id=case,
        actor=HOSPITAL,
        op_id=bytes([height]) * 16,
        result=11 if refused else 0,
        state="" if refused else "delivered",
        detail=msgspec.json.encode(detail).decode(),
    )


@pytest.fixture
def questions(tmp_path: Path) -> Iterator[Questions]:
    index = SqlIndex(tmp_path / "index.db")
    blocks = [
        Projected(
            height=1,
            cases=(
                row("entry", RECORD, ENTRY, "current", height=1),
                row("grant", GRANT, grant_of(HOSPITAL), "issued", height=1),
            ),
        ),
        Projected(
            height=2,
            cases=(row("use", ONE, use_of(GRANT, first=1, delivered=2_000), "confirmed", height=2),),
            events=(event(2, ONE, "use.reserve"),),
        ),
        Projected(
            height=3,
            cases=(row("grant", CHILD, grant_of(LABORATORY, ancestors=(GRANT,)), "issued", height=3),),
            events=(event(3, GRANT, "grant.delegate"),),
        ),
        Projected(
            height=4,
            cases=(
                row("use", TWO, use_of(GRANT, first=3, delivered=4_000), "delivered", height=4),
                row(
                    "disclosure",
                    PAIR,
                    pair_of(ONE, source=NOTHING, recipient=NOTHING),
                    "matched",
                    height=4,
                    flags=(WAS_ONE_SIDED,),
                ),
            ),
            events=(event(4, GRANT, "grant.delegate", refused=[["kernel", 11], ["consent", 14]]),),
        ),
    ]
    index.apply(blocks)
    yield Questions(index)
    index.close()


def test_an_entry_tells_who_got_it_by_whose_grant_as_which_delivery_and_to_whom_it_went_on(
    questions: Questions,
) -> None:
    first, second = questions.deliveries(entry=RECORD)
    assert (first.use, first.recipient, first.granted_by) == (ONE.hex(), HOSPITAL.hex(), CENTRE.hex())
    assert (first.granted_at, first.delivered_at) == (1_000, 2_000)
    assert (first.first_number, first.last_number, first.allowed) == (1, 2, 6)
    assert (first.scope.purpose, first.scope.ends, first.pair) == ("TREAT", 9_000, "matched")
    assert first.passed_on == (
        PassedOn(
            grant=CHILD.hex(),
            recipient=LABORATORY.hex(),
            entries=(RECORD.hex(), OTHER.hex()),
            state="issued",
            granted_at=3_000,
        ),
    )
    assert (second.first_number, second.last_number, second.pair) == (3, 4, "")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"use": TWO}, [TWO], id="one-use"),
        pytest.param({"grant": GRANT}, [ONE, TWO], id="a-grant"),
        pytest.param({"grant": CHILD}, [], id="a-grant-never-used"),
        pytest.param({"recipient": HOSPITAL}, [ONE, TWO], id="a-recipient"),
        pytest.param({"custodian": HOSPITAL}, [], id="not-the-custodian"),
        pytest.param({}, [ONE, TWO], id="everything"),
    ],
)
def test_deliveries_are_those_asked_for_the_oldest_first(
    questions: Questions, asked: dict[str, bytes], expected: list[bytes]
) -> None:
    assert [item.use for item in questions.deliveries(**asked)] == [use.hex() for use in expected]


def test_what_is_not_on_the_ledger_is_not_found(questions: Questions) -> None:
    with pytest.raises(NotFoundError):
        questions.deliveries(grant=named("nothing"))


def test_a_case_is_told_with_its_uses_children_and_pairs_in_order(questions: Questions) -> None:
    told = questions.case_file(GRANT)
    assert (told.kind, told.state) == ("grant", "issued")
    assert told.related == (
        ("use", ONE.hex(), "confirmed"),
        ("grant", CHILD.hex(), "issued"),
        ("disclosure", PAIR.hex(), "matched"),
        ("use", TWO.hex(), "delivered"),
    )
    assert [(step.height, step.command, step.refused) for step in told.steps] == [
        (2, "use.reserve", ()),
        (3, "grant.delegate", ()),
        (4, "grant.delegate", (("kernel", 11), ("consent", 14))),
    ]


def test_a_delivery_that_nobody_recorded_is_unmatched_at_once(questions: Questions) -> None:
    assert questions.unmatched() == (
        Gap(
            use=TWO.hex(),
            pair="",
            state="silent",
            custodian=CENTRE.hex(),
            recipient=HOSPITAL.hex(),
            missing=(CENTRE.hex(), HOSPITAL.hex()),
            since=4_000,
            complete_by=0,
        ),
    )


def test_pairs_are_counted_by_state_and_by_having_been_one_sided(questions: Questions) -> None:
    assert questions.pairs() == {WAS_ONE_SIDED: 1, "matched": 1}


def test_refusals_are_counted_by_what_decided(questions: Questions) -> None:
    assert questions.refusals() == {("consent", 14): 1}
