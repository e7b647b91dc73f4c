from __future__ import annotations

import hmac

import pytest

from yilian import values
from yilian.crypto import tags

KEY = bytes(range(32))
CUSTODIAN = values.institution_id(b"c" * 32)
CASE = values.case_id(b"k" * 32)


def test_a_subject_tag_is_hmac_over_the_number_in_eight_bytes() -> None:
    assert tags.subject_tag(KEY, 258) == hmac.digest(KEY, b"\0\0\0\0\0\0\x01\x02", "sha256")


def test_subject_tags_differ_by_number_and_by_key() -> None:
    made = {tags.subject_tag(KEY, 0), tags.subject_tag(KEY, 1), tags.subject_tag(KEY[::-1], 0)}

    assert len(made) == 3


@pytest.mark.parametrize("j", [-1, 2**63], ids=["negative", "over-63-bits"])
def test_an_entry_number_outside_the_range_is_refused(j: int) -> None:
    with pytest.raises(ValueError, match="outside 0"):
        tags.subject_tag(KEY, j)


@pytest.mark.parametrize("size", [31, 33])
def test_a_secret_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes, expected 32"):
        tags.subject_tag(bytes(size), 0)
    with pytest.raises(ValueError, match=f"{size} bytes, expected 32"):
        tags.case_key_seed(bytes(size), CASE)


def test_an_entry_id_depends_on_chain_custodian_and_tag() -> None:
    tag = tags.subject_tag(KEY, 0)
    made = [
        tags.entry_id(b"chain-a", CUSTODIAN, tag),
        tags.entry_id(b"chain-b", CUSTODIAN, tag),
        tags.entry_id(b"chain-a", values.institution_id(b"d" * 32), tag),
        tags.entry_id(b"chain-a", CUSTODIAN, tags.subject_tag(KEY, 1)),
    ]

    assert len(set(made)) == 4
    assert made[0] == tags.entry_id(b"chain-a", CUSTODIAN, tag)


def test_case_keys_of_one_wallet_differ_by_case() -> None:
    assert tags.case_key_seed(KEY, CASE) == tags.case_key_seed(KEY, CASE)
    assert tags.case_key_seed(KEY, CASE) != tags.case_key_seed(KEY, values.case_id(b"l" * 32))
