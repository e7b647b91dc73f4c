"""The parts of a receipt: rows, changes, claims, and their only encoding."""

from __future__ import annotations

import pytest

from yilian import canonical
from yilian.crypto.suite import sha256
from yilian.errors import VerificationError
from yilian.ledger.claims import claims_root, make_claims, prove_claim
from yilian.ledger.log import changes_digest
from yilian.ledger.receipt import MAX_RECEIPT, Change, is_covered, least_count, open_row, parse_receipt

KEYS = sorted(sha256(bytes((number,))) for number in range(3))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param([], id="empty"),
        pytest.param([1, []], id="key-is-no-byte-string"),
        pytest.param([b"reg/x", 1], id="register-without-fields"),
        pytest.param([b"case/", 1, "use", []], id="case-without-fields"),
        pytest.param([b"case/", 1, 2, [], []], id="word-is-a-number"),
        pytest.param([b"case/", True, "use", [], []], id="shape-is-no-integer"),
        pytest.param(7, id="number"),
        pytest.param("text", id="text"),
    ],
)
def test_what_is_neither_case_nor_register_is_no_row(raw: object) -> None:
    with pytest.raises(VerificationError, match="no row of the state"):
        open_row(canonical.encode(raw))


def test_a_row_is_taken_apart_without_its_type() -> None:
    register = open_row(canonical.encode([b"reg/audit/sequence", [7]]))
    case = open_row(canonical.encode([b"case/x", 1, "use", [b"x", 1], [b"y"]]))
    assert (register.natural_key, register.case, register.fields) == (b"reg/audit/sequence", None, (7,))
    assert (case.natural_key, case.case, case.fields) == (b"case/x", (1, "use", (b"x", 1)), (b"y",))
    with pytest.raises(VerificationError, match="not in canonical"):
        open_row(canonical.encode([b"reg/x", []]) + b"\x00")


def test_a_row_is_covered_by_the_digest_of_all_changes_in_order() -> None:
    pairs = [(key, sha256(key)) for key in KEYS]
    digests = b"".join(key + value for key, value in pairs)
    changes = changes_digest(pairs)
    assert [is_covered(Change(row=key, digests=digests), key, changes) for key in KEYS] == [True] * 3
    turned = b"".join(key + value for key, value in pairs[::-1])
    assert not is_covered(Change(row=KEYS[0], digests=turned), KEYS[0], changes_digest(pairs[::-1]))
    doubled = digests[:64] * 2
    assert not is_covered(Change(row=KEYS[0], digests=doubled), KEYS[0], changes_digest(pairs[:1] * 2))
    assert not is_covered(
        Change(row=KEYS[0], digests=digests[:-1]), KEYS[0], sha256(b"yilian/changes/v1", digests[:-1])
    )
    assert not is_covered(Change(row=b"other", digests=digests), KEYS[0], changes)
    assert not is_covered(Change(row=KEYS[0], digests=digests), KEYS[0], sha256(b"other"))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 32])
def test_the_least_number_of_claims_is_found_whatever_is_said(count: int) -> None:
    claims = make_claims({f"c{number:02}": "v" for number in range(count)}, [sha256(bytes((n,))) for n in range(count)])
    root = claims_root(claims)
    assert root is not None
    for claim in claims:
        proof = prove_claim(claims, claim.name)
        least = least_count(proof, root)
        assert proof.index < least <= count
        assert len(proof.path) == least_path(proof.index, least)


def least_path(index: int, count: int) -> int:
    """Count the hashes beside a leaf of a tree (RFC 6962)."""
    hashes = 0
    while count > 1:
        hashes += index ^ 1 < count
        index, count = index >> 1, (count + 1) >> 1
    return hashes


def test_a_file_too_long_is_not_looked_at() -> None:
    with pytest.raises(VerificationError, match="expected at most"):
        parse_receipt(bytes(MAX_RECEIPT + 1))
