"""Receipts over HTTP and on the command line; each file is checked with what its reader trusts, and no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import scitt_cose  # type: ignore[import-untyped]  # it has no stubs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from yilian.cli.main import main
from yilian.client.http import Client
from yilian.client.report import Report
from yilian.client.verify import verify_receipt
from yilian.crypto.cose_receipt import verify_cose_receipt
from yilian.errors import ConflictError, NotFoundError, SettingsError
from yilian.ledger.members import Role
from yilian.ledger.trust import Trust, TrustedKey
from yilian.node.compose import now
from yilian.testing.served import Served, serve
from yilian.values import PublicKey

CLAIMS = {"batch": "B-17", "scope": "vaccines"}
NOBODY = "5a" * 32


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("proofs")) as node:
        yield node


@pytest.fixture(scope="module")
def opened(served: Served) -> dict[str, str]:
    """An inspection that was opened with two claims."""
    scope = {"institutions": [served.node.hosts["centre"].id.hex()], "period_from": 20_000, "period_to": 20_010}
    with served.client("bureau-inspector") as client:
        answer = client.act(
            "audit", "inspection.open", scope | {"legal_basis": "law", "question": "00" * 32}, claims=CLAIMS
        )
    return {name: str(value) for name, value in answer.items()}


@pytest.fixture
def inspector(served: Served) -> Iterator[Client]:
    with served.client("bureau-inspector") as client:
        yield client


def gateway_key(served: Served, slug: str) -> PublicKey:
    host = served.node.hosts[slug]
    founder = next(one for one in served.node.genesis.founders for key in one.keys if key.owner == host.id)
    return next(key.public_key for key in founder.keys if key.role == Role.NODE)


def trust_of(served: Served) -> Trust:
    keys = [key for founder in served.node.genesis.founders for key in founder.keys if key.role == Role.NODE]
    trusted = tuple(
        TrustedKey(
            institution=key.owner.hex(),
            operator=key.owner.hex(),
            public_key=key.public_key.hex(),
            held_by=key.held_by.value,
        )
        for key in keys
    )
    return Trust(format=1, name="lake", chain=served.node.chain.hex(), sequencer=trusted, witnesses=trusted, needed=0)


def checked(served: Served, content: bytes) -> Report:
    return verify_receipt(content, trust_of(served), now=now())


def test_each_kind_of_receipt_holds(served: Served, inspector: Client, opened: dict[str, str]) -> None:
    case, op = opened["case_id"], opened["op_id"]
    paths = [f"operation/{op}", f"operation/{opened['leaf']}", f"state/{case}", f"absence/{NOBODY}", f"case/{case}"]

    reports = [checked(served, inspector.content(f"/v1/proofs/{path}")) for path in paths]
    claimed = checked(served, inspector.content(f"/v1/proofs/claim/{op}", name="batch"))

    assert [one.failed for one in [*reports, claimed]] == [""] * 6
    assert [one.kind for one in reports] == ["operation", "operation", "state", "absence", "case"]
    assert reports[0].operations[0].op_id == reports[1].operations[0].op_id == op
    assert claimed.claim == ("batch", "B-17")


def test_a_claim_does_not_show_the_others(inspector: Client, opened: dict[str, str]) -> None:
    content = inspector.content(f"/v1/proofs/claim/{opened['op_id']}", name="batch")

    assert (b"B-17" in content, b"vaccines" in content) == (True, False)


def test_claims_are_proved_by_who_holds_them_alone(served: Served, opened: dict[str, str]) -> None:
    with (
        served.client("centre-data-officer") as other,
        pytest.raises(NotFoundError, match="ask the institution that sent it"),
    ):
        other.content(f"/v1/proofs/claim/{opened['op_id']}", name="batch")


def test_a_receipt_comes_as_a_file_that_nobody_keeps(served: Served, opened: dict[str, str]) -> None:
    token = msgspec.toml.decode(served.access_file("bureau-inspector").read_bytes())["token"]
    headers = {"authorization": f"Bearer {token}"}

    answer = httpx.get(f"{served.url}/v1/proofs/state/{opened['case_id']}", headers=headers)

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert re.search(r'filename="state-[0-9a-f]{16}\.yilian-proof"', answer.headers["content-disposition"])


def test_nothing_is_proved_without_a_key(served: Served, opened: dict[str, str]) -> None:
    assert httpx.get(f"{served.url}/v1/proofs/state/{opened['case_id']}").status_code == 401


def test_a_cose_receipt_is_taken_by_an_independent_implementation(
    served: Served, inspector: Client, opened: dict[str, str]
) -> None:
    content = inspector.content(f"/v1/proofs/operation/{opened['op_id']}", format="cose")
    key = gateway_key(served, "bureau")
    pem = Ed25519PublicKey.from_public_bytes(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    ours = verify_cose_receipt(content, key)
    theirs = scitt_cose.verify_receipt(content, leaf_entry_hex=ours.inclusion.leaf.hex(), log_public_key_pem=pem)

    assert (theirs.ok, theirs.errors) == (True, [])
    assert (theirs.issuer, theirs.subject) == (f"yilian/{served.node.chain.hex()}", opened["op_id"])
    assert theirs.root == inspector.get("/v1/ledger")["log_root"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (f"state/{NOBODY}", NotFoundError),
        (f"case/{NOBODY}", NotFoundError),
        (f"exchange/{NOBODY}", NotFoundError),
        ("operation/" + "00" * 16, NotFoundError),
        ("operation/999999", NotFoundError),
        ("operation/9999999999999999999", SettingsError),
        ("operation/x", SettingsError),
        ("claim/" + "00" * 16, SettingsError),
    ],
)
def test_what_is_not_there_is_a_problem(inspector: Client, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        inspector.content(f"/v1/proofs/{path}")


def test_the_absence_of_what_exists_is_a_conflict(inspector: Client, opened: dict[str, str]) -> None:
    with pytest.raises(ConflictError, match="prove its state instead"):
        inspector.content(f"/v1/proofs/absence/{opened['case_id']}")


# ------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def folder(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))
    monkeypatch.setenv("YILIAN_CLIENT", "bureau-inspector")
    return tmp_path


def test_each_verb_writes_one_file_that_holds(served: Served, folder: Path, opened: dict[str, str]) -> None:
    case, op = opened["case_id"], opened["op_id"]
    lines = [
        ["operation", op],
        ["state", case[:8]],
        ["absence", NOBODY],
        ["case", case],
        ["claim", op, "--name", "scope"],
    ]

    codes = [main(["proof", *line]) for line in lines]

    assert codes == [0] * 5
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [
            f"operation-{op[:16]}.yilian-proof",
            f"state-{case[:16]}.yilian-proof",
            f"absence-{NOBODY[:16]}.yilian-proof",
            f"case-{case[:16]}.yilian-proof",
            f"claim-{op[:16]}.yilian-proof",
        ]
    )
    assert [checked(served, file.read_bytes()).failed for file in folder.iterdir()] == [""] * 5


def test_it_says_size_meaning_and_what_comes_next(
    folder: Path, opened: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["proof", "state", opened["case_id"], "-o", "mine.yilian-proof", "--lang", "en"])

    wrote = capfd.readouterr()
    size = (folder / "mine.yilian-proof").stat().st_size
    assert code == 0
    assert wrote.out.strip() == f"mine.yilian-proof  {size} bytes  proves: case {opened['case_id']} as it stands"
    assert wrote.err.strip().startswith("next: yilian-verify mine.yilian-proof --trust ")


def test_it_speaks_chinese(folder: Path, opened: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    main(["proof", "state", opened["case_id"], "-o", "mine.yilian-proof", "--lang", "zh"])

    assert "证明：案件" in capfd.readouterr().out


def test_json_names_file_size_and_subject(
    folder: Path, opened: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    main(["proof", "operation", opened["op_id"], "--cose", "-o", "mine.cose", "--json"])

    wrote = json.loads(capfd.readouterr().out)
    size = (folder / "mine.cose").stat().st_size
    assert wrote == {"file": "mine.cose", "bytes": size, "kind": "operation", "subject": opened["op_id"]}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["absence", "abc"], 2),
        (["operation", "zz"], 2),
        (["claim", "12", "--name", "batch"], 2),
        (["state", NOBODY], 3),
        (["absence", NOBODY, "-o", "no/such/folder/x"], 2),
        (["absence", NOBODY, "-o", "."], 2),
    ],
)
def test_what_fails_leaves_no_file(folder: Path, line: list[str], code: int) -> None:
    ended = main(["proof", *line])

    assert (ended, list(folder.iterdir())) == (code, [])
