from __future__ import annotations

from hashlib import sha256

import pytest

from yilian import values
from yilian.crypto import commitment
from yilian.values import Digest

CUSTODIAN = values.institution_id(b"c" * 32)
ENTRY = values.case_id(b"e" * 32)
SALT = b"s" * 32


def committed(*pieces: bytes, chain: bytes = b"chain", salt: bytes = SALT) -> Digest:
    started = commitment.record_commitment(chain, CUSTODIAN, ENTRY, salt)
    for piece in pieces:
        started.update(piece)
    return started.digest()


def test_a_record_is_committed_with_all_parts_before_its_bytes() -> None:
    eight, of_chain = (32).to_bytes(8, "big"), (5).to_bytes(8, "big")

    assert (
        committed(b'{"value":1.50}')
        == sha256(
            b"yilian/record/v1"
            + of_chain
            + b"chain"
            + eight
            + CUSTODIAN
            + eight
            + ENTRY
            + eight
            + SALT
            + b'{"value":1.50}'
        ).digest()
    )


def test_pieces_of_any_size_give_the_same_commitment() -> None:
    assert committed(b"ab", b"", b"c") == committed(b"abc")


def test_bytes_are_committed_as_received() -> None:
    assert committed(b"1.50") != committed(b"1.5")


def test_commitments_differ_by_salt_and_chain() -> None:
    assert len({committed(b"x"), committed(b"x", salt=b"t" * 32), committed(b"x", chain=b"other")}) == 3


def test_an_attachment_is_committed_under_its_own_tag_and_case() -> None:
    case = values.case_id(b"k" * 32)
    made = {
        commitment.attachment_commitment("yilian/paper/v1", b"chain", case, SALT, b"scan"),
        commitment.attachment_commitment("yilian/text/v1", b"chain", case, SALT, b"scan"),
        commitment.attachment_commitment("yilian/paper/v1", b"chain", ENTRY, SALT, b"scan"),
        commitment.attachment_commitment("yilian/paper/v1", b"chain", case, SALT, b"Scan"),
    }

    assert len(made) == 4


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_salt_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"salt has {size} bytes, expected 32"):
        committed(b"x", salt=bytes(size))
    with pytest.raises(ValueError, match=f"salt has {size} bytes, expected 32"):
        commitment.attachment_commitment("t", b"chain", ENTRY, bytes(size), b"")
