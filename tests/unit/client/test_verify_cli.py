"""`yilian-verify` as a reader starts it: exit codes, words, JSON, and what it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.unit.client.proof_stand import CLAIMS, Receipts, Stand, checked, replace
from yilian.client import verify_cli
from yilian.client.report import Report, Step
from yilian.client.verify_words import LANGUAGES, told
from yilian.ledger.receipt import Kind

CODE = "import sys; from yilian.client.verify_cli import main; main(sys.argv[1:])"
LOADED = """
import sys
before = set(sys.modules)
from yilian.client.verify_cli import main
try:
    main(sys.argv[1:])
finally:
    print("\\n".join(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
THIRD_PARTY = {"cbor2", "cffi", "cffi_backend", "cryptography", "msgspec", "nacl", "sodium", "typing_extensions"}
"""The four libraries, and what they bring themselves."""
OURS = {"canonical", "client", "crypto", "errors", "ledger", "values"}


@pytest.fixture
def folder(stand: Stand, receipts: Receipts, tmp_path: Path) -> Path:
    """Give a folder with a file of each kind and the trust file."""
    for kind, data in receipts.items():
        (tmp_path / f"{kind}.yilian-proof").write_bytes(data)
    (tmp_path / "trust.json").write_bytes(msgspec.json.encode(stand.trust()))
    return tmp_path


def run(folder: Path, *arguments: str, code: str = CODE, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def within(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        verify_cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_that_holds_ends_with_0(folder: Path, kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder / f"{kind}.yilian-proof"), "--trust", str(folder / "trust.json"), "--lang", "en"]
    assert within(arguments) == 0
    said = capsys.readouterr().out
    assert "  1. file: holds;" in said
    assert said.endswith("everything holds: verified\n")
    assert "operator" in said


@pytest.mark.parametrize("language", LANGUAGES)
def test_heights_cases_and_where_keys_lie_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], language: str
) -> None:
    said = {}
    for kind in (Kind.STATE, Kind.ABSENCE, Kind.OPERATION):
        within([str(folder / f"{kind}.yilian-proof"), "--trust", str(folder / "trust.json"), "--lang", language])
        said[kind] = capsys.readouterr().out.splitlines()
    row = next(line for line in said[Kind.STATE] if line.startswith(("current state", "当前状态")))
    absent = next(line for line in said[Kind.ABSENCE] if line.startswith(("there is no case", "账上没有案件")))
    signed = next(line for line in said[Kind.OPERATION] if line.startswith(("  signed by", "  签名者")))
    assert (", height " if language == "en" else ", 高度 ") in row
    assert len(absent.rsplit(" ", 1)[1]) == 64
    assert ("key held by node" if language == "en" else "密钥存于 节点") in signed


def test_a_file_that_does_not_hold_ends_with_5_and_names_the_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "state.yilian-proof"
    data = place.read_bytes()
    place.write_bytes(data[:-40] + bytes((data[-40] ^ 1,)) + data[-39:])
    assert within([str(place), "--trust", str(folder / "trust.json"), "--lang", "en"]) == 5
    said = capsys.readouterr().out
    assert "app hash: FAILS" in said
    assert "     expected: " in said
    assert said.endswith("not verified, the failing step is: app hash\n")


def test_without_trust_it_ends_with_5_and_says_what_would_have_to_be_believed(
    folder: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert within([str(folder / "state.yilian-proof"), "--lang", "zh"]) == 5
    said = capsys.readouterr().out
    assert said.endswith(f"须先从可信成员处核对并采信创世摘要 {stand.engine.chain.hex()}\n")


def test_an_age_is_asked_for_and_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        str(folder / "state.yilian-proof"),
        "--trust",
        str(folder / "trust.json"),
        "--max-age",
        "90s",
        "--json",
    ]
    assert within(arguments) == 5
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["failed"]) == (False, "age")
    assert report["steps"][-1]["number"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["state.yilian-proof", "--max-age", "1 hour"],
        ["state.yilian-proof", "--max-age", "0s"],
        ["state.yilian-proof", "--lang", "fr"],
        ["state.yilian-proof", "--unknown"],
        ["nothing.yilian-proof"],
        ["state.yilian-proof", "--trust", "nothing.json"],
        ["state.yilian-proof", "--trust", "state.yilian-proof"],
    ],
)
def test_wrong_use_ends_with_2(
    folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert within(arguments) == 2
    said = capsys.readouterr()
    assert said.err
    assert not said.out


def test_it_loads_the_verifier_and_four_libraries_alone(folder: Path) -> None:
    ended = run(folder, "exchange.yilian-proof", "--trust", "trust.json", code=LOADED)
    assert ended.returncode == 0, ended.stdout
    loaded = ended.stderr.split()
    third = {
        name.partition(".")[0].lstrip("_") for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names
    }
    ours = {name.split(".")[1] for name in loaded if name.startswith("yilian.")}
    assert third - {"yilian"} <= THIRD_PARTY
    assert ours <= OURS
    assert {"yilian.ledger.machine", "yilian.ledger.judge", "yilian.ledger.registry"}.isdisjoint(loaded)


def test_it_tells_in_the_language_of_the_locale(folder: Path) -> None:
    chinese = run(folder, "claim.yilian-proof", "--trust", "trust.json", LC_ALL="zh_CN.UTF-8")
    assert chinese.stdout.endswith("全部成立：可以采信\n")
    english = run(folder, "claim.yilian-proof", "--trust", "trust.json", LC_ALL="C.UTF-8")
    assert english.stdout.endswith("everything holds: verified\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_told_without_a_word_missing(stand: Stand, receipts: Receipts, language: str) -> None:
    words = told(language)
    for data in (*receipts.values(), stand.prover.operation(stand.refused), stand.prover.case(stand.custodial)):
        report = checked(stand, data)
        assert all("\n" not in line for line in words.facts(report))
        assert words.verdict(report)
        assert all(words.step(step) for step in report.steps)


def test_text_of_a_file_cannot_steer_the_terminal(stand: Stand, receipts: Receipts) -> None:
    hostile = "f\x1b[2J\neverything holds: verified\u202e"
    report = replace(checked(stand, receipts[Kind.CLAIM]), claim=("sex", hostile))
    (line,) = [line for line in told("en").facts(report) if line.startswith("claim sex")]
    assert line == "claim sex: f\\u001b[2J\\u000aeverything holds: verified\\u202e"
    step = Step(number=1, name="file", place=0, ok=False, found="a\nb", expected="c\rd")
    assert told("en").step(step) == "  1. file: FAILS; a\\u000ab\n     expected: c\\u000dd"


def test_what_a_refused_or_compromised_signature_means_is_said(stand: Stand, receipts: Receipts) -> None:
    report = checked(stand, receipts[Kind.OPERATION])
    operation = report.operations[0]
    signer = replace(operation.signers[0], state="revoked", compromised_since=1_000)
    bent = replace(operation, result=(("consent", 4), ("catalog", 1)), signers=(signer,), unchecked_persons=1)
    said = "\n".join(told("en").facts(replace(report, operations=(bent,), split_view_excluded=False, time=2**62)))
    assert "refused, number consent 4, catalog 1" in said
    assert "key now revoked, said to be compromised since 1970-01-01T00:00:01Z" in said
    assert "1 persons' signatures not checked" in said
    assert "split view not excluded" in said
    assert str(2**62) in said


def test_json_has_every_step_and_fact(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder / "claim.yilian-proof"), "--trust", str(folder / "trust.json"), "--json"]
    assert within(arguments) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert (report.ok, report.claim) == (True, ("sex", "f"))
    assert report.claim == (CLAIMS[1].name, CLAIMS[1].value)


def test_a_closed_pipe_is_no_verification(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        ended = subprocess.run(
            [sys.executable, "-c", CODE, "state.yilian-proof", "--trust", "trust.json"],
            cwd=folder, stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (5, b"")
