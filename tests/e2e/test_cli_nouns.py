"""The nouns of the command line against a running node; each command is the one that was printed before as next."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from yilian.cli.main import main
from yilian.demo.residents import DemoOrganisation, generate
from yilian.standards.fhir.organisations import ProviderKind
from yilian.testing.served import Served, serve

CENTRE = DemoOrganisation(identifier="91320400000000001X", name="Lake Community Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="91320400000000002X", name="City Hospital", kind=ProviderKind.HOSPITAL)
RESIDENTS = 24

Run = Callable[..., "Ran"]


class Ran:
    """What a command line wrote and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:  # noqa: ANN401 - what JSON holds
        """What stdout holds."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def following(self) -> list[str]:
        """The arguments of the command that was printed as next."""
        line = next(line for line in self.err.splitlines() if line.startswith("next: "))
        words = shlex.split(line.removeprefix("next: "))
        return words[words.index("yilian") + 1 :]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("cli")) as node:
        yield node


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    (folder / "fhir").mkdir()
    for name, content in generate(RESIDENTS, 7, (CENTRE, HOSPITAL)):
        (folder / "fhir" / name).write_bytes(content)
    rows = f'[organisations]\n"{CENTRE.identifier}" = "centre"\n"{HOSPITAL.identifier}" = "hospital"\n'
    (folder / "mapping.toml").write_text(rows)
    (folder / "secret.txt").write_text("correct horse\n")
    return folder


@pytest.fixture
def run(served: Served, files: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(files)
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))
    monkeypatch.setenv("YILIAN_WALLET_PASSPHRASE_FILE", "secret.txt")
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> Ran:
        capfd.readouterr()
        code = main([*words, "--lang", "en"])
        wrote = capfd.readouterr()
        return Ran(code, wrote.out, wrote.err)

    return call


@pytest.fixture
def imported(run: Run, served: Served) -> None:
    ran = run("record", "import", "fhir", "--mapping", "mapping.toml", "--only-mapped", "--as", "centre-data-officer")
    assert ran.code == 0, ran.err
    served.wait_projected()


def test_a_stranger_reaches_a_closed_referral_by_the_commands_printed_as_next(
    run: Run, imported: None, files: Path
) -> None:
    (files / "consent.txt").write_text("signed")
    screened = run("screen", "--north", "--urban", "--as", "centre-physician")

    created = run(*screened.following)
    accepted = run(*created.following)
    fetched = run(*accepted.following)
    arrived = run(*fetched.following)
    completed = run(*arrived.following)
    read = run(*completed.following)
    closed = run(*read.following)
    told = run(*closed.following)

    steps = [screened, created, accepted, fetched, arrived, completed, read, closed, told]
    assert [step.code for step in steps] == [0] * 9
    assert "closed" in closed.out
    assert "{" not in fetched.out
    assert "…" not in shlex.join(arrived.following)
    assert "referral.acknowledge" in told.out


def test_json_of_an_import_says_that_nothing_is_new_the_second_time(run: Run, imported: None) -> None:
    words = ("record", "import", "fhir", "--mapping", "mapping.toml", "--only-mapped", "--as", "centre-data-officer")

    again = run(*words, "--json")

    assert again.code == 0
    assert again.json["records"] == 0
    assert again.json["files_known"] == RESIDENTS


def test_an_import_that_nothing_came_of_says_why_and_does_not_end_as_done(run: Run, files: Path) -> None:
    (files / "empty").mkdir(exist_ok=True)
    (files / "torn.json").write_text('{"resourceType": "Bundle", "type": "coll')

    empty = run("record", "import", "empty", "--as", "centre-data-officer")
    torn = run("record", "import", "torn.json", "--as", "centre-data-officer")
    again = run("record", "import", "torn.json", "--as", "centre-data-officer")

    assert (empty.code, "no FHIR file lies in empty" in empty.err) == (3, True)
    assert (torn.code, "skipped: input 1 Bundle: " in torn.err) == (2, True)
    assert (again.code, again.err) == (2, torn.err)


def _an_entry(run: Run) -> str:
    """Give an entry that came from the input; what the story published itself is newer."""
    listed = run("record", "list", "--mine", "--limit", "200", "--json", "--as", "centre-physician")
    return str(listed.json[-1]["entry_id"])


def test_records_are_listed_shown_and_verified_by_the_first_digits_of_their_ids(run: Run, imported: None) -> None:
    entry = _an_entry(run)

    shown = run("record", "show", entry[:12], "--as", "centre-physician")
    verified = run("record", "verify", entry[:12], "--json", "--as", "centre-data-officer")

    assert json.loads(shown.out)
    assert verified.json["entry_id"] == entry


def test_a_listing_proposes_a_record_that_opens(run: Run, imported: None) -> None:
    _an_entry(run)

    listed = run("record", "list", "--as", "hospital-physician")
    shown = run(*listed.following)

    assert shown.code == 0, shown.err


def test_an_empty_id_and_an_unknown_member_are_said_as_such(run: Run) -> None:
    empty = run("referral", "show", "", "--as", "centre-physician")
    nowhere = run("audit", "who", "--recipient", "nowhere", "--as", "centre-officer")

    assert (empty.code, "the id is empty" in empty.err) == (2, True)
    assert (nowhere.code, "no member is called nowhere" in nowhere.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("record step nosuch", 2, "nosuch is no command"),
        ("referral list --state nosuch", 2, "nosuch is no state of a referral, expected one of requested, "),
        ("network key register --label x --role king", 2, "king is no role of a person"),
        ("network vote abcdef", 3, "no id begins with abcdef"),
        ("network propose suspend --member nowhere", 3, "no member is called nowhere"),
        ("network propose suspend", 2, "no member is named"),
    ],
)
def test_a_word_that_names_nothing_is_said_with_what_could_stand_there(
    run: Run, words: str, code: int, said: str
) -> None:
    ran = run(*words.split(), "--as", "centre-officer")

    assert (ran.code, said in ran.err) == (code, True), ran.err


def test_percents_are_listed_with_one_decimal(run: Run, imported: None) -> None:
    run("screen", "--north", "--urban", "--as", "centre-physician")
    listed = run("screen", "list", "--limit", "1", "--as", "centre-physician")

    assert re.search(r" \d+\.\d  ", listed.out), listed.out


def test_a_record_goes_to_a_file_where_one_is_named(run: Run, imported: None, files: Path) -> None:
    entry = _an_entry(run)

    written = run("record", "show", entry, "--out", "record.json", "--as", "centre-physician")

    assert written.code == 0
    assert json.loads((files / "record.json").read_bytes())


def test_a_patient_decides_with_a_wallet_over_every_institution(
    run: Run, imported: None, served: Served, files: Path
) -> None:
    run("screen", "--as", "centre-physician")
    subject = run("screen", "list", "--limit", "1", "--json", "--as", "centre-physician").json[0]["subject"]
    wallet = str(files / "patient.wallet")
    made = run("wallet", "new", wallet)
    registered = run("wallet", "register", wallet, "--subject", subject, "--as", "centre-physician")
    entries = run("wallet", "entries", wallet, "--json", "--as", "centre-physician").json

    proposed = run(
        "consent",
        "propose",
        "--to",
        "hospital",
        "--depth",
        "1",
        "--wallet",
        wallet,
        "--json",
        "--as",
        "centre-physician",
    )
    consent = proposed.json["case_id"]
    signed = run("consent", "sign", consent[:12], "--wallet", wallet, "--json", "--as", "centre-physician")
    issued = run(
        "grant", "issue", "--consent", consent[:12], "--to", "hospital", "--entry", entries[0]["entry"],
        "--deliveries", "2", "--depth", "1", "--json", "--as", "centre-data-officer",
    )  # fmt: skip
    grant = issued.json["case_id"]
    fetched = run("record", "fetch", grant, "--json", "--as", "hospital-physician")
    revoked = run("consent", "revoke", consent, "--wallet", wallet, "--json", "--as", "centre-physician")
    after = run("record", "fetch", grant, "--json", "--as", "hospital-physician")

    steps = [made, registered, proposed, signed, issued, fetched, revoked]
    assert [step.code for step in steps] == [0] * 7, [step.err for step in steps]
    assert {item["custodian"] for item in entries} == {"centre"}
    assert fetched.json["verified"] is True
    assert revoked.json["state"] == "revoked"
    assert after.code in {1, 4}


def _subjects(run: Run) -> list[str]:
    """Give residents of whom no referral is known."""
    run("screen", "--north", "--urban", "--as", "centre-physician")
    rows = run("screen", "list", "--limit", "200", "--json", "--as", "centre-physician").json
    return [row["subject"] for row in rows if not row["referred"]]


def _referred(run: Run, files: Path, subject: str) -> str:
    (files / "scan.pdf").write_bytes(b"%PDF signed")
    words = ("--to", "City Hospital", "--purpose", "p", "--paper", "scan.pdf", "--urgency", "urgent")
    case = run("referral", "create", "--subject", subject, *words, "--json", "--as", "centre-physician").json["case_id"]
    accepted = run("referral", "show", case, "--json", "--as", "hospital-physician")
    while accepted.json["state"] in {"requested", "verified"}:
        accepted = run("referral", "show", case, "--json", "--as", "hospital-physician")
    return str(case)


def test_a_receiver_asks_and_the_referrer_supplies_then_cancels(run: Run, imported: None, files: Path) -> None:
    case = _referred(run, files, _subjects(run)[-1])

    asked = run("referral", "ask", case, "--missing", "imaging", "--json", "--as", "hospital-physician")
    shown = run("referral", "show", case[:12], "--as", "centre-physician")
    supplied = run("referral", "supply", case, "--add", _an_entry(run), "--json", "--as", "centre-physician")
    cancelled = run("referral", "cancel", case, "--reason", "other_receiver", "--json", "--as", "centre-physician")

    assert asked.json["state"] == "need_info"
    assert "referral supply" in shown.err
    assert supplied.json["state"] == "requested"
    assert cancelled.json["state"] == "cancelled"


def test_a_receiver_rejects_with_a_reason(run: Run, imported: None, files: Path) -> None:
    case = _referred(run, files, _subjects(run)[-2])

    rejected = run("referral", "reject", case, "--reason", "no_bed", "--json", "--as", "hospital-physician")
    listed = run("referral", "list", "--state", "rejected", "--json", "--as", "hospital-physician")

    assert rejected.json["state"] == "rejected"
    assert case in {row["case_id"] for row in listed.json}


def test_an_appointment_is_made_and_moved(run: Run, imported: None, files: Path) -> None:
    case = _referred(run, files, _subjects(run)[-3])
    run("referral", "accept", case, "--as", "hospital-physician")

    first = run("referral", "schedule", case, "--day", "2000-01-02", "--as", "hospital-physician")
    tomorrow = _tomorrow()
    made = run("referral", "schedule", case, "--day", tomorrow, "--json", "--as", "hospital-physician")
    moved = run("referral", "schedule", case, "--day", tomorrow, "--json", "--as", "hospital-physician")
    wrong = run("referral", "schedule", case, "--day", "tomorrow", "--as", "hospital-physician")

    assert first.code == 1, first.err
    assert (made.json["command"], moved.json["command"]) == ("referral.schedule", "referral.reschedule")
    assert wrong.code == 2


def _tomorrow() -> str:
    return (datetime.now(timezone(timedelta(hours=8))) + timedelta(days=1)).strftime("%Y-%m-%d")


def test_a_grant_is_passed_on_halted_resumed_and_revoked(run: Run, imported: None, files: Path, served: Served) -> None:
    wallet = str(files / "other.wallet")
    run("wallet", "new", wallet)
    subject = _subjects(run)[0]
    run("wallet", "register", wallet, "--subject", subject, "--as", "centre-physician")
    entry = run("wallet", "entries", wallet, "--json", "--as", "centre-physician").json[0]["entry"]
    to = ("--to", "hospital", "--to", "bureau", "--depth", "1")
    consent = run("consent", "propose", *to, "--wallet", wallet, "--json", "--as", "centre-physician").json["case_id"]
    run("consent", "sign", consent, "--wallet", wallet, "--as", "centre-physician")
    issued = run(
        "grant", "issue", "--consent", consent, "--to", "hospital", "--entry", entry, "--deliveries", "3",
        "--depth", "1", "--json", "--as", "centre-data-officer",
    )  # fmt: skip
    grant = issued.json["case_id"]

    passed_on = run(
        "grant", "delegate", grant, "--to", "bureau", "--entry", entry, "--json", "--as", "hospital-physician"
    )
    wider = run(
        "grant",
        "delegate",
        grant,
        "--to",
        "bureau",
        "--entry",
        entry,
        "--deliveries",
        "9",
        "--as",
        "hospital-physician",
    )
    shown = run("grant", "show", grant, "--json", "--as", "hospital-physician")
    officer = ("--json", "--as", "centre-data-officer")
    halted = run("grant", "suspend", grant, "--reason", "suspected_misuse", *officer)
    resumed = run("grant", "resume", grant, *officer)
    revoked = run("grant", "revoke", grant, "--wallet", wallet, "--json", "--as", "centre-physician")

    assert passed_on.code == 0, passed_on.err
    assert wider.code == 1
    assert shown.json["registers"]["counters"]["delegated"] == 1
    assert [halted.json["state"], resumed.json["state"], revoked.json["state"]] == ["suspended", "issued", "revoked"]


@pytest.mark.parametrize(
    "words",
    [
        ("record", "list", "--received", "--as", "hospital-physician"),
        ("record", "list", "--custodian", "centre", "--status", "current", "--as", "hospital-physician"),
        ("consent", "list", "--as", "centre-physician"),
        ("grant", "list", "--as", "hospital-physician"),
        ("referral", "list", "--as", "centre-physician"),
        ("audit", "who", "--recipient", "hospital", "--as", "bureau-inspector"),
        ("audit", "unmatched", "--as", "bureau-inspector"),
        ("screen", "list", "--class", "high", "--as", "centre-physician"),
    ],
    ids=" ".join,
)
def test_lists_are_told_in_both_languages(run: Run, imported: None, words: tuple[str, ...]) -> None:
    in_english = run(*words)

    assert in_english.code == 0, in_english.err
    assert main([*words, "--lang", "zh"]) == 0


def test_what_belongs_to_no_verb_is_a_step(run: Run, imported: None) -> None:
    entry = _an_entry(run)

    restricted = run("record", "step", "catalog.restrict", entry, "--json", "--as", "centre-data-officer")
    lifted = run("record", "step", "catalog.unrestrict", entry, "--json", "--as", "centre-data-officer")
    wrong = run("record", "step", "catalog.restrict", entry, "--body", "[]", "--as", "centre-data-officer")

    assert (restricted.code, lifted.code, wrong.code) == (0, 0, 2)


def test_a_fetch_without_a_grant_ends_with_its_own_exit_code(run: Run, imported: None) -> None:
    entry = _an_entry(run)

    ran = run("record", "fetch", entry, "--as", "hospital-physician")

    assert ran.code == 4
    assert "No grant" in ran.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(("record", "show", "abc"), 2, id="too-short-an-id"),
        pytest.param(("record", "show", "abcdef"), 3, id="an-id-that-nothing-has"),
        pytest.param(("audit", "unmatched"), 4, id="a-role-that-may-not-ask"),
        pytest.param(("grant", "issue", "--to", "nobody", "--entry", "abcdef"), 3, id="a-member-that-is-none"),
    ],
)
def test_errors_end_with_the_exit_code_of_their_branch(run: Run, words: tuple[str, ...], code: int) -> None:
    ran = run(*words, "--as", "centre-physician")

    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err


def test_a_node_that_does_not_answer_ends_with_seven(run: Run, files: Path) -> None:
    (files / "gone.toml").write_text(
        'url = "http://127.0.0.1:9"\ntoken = "0123456789abcdef"\ninstitution = "centre"\nlabel = "physician"\n'
        'role = "physician"\nkey_id = ""\nheld_by = "node"\n'
    )

    assert run("referral", "list", "--as", "gone.toml").code == 7


def test_refusals_are_told_in_chinese_where_that_is_the_language(
    run: Run, imported: None, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = _an_entry(run)
    capfd.readouterr()

    code = main(["referral", "accept", entry, "--lang", "zh", "--as", "hospital-physician"])

    assert code == 1
    assert "规则不允许" in capfd.readouterr().err
