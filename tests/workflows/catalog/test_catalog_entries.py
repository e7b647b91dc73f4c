"""What becomes of an entry of the catalogue, and what its custodian and others may not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from yilian.crypto.tags import entry_id
from yilian.ledger.cases import Found
from yilian.ledger.envelope import encode_operation
from yilian.ledger.members import Role
from yilian.ledger.results import Answer
from yilian.ledger.running import OVERDUE
from yilian.ledger.workflow import KernelRefusal
from yilian.testing.consortium import Consortium
from yilian.values import DAY, CaseId, case_id, unix_millis
from yilian.workflows.catalog.model import (
    RESTRICTED,
    ChallengeOpen,
    Dispute,
    DisputeReason,
    Entry,
    EntryState,
    Publish,
    Refusal,
    Replace,
    Resolution,
    Resolve,
    Restrict,
    Unrestrict,
    Withdraw,
)
from yilian.workflows.governance.model import MemberAnnounceLeave, MemberLeave

Describer = Callable[..., dict[str, Any]]
Publisher = Callable[..., CaseId]


def found(consortium: Consortium, entry: CaseId) -> Found[Entry]:
    case = consortium.case(Entry, entry)
    assert case is not None
    return case


def refusal(answer: Answer) -> tuple[str, int]:
    return answer.result[0]


def test_publishing_opens_a_current_entry_under_the_id_of_its_tag(consortium: Consortium, describe: Describer) -> None:
    centre = consortium["centre"]
    fields = describe()

    answer = consortium.act(centre, Publish(**fields))

    assert answer.case_id == entry_id(consortium.chain, centre.id, fields["tag"])
    entry = found(consortium, answer.case_id)
    assert entry.state == EntryState.CURRENT
    assert entry.fields == Entry(custodian=centre.id, **fields)


def test_the_authors_own_key_may_publish_too(consortium: Consortium, describe: Describer) -> None:
    command = Publish(**describe())
    assert consortium.act(consortium["centre"], command, persons=[Role.PHYSICIAN]).ok


def test_a_tag_serves_once(consortium: Consortium, describe: Describer) -> None:
    fields = describe()
    consortium.act(consortium["centre"], Publish(**fields))

    answer = consortium.act(consortium["centre"], Publish(**{**fields, "level": 4}))

    assert refusal(answer) == ("kernel", KernelRefusal.STALE_VERSION)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param("C0001", Refusal.TYPE_TOO_FINE, id="once-a-patient"),
        pytest.param("C0007.HIV", Refusal.TYPE_TOO_FINE, id="finer-than-a-class"),
        pytest.param("C0054", Refusal.UNKNOWN_TYPE, id="beyond-the-last-class"),
        pytest.param("48642-3", Refusal.UNKNOWN_TYPE, id="a-code-of-another-system"),
    ],
)
def test_only_classes_of_the_chains_list_are_published(
    consortium: Consortium, describe: Describer, kind: str, number: Refusal
) -> None:
    answer = consortium.act(consortium["centre"], Publish(**describe(kind=kind)))
    assert refusal(answer) == ("catalog", number)


def test_replacing_supersedes_the_entry_and_opens_its_successor(
    consortium: Consortium, describe: Describer, publish: Publisher
) -> None:
    centre = consortium["centre"]
    old = publish(centre, level=3)
    fields = describe(level=4)

    answer = consortium.act(centre, Replace(**fields), old)

    assert answer.ok, answer.message
    new = found(consortium, entry_id(consortium.chain, centre.id, fields["tag"]))
    assert (new.state, new.header.flags) == (EntryState.CURRENT, ())
    assert new.fields == Entry(custodian=centre.id, replaces=old, **fields)
    assert found(consortium, old).state == EntryState.SUPERSEDED


def test_the_patients_no_goes_over_to_the_successor(
    consortium: Consortium, describe: Describer, publish: Publisher
) -> None:
    centre = consortium["centre"]
    old = publish(centre)
    consortium.act(centre, Restrict(), old)
    fields = describe()

    consortium.act(centre, Replace(**fields), old)

    new = found(consortium, entry_id(consortium.chain, centre.id, fields["tag"]))
    assert new.header.flags == (RESTRICTED,)


def test_a_replacement_does_not_lower_the_level(
    consortium: Consortium, describe: Describer, publish: Publisher
) -> None:
    old = publish(consortium["centre"], level=3)
    answer = consortium.act(consortium["centre"], Replace(**describe(level=2)), old)
    assert refusal(answer) == ("catalog", Refusal.LEVEL_LOWERED)
    assert found(consortium, old).state == EntryState.CURRENT


def test_a_replacement_is_of_a_class_on_the_list_too(
    consortium: Consortium, describe: Describer, publish: Publisher
) -> None:
    old = publish(consortium["centre"])
    answer = consortium.act(consortium["centre"], Replace(**describe(kind="C0050")), old)
    assert refusal(answer) == ("catalog", Refusal.TYPE_TOO_FINE)


def test_a_replacement_needs_a_fresh_tag(consortium: Consortium, describe: Describer, publish: Publisher) -> None:
    centre = consortium["centre"]
    old = publish(centre)
    tag = found(consortium, old).fields.tag

    answer = consortium.act(centre, Replace(**describe(tag=tag)), old)

    assert answer.result == (("kernel", KernelRefusal.CONSEQUENCE_REFUSED), ("kernel", KernelRefusal.STALE_VERSION))
    assert found(consortium, old).state == EntryState.CURRENT


def test_nobody_else_replaces_an_entry(consortium: Consortium, describe: Describer, publish: Publisher) -> None:
    old = publish(consortium["centre"])
    answer = consortium.act(consortium["hospital"], Replace(**describe()), old)
    assert refusal(answer) == ("kernel", KernelRefusal.NOT_PERMITTED)


def test_restricting_and_its_end_set_and_clear_the_flag_at_any_version(
    consortium: Consortium, publish: Publisher
) -> None:
    centre = consortium["centre"]
    entry = publish(centre)

    assert consortium.act(centre, Restrict(), entry, persons=[Role.DATA_OFFICER]).ok
    assert consortium.act(centre, Restrict(), entry, version=7).ok
    restricted = found(consortium, entry)
    assert consortium.act(centre, Unrestrict(), entry, version=1).ok
    free = found(consortium, entry)

    assert (restricted.state, restricted.header.flags) == (EntryState.CURRENT, (RESTRICTED,))
    assert (free.state, free.header.flags) == (EntryState.CURRENT, ())


def test_an_officer_of_another_custodian_disputes_by_naming_its_own_entry(
    consortium: Consortium, publish: Publisher
) -> None:
    entry, own = publish(consortium["centre"]), publish(consortium["hospital"])

    answer = consortium.act(
        consortium["hospital"],
        Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=own),
        entry,
        persons=[Role.DATA_OFFICER],
    )

    assert answer.ok, answer.message
    disputed = found(consortium, entry)
    assert disputed.state == EntryState.DISPUTED
    assert disputed.fields.disputer == consortium["hospital"].id
    assert disputed.fields.dispute_reason == DisputeReason.WRONG_PATIENT
    assert disputed.fields.answer_by == consortium.time + 7 * DAY


def test_an_auditor_disputes_without_an_entry(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.OUT_OF_CALIBRATION, own_entry=None)
    assert consortium.act(consortium["regulator"], command, entry, persons=[Role.AUDITOR]).ok


def test_a_custodian_does_not_dispute_its_own_entry(consortium: Consortium, publish: Publisher) -> None:
    entry, other = publish(consortium["centre"]), publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=other)
    answer = consortium.act(consortium["centre"], command, entry, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("catalog", Refusal.OWN_ENTRY)


def test_an_officer_who_names_no_own_entry_is_refused(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=None)
    answer = consortium.act(consortium["hospital"], command, entry, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("catalog", Refusal.NOT_CUSTODIAN)


def test_an_officer_who_names_anothers_entry_is_refused(consortium: Consortium, publish: Publisher) -> None:
    entry, other = publish(consortium["centre"]), publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=other)
    answer = consortium.act(consortium["hospital"], command, entry, persons=[Role.DATA_OFFICER])
    assert refusal(answer) == ("catalog", Refusal.NOT_CUSTODIAN)


def test_an_officer_who_names_a_withdrawn_own_entry_is_refused(consortium: Consortium, publish: Publisher) -> None:
    entry, own = publish(consortium["centre"]), publish(consortium["hospital"])
    consortium.act(consortium["hospital"], Withdraw(), own, persons=[Role.DATA_OFFICER])

    command = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=own)
    answer = consortium.act(consortium["hospital"], command, entry, persons=[Role.DATA_OFFICER])

    assert refusal(answer) == ("catalog", Refusal.ENTRY_NOT_CURRENT)


def test_an_own_entry_counts_as_withdrawn_once_its_custodian_has_left(
    consortium: Consortium, publish: Publisher
) -> None:
    centre, leaver = consortium["centre"], consortium["hospital"]
    entry = publish(leaver)
    leaves_on, member = unix_millis(consortium.time + DAY), case_id(leaver.id)
    assert consortium.act(leaver, MemberAnnounceLeave(leaves_on=leaves_on), member, persons=[Role.OFFICER]).ok
    consortium.advance(2 * DAY)
    assert consortium.act(leaver, MemberLeave(), member, persons=[Role.OFFICER]).ok

    answer = consortium.act(centre, ChallengeOpen(custodian=leaver.id, entries=(entry,)))

    assert found(consortium, entry).state == EntryState.CURRENT
    assert refusal(answer) == ("catalog", Refusal.ENTRY_NOT_CURRENT)


@pytest.mark.parametrize(
    ("resolution", "state"),
    [
        pytest.param(Resolution.RIGHT, EntryState.CURRENT, id="right"),
        pytest.param(Resolution.SHOWN_AGAIN, EntryState.CURRENT, id="shown-again"),
        pytest.param(Resolution.WRONG_PATIENT, EntryState.ENTERED_IN_ERROR, id="wrong-patient"),
        pytest.param(Resolution.WRONG_CONTENT, EntryState.ENTERED_IN_ERROR, id="wrong-content"),
        pytest.param(Resolution.LOST, EntryState.ENTERED_IN_ERROR, id="lost"),
    ],
)
def test_resolving_keeps_an_entry_or_marks_it_as_entered_in_error(
    consortium: Consortium, publish: Publisher, resolution: Resolution, state: EntryState
) -> None:
    entry = publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.COMMITMENT_DIFFERS, own_entry=None)
    consortium.act(consortium["regulator"], command, entry, persons=[Role.AUDITOR])

    answer = consortium.act(consortium["centre"], Resolve(resolution=resolution), entry, persons=[Role.DATA_OFFICER])

    assert answer.ok, answer.message
    assert (found(consortium, entry).state, found(consortium, entry).header.flags) == (state, ())


def test_a_resolution_after_seven_days_is_marked_as_overdue(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.COMMITMENT_DIFFERS, own_entry=None)
    consortium.act(consortium["regulator"], command, entry, persons=[Role.AUDITOR])
    consortium.advance(7 * DAY)

    consortium.act(consortium["centre"], Resolve(resolution=Resolution.RIGHT), entry, persons=[Role.DATA_OFFICER])

    assert found(consortium, entry).header.flags == (OVERDUE,)


def test_a_disputed_entry_may_be_withdrawn(consortium: Consortium, publish: Publisher) -> None:
    entry = publish(consortium["centre"])
    command = Dispute(reason=DisputeReason.WRONG_PATIENT, own_entry=None)
    consortium.act(consortium["regulator"], command, entry, persons=[Role.AUDITOR])

    assert consortium.act(consortium["centre"], Withdraw(), entry, persons=[Role.DATA_OFFICER]).ok

    assert found(consortium, entry).state == EntryState.WITHDRAWN


def test_publishing_writes_one_row(consortium: Consortium, describe: Describer) -> None:
    core = consortium.core(consortium["centre"], Publish(**describe()))
    transaction = consortium.transaction(consortium["centre"], [encode_operation(core, [])])
    executed = consortium.block([transaction])
    assert len(executed.batch.rows) == 1
