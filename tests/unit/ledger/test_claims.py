"""Salted claims: one root for all, each shown alone."""

from __future__ import annotations

import cbor2
import msgspec
import pytest

from yilian.errors import NotFoundError, SettingsError
from yilian.ledger.claims import MAX_CLAIMS, MAX_VALUE, Claim, claims_root, make_claims, prove_claim, verify_claim

VALUES = {"batch": "B-17", "amount": "1200", "outcome": "通过"}
SALTS = [bytes([number]) * 32 for number in range(3)]
MADE = make_claims(VALUES, SALTS)


def test_claims_stand_in_order_of_name_and_each_proves_below_one_root() -> None:
    root = claims_root(MADE)

    proofs = [prove_claim(MADE, name) for name in VALUES]

    assert [claim.name for claim in MADE] == ["amount", "batch", "outcome"]
    assert root is not None
    assert [(one.claim.value, one.count, verify_claim(one, root)) for one in proofs] == [
        ("B-17", 3, True),
        ("1200", 3, True),
        ("通过", 3, True),
    ]


def test_a_claim_that_is_shown_carries_no_salt_of_another() -> None:
    shown = cbor2.dumps(msgspec.to_builtins(prove_claim(MADE, "batch"), builtin_types=(bytes,)))

    assert [salt in shown for salt in SALTS] == [False, True, False]


@pytest.mark.parametrize("changed", [{"value": "B-18"}, {"name": "batch2"}, {"salt": bytes(32)}], ids=str)
def test_a_changed_claim_does_not_prove(changed: dict[str, object]) -> None:
    root = claims_root(MADE)
    proof = prove_claim(MADE, "batch")

    forged = msgspec.structs.replace(proof, claim=msgspec.structs.replace(proof.claim, **changed))

    assert root is not None
    assert not verify_claim(forged, root)


def test_an_operation_without_claims_has_no_root() -> None:
    assert (make_claims({}, []), claims_root(())) == ((), None)


def test_as_many_claims_as_allowed_prove_with_at_most_five_hashes() -> None:
    made = make_claims({f"name{number:02}": "x" * MAX_VALUE for number in range(MAX_CLAIMS)}, [bytes(32)] * MAX_CLAIMS)

    assert max(len(prove_claim(made, claim.name).path) for claim in made) == 5


def test_one_claim_more_is_refused() -> None:
    values = {f"name{number}": "" for number in range(MAX_CLAIMS + 1)}

    with pytest.raises(SettingsError, match="33 claims, expected at most 32"):
        make_claims(values, [bytes(32)] * len(values))


@pytest.mark.parametrize(
    ("name", "value"), [("two words", "x"), ("", "x"), ("a" * 65, "x"), ("a", "x" * (MAX_VALUE + 1))], ids=range(4)
)
def test_a_claim_outside_its_bounds_is_refused_without_quoting_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="a claim is no word of 1 to 64 letters") as raised:
        make_claims({name: value}, [bytes(32)])

    assert "xx" not in str(raised.value)


def test_a_claim_that_was_not_made_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="no claim weight, expected one of amount, batch, outcome"):
        prove_claim(MADE, "weight")


def test_a_single_claim_is_the_root_itself() -> None:
    (claim,) = make_claims({"only": "one"}, [bytes(32)])

    assert claims_root([claim]) == claim.leaf_hash
    assert claim == Claim(salt=bytes(32), name="only", value="one")
