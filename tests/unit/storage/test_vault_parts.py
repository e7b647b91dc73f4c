"""The parts of the vault: what is put is found by each of its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.claims import make_claims
from yilian.storage.vault import Vault
from yilian.storage.vault.access import Answer, ApiKey, Job, JobState
from yilian.storage.vault.audit import DisclosureEvent, EdgeRefusal
from yilian.storage.vault.records import ReceivedFile, Record, RecordStatus, Summary
from yilian.storage.vault.releases import MessageMade, MessageStatus, OneTimeKey, OneTimeKeyStatus, ReceivedCopy
from yilian.storage.vault.subjects import Subject, SubjectKey, new_subject_ref
from yilian.values import case_id, digest, institution_id, key_id, op_id

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))
ANNA, BELA = b"a" * 16, b"b" * 16
replace = msgspec.structs.replace


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault(tmp_path / "vault.db", bytes(range(32)))
    yield opened
    opened.close()


def record(entry: bytes, subject_ref: bytes = ANNA, encounter: str = "e1") -> Record:
    return Record(
        entry_id=case_id(entry),
        root=digest(entry),
        data_key=ONE,
        salt=TWO,
        level=4,
        true_size=10,
        subject_ref=subject_ref,
        year=2026,
        j=0,
        source=THREE,
        encounter=encounter,
        canonical=entry,
        kind="C0001",
        status=RecordStatus.PREPARED,
    )


def test_a_record_is_found_by_each_of_its_keys(vault: Vault) -> None:
    first, second, third = record(ONE), record(TWO, encounter="e2"), record(THREE, BELA, "e3")
    vault.records.insert([first, second, third])
    assert (vault.records.find(ONE), vault.records.find(b"?" * 32)) == (first, None)
    assert vault.records.find_many([TWO, b"?" * 32, ONE]) == {ONE: first, TWO: second}
    assert vault.records.find_by_encounters(["e1", "e9"]) == {"e1": [first]}
    assert vault.records.of_subject(ANNA) == [first, second]
    assert list(vault.records.each()) == [first, second, third]


def test_records_move_to_a_status_together(vault: Vault) -> None:
    vault.records.insert([record(ONE), record(TWO), record(THREE)])
    vault.records.set_status([ONE, TWO], RecordStatus.PUBLISHED)
    assert [found.entry_id for found in vault.records.with_status(RecordStatus.PUBLISHED)] == [ONE, TWO]
    with pytest.raises(NotFoundError):
        vault.records.set_status([THREE, b"?" * 32], RecordStatus.PUBLISHED)
    assert [found.entry_id for found in vault.records.with_status(RecordStatus.PREPARED)] == [THREE]


def test_more_records_than_one_question_holds_are_found(vault: Vault) -> None:
    many = [record(number.to_bytes(32), encounter=f"e{number}") for number in range(1_100)]
    vault.records.put(many)
    assert len(vault.records.find_many(each.entry_id for each in many)) == 1_100


def test_an_erased_record_has_neither_key_nor_salt(vault: Vault) -> None:
    vault.records.insert([record(ONE)])
    left = vault.records.erase(ONE)
    assert (left.data_key, left.salt, left.status) == (b"", b"", RecordStatus.ERASED)
    assert vault.records.get(ONE) == left


def test_a_received_file_is_found_by_its_digest(vault: Vault) -> None:
    file = ReceivedFile(
        digest=ONE, root=digest(TWO), data_key=THREE, true_size=5, name="someone.json", is_imported=False
    )
    vault.records.put_file(file)
    vault.records.put_file(replace(file, is_imported=True))
    assert (vault.records.find_file(ONE), vault.records.find_file(TWO)) == (replace(file, is_imported=True), None)
    assert list(vault.records.files()) == [replace(file, is_imported=True)]


def test_a_patient_has_one_summary(vault: Vault) -> None:
    summary = Summary(subject_ref=ANNA, root=digest(ONE), data_key=TWO, salt=THREE, true_size=5)
    vault.records.put_summary(summary)
    vault.records.put_summary(replace(summary, true_size=6))
    assert (vault.records.find_summary(ANNA), vault.records.find_summary(BELA)) == (replace(summary, true_size=6), None)
    assert list(vault.records.summaries()) == [replace(summary, true_size=6)]


def test_a_patient_is_found_by_each_identifier_of_today(vault: Vault) -> None:
    anna = Subject(subject_ref=ANNA, identity=b"{}", identifiers=("id|1", "mrn|2"), wallet=ONE)
    bela = Subject(subject_ref=BELA, identity=b"{}", identifiers=("mrn|2",), locate_consent=case_id(TWO))
    vault.subjects.put([anna, bela])
    assert vault.subjects.find_by_identifier("id|1") == [anna]
    assert {found.subject_ref for found in vault.subjects.find_by_identifier("mrn|2")} == {ANNA, BELA}
    vault.subjects.put([replace(anna, identifiers=("id|3",))])
    assert vault.subjects.find_by_identifier("id|1") == []
    assert (vault.subjects.find_by_identifier("mrn|2"), vault.subjects.get(BELA)) == ([bela], bela)
    assert (len(list(vault.subjects.each())), vault.subjects.count(), vault.subjects.find(b"?" * 16)) == (2, 2, None)


def test_subject_keys_are_kept_by_patient_and_year(vault: Vault) -> None:
    old, new = (SubjectKey(subject_ref=ANNA, year=year, key=ONE, next_j=0) for year in (2025, 2026))
    other = SubjectKey(subject_ref=BELA, year=2026, key=TWO, next_j=3)
    vault.subjects.put_keys([new, old, other])
    vault.subjects.put_keys([replace(new, next_j=9)])
    assert vault.subjects.keys_of(ANNA) == [old, replace(new, next_j=9)]
    assert (vault.subjects.find_key(BELA, 2026), vault.subjects.find_key(BELA, 2025)) == (other, None)
    assert vault.subjects.find_keys([ANNA, BELA, b"?" * 16], 2026) == {ANNA: replace(new, next_j=9), BELA: other}


def test_an_erased_patient_is_found_by_nothing(vault: Vault) -> None:
    vault.subjects.put([Subject(subject_ref=ANNA, identity=b"{}", identifiers=("id|1",))])
    vault.subjects.put_keys([SubjectKey(subject_ref=ANNA, year=2026, key=ONE, next_j=0)])
    vault.subjects.erase(ANNA)
    assert (vault.subjects.find_by_identifier("id|1"), vault.subjects.keys_of(ANNA)) == ([], [])
    with pytest.raises(NotFoundError):
        vault.subjects.get(ANNA)


def test_a_new_subject_reference_is_random() -> None:
    first, second = new_subject_ref(), new_subject_ref()
    assert (len(first), first == second) == (16, False)


def test_a_message_is_made_once_and_found_by_hash(vault: Vault) -> None:
    made = MessageMade(
        h_m=digest(ONE),
        mask=TWO,
        grant=case_id(THREE),
        recipient=institution_id(ONE),
        person=key_id(TWO),
        entries=(case_id(ONE), case_id(TWO)),
        one_time_key=THREE,
        made_at=1,
        status=MessageStatus.MADE,
    )
    vault.releases.insert_message(made)
    with pytest.raises(ConflictError):
        vault.releases.insert_message(made)
    delivered = replace(made, status=MessageStatus.DELIVERED, use_id=case_id(TWO))
    vault.releases.put_message(delivered)
    assert (vault.releases.find_message(ONE), vault.releases.find_message(TWO)) == (delivered, None)


def test_private_halves_are_erased_after_the_dispute_window(vault: Vault) -> None:
    key = OneTimeKey(
        public=ONE,
        private=TWO,
        grant=case_id(ONE),
        use_id=case_id(TWO),
        status=OneTimeKeyStatus.OPENED,
        erase_after=100,
    )
    later = replace(key, public=THREE, use_id=None, erase_after=101)
    vault.releases.put_key(key)
    vault.releases.put_key(later)
    assert vault.releases.find_key_of_use(TWO) == key
    assert [vault.releases.erase_keys_due(now) for now in (100, 101, 101)] == [0, 1, 0]
    assert vault.releases.find_key(ONE) == replace(key, private=b"", status=OneTimeKeyStatus.ERASED)
    assert vault.releases.find_key(THREE) == later


def test_copies_are_found_by_entry_until_erased(vault: Vault) -> None:
    first = ReceivedCopy(
        entry_id=case_id(ONE), use_id=case_id(TWO), root=digest(ONE), data_key=ONE, salt=TWO, true_size=1
    )
    second, other = replace(first, use_id=case_id(THREE)), replace(first, entry_id=case_id(TWO))
    vault.releases.put_copies([first, second, other])
    assert vault.releases.copies_of_entry(ONE) == [first, second]
    vault.releases.erase_copy(ONE, TWO)
    assert list(vault.releases.copies()) == [second, other]


def test_disclosure_events_are_numbered_and_found(vault: Vault) -> None:
    event = DisclosureEvent(
        kind="disclosure.sent", op_id=op_id(ANNA), use_id=case_id(ONE), body=b"{}", commitment=TWO, salt=THREE
    )
    assert [vault.audit.append(event), vault.audit.append(replace(event, op_id=op_id(BELA)))] == [1, 2]
    assert vault.audit.of_use(ONE) == [replace(event, seq=1), replace(event, seq=2, op_id=op_id(BELA))]
    assert [found.seq for found in vault.audit.events(after=1)] == [2]
    assert [found.seq for found in vault.audit.events(limit=1)] == [1]


def test_refusals_at_the_edge_are_numbered_and_counted(vault: Vault) -> None:
    refusal = EdgeRefusal(time=5, kind="TLS_NON_MEMBER", number=0, detail="ab" * 32)
    numbers = [vault.audit.append_refusal(replace(refusal, kind=kind)) for kind in ("NO_GRANT", "B", "NO_GRANT")]
    assert (numbers, vault.audit.refusal_counts()) == ([1, 2, 3], {"B": 1, "NO_GRANT": 2})
    assert [found.seq for found in vault.audit.refusals(kind="NO_GRANT", after=1)] == [3]
    assert [found.seq for found in vault.audit.refusals(limit=2)] == [1, 2]


def test_an_api_key_is_revoked_for_good(vault: Vault) -> None:
    key = ApiKey(token_hash=ONE, key_id=key_id(TWO), role="OFFICER", label="console")
    vault.access.put_api_key(key)
    vault.access.revoke_api_key(ONE)
    assert (vault.access.find_api_key(ONE), vault.access.find_api_key(TWO)) == (replace(key, is_revoked=True), None)
    assert vault.access.api_keys() == [replace(key, is_revoked=True)]


def test_answers_expire(vault: Vault) -> None:
    answer = Answer(key_hash=ONE, request=TWO, status=201, body=b"{}", expires=20)
    vault.access.remember(answer)
    with pytest.raises(ConflictError):
        vault.access.remember(answer)
    assert vault.access.find_answer(ONE) == answer
    assert (vault.access.forget_expired(20), vault.access.forget_expired(21)) == (0, 1)
    assert vault.access.find_answer(ONE) is None


def test_jobs_are_listed_by_age_and_state(vault: Vault) -> None:
    job = Job(job_id=TWO, kind="import", state=JobState.RUNNING, started=1)
    later = Job(job_id=ONE, kind="import", state=JobState.RUNNING, started=2)
    vault.access.put_job(later)
    vault.access.put_job(job)
    assert vault.access.jobs() == [job, later]
    done = replace(job, state=JobState.DONE, progress='{"records": 3}', finished=9)
    vault.access.put_job(done)
    assert (vault.access.get_job(TWO), vault.access.jobs(JobState.RUNNING)) == (done, [later])


def test_a_cursor_stands_at_0_until_it_is_set(vault: Vault) -> None:
    assert vault.access.cursor("push") == 0
    vault.access.set_cursor("push", 4)
    vault.access.set_cursor("push", 5)
    assert (vault.access.cursor("push"), vault.access.cursor("other")) == (5, 0)


def test_claims_are_kept_once_and_a_repeat_gives_the_same_salts(vault: Vault) -> None:
    op = op_id(ONE[:16])
    first = make_claims({"batch": "B-17"}, [ONE])

    kept = vault.claims.keep(op, first)
    again = vault.claims.keep(op, make_claims({"batch": "B-17"}, [TWO]))

    assert (kept, again, vault.claims.of(op)) == (first, first, first)


def test_other_claims_of_one_operation_are_a_conflict(vault: Vault) -> None:
    op = op_id(ONE[:16])
    vault.claims.keep(op, make_claims({"batch": "B-17"}, [ONE]))

    with pytest.raises(ConflictError, match="made other claims before"):
        vault.claims.keep(op, make_claims({"batch": "B-18"}, [ONE]))


def test_claims_of_an_operation_of_another_institution_are_not_found(vault: Vault) -> None:
    with pytest.raises(NotFoundError, match="ask the institution that sent it"):
        vault.claims.of(op_id(ONE[:16]))
