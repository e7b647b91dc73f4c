"""Claims of a step over HTTP and on the command line: the ledger gets a root, the values stay in the vault."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from yilian import canonical
from yilian.cli.main import main
from yilian.client.http import Client
from yilian.errors import ConflictError, SettingsError
from yilian.ledger.claims import claims_root
from yilian.ledger.envelope import Core
from yilian.testing.served import Served, serve
from yilian.values import op_id

CLAIMS = {"batch": "B-17", "scope": "vaccines"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("claims")) as node:
        yield node


@pytest.fixture
def inspector(served: Served) -> Iterator[Client]:
    with served.client("bureau-inspector") as client:
        yield client


def order(served: Served) -> dict[str, object]:
    scope = {"institutions": [served.node.hosts["centre"].id.hex()], "period_from": 20_000, "period_to": 20_010}
    return scope | {"legal_basis": "LAW", "question": "00" * 32}


def test_the_core_of_a_draft_carries_the_root_of_its_claims(served: Served, inspector: Client) -> None:
    draft = inspector.draft("audit", "inspection.open", order(served), claims=CLAIMS)

    core = canonical.decode(bytes.fromhex(draft["core"]), Core)
    kept = served.node.hosts["bureau"].vault.claims.of(core.op_id)

    assert core.claims_root == claims_root(kept)
    assert {one.name: one.value for one in kept} == CLAIMS
    assert len({one.salt for one in kept}) == 2


def test_a_step_with_claims_leaves_their_root_on_the_ledger(served: Served, inspector: Client) -> None:
    answer = inspector.act("audit", "inspection.open", order(served), claims=CLAIMS)

    _, block = served.node.engine.block(answer["height"])
    kept = served.node.hosts["bureau"].vault.claims.of(op_id(bytes.fromhex(answer["op_id"])))

    assert b"".join((b"\x58\x20", claims_root(kept) or b"")) in b"".join(block.transactions)


def test_a_repeat_under_one_operation_id_drafts_the_same_core(served: Served, inspector: Client) -> None:
    drafts = [
        inspector.draft("audit", "inspection.open", order(served), op_id="ab" * 16, claims=CLAIMS) for _ in range(2)
    ]

    assert drafts[0]["core"] == drafts[1]["core"]


def test_other_claims_under_one_operation_id_are_a_conflict(served: Served, inspector: Client) -> None:
    inspector.draft("audit", "inspection.open", order(served), op_id="cd" * 16, claims=CLAIMS)

    with pytest.raises(ConflictError, match="made other claims before"):
        inspector.draft("audit", "inspection.open", order(served), op_id="cd" * 16, claims={"batch": "B-18"})


def test_a_claim_without_a_proper_name_is_refused(served: Served, inspector: Client) -> None:
    with pytest.raises(SettingsError):
        inspector.act("audit", "inspection.open", order(served), claims={"two words": "x"})


@pytest.mark.parametrize(("claims", "code"), [(("batch=B-17",), 0), (("batch",), 2), (("a=1", "a=2"), 2)], ids=str)
def test_a_step_of_the_command_line_takes_claims(
    served: Served, monkeypatch: pytest.MonkeyPatch, claims: tuple[str, ...], code: int
) -> None:
    monkeypatch.setenv("YILIAN_HOME", str(served.home.path))
    words = [word for one in claims for word in ("--claim", one)]

    ended = main(
        ["audit", "step", "inspection.open", "--body", json.dumps(order(served)), "--as", "bureau-inspector", *words]
    )

    assert ended == code
