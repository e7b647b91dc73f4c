from __future__ import annotations

import msgspec
import pytest

from yilian import canonical, values
from yilian.crypto import intl, mask, seal
from yilian.crypto.mask import MaskedKey, ReleaseContext
from yilian.errors import VerificationError

CONTEXT = ReleaseContext(
    chain=b"c" * 32,
    custodian=values.institution_id(b"c" * 32),
    recipient=values.institution_id(b"r" * 32),
    person=values.key_id(b"p" * 32),
    grant=values.case_id(b"g" * 32),
    entry=values.case_id(b"e" * 32),
    root=values.digest(b"t" * 32),
    commitment=values.digest(b"m" * 32),
)
ONE_TIME = intl.generate_x25519()
MASK = mask.new_mask()
BLOB, SEALED, DATA_KEY = seal.seal_bytes(b"a record")
WRAPPED = mask.wrap_masked(ONE_TIME.public_key, DATA_KEY, MASK, CONTEXT)


def test_mask_and_one_time_key_together_give_the_data_key_back() -> None:
    assert mask.unwrap_masked(ONE_TIME.private_key, WRAPPED, MASK, CONTEXT) == DATA_KEY


def test_without_the_mask_the_one_time_key_opens_nothing() -> None:
    masked = intl.hpke_unwrap(ONE_TIME.private_key, WRAPPED, CONTEXT.info())

    assert not seal.key_fits(SEALED.header, masked)


def test_another_mask_gives_a_key_that_the_key_check_refuses() -> None:
    wrong = mask.unwrap_masked(ONE_TIME.private_key, WRAPPED, mask.new_mask(), CONTEXT)

    assert not seal.key_fits(SEALED.header, wrong)


def test_one_mask_hides_two_entries_differently() -> None:
    assert mask.mask_pad(MASK, CONTEXT.entry) != mask.mask_pad(MASK, values.case_id(b"f" * 32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain", b"o" * 32),
        ("custodian", b"x" * 32),
        ("recipient", b"x" * 32),
        ("person", b"x" * 32),
        ("grant", b"x" * 32),
        ("entry", b"x" * 32),
        ("root", b"x" * 32),
        ("commitment", b"x" * 32),
        ("suite", 2),
    ],
)
def test_a_wrap_cannot_be_moved_to_another_context(field: str, value: object) -> None:
    moved = msgspec.structs.replace(CONTEXT, **{field: value})

    with pytest.raises(VerificationError, match="does not open"):
        mask.unwrap_masked(ONE_TIME.private_key, WRAPPED, MASK, moved)


def test_a_wrap_opens_for_no_other_one_time_key() -> None:
    with pytest.raises(VerificationError, match="does not open"):
        mask.unwrap_masked(intl.generate_x25519().private_key, WRAPPED, MASK, CONTEXT)


def test_a_wrap_of_another_size_is_refused() -> None:
    longer = intl.hpke_wrap(ONE_TIME.public_key, b"k" * 33, CONTEXT.info())

    with pytest.raises(VerificationError, match="has 81 bytes, expected 80"):
        mask.unwrap_masked(ONE_TIME.private_key, longer, MASK, CONTEXT)


def test_keys_and_masks_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="data key has 31 bytes"):
        mask.wrap_masked(ONE_TIME.public_key, bytes(31), MASK, CONTEXT)
    with pytest.raises(ValueError, match="mask has 33 bytes"):
        mask.unwrap_masked(ONE_TIME.private_key, WRAPPED, bytes(33), CONTEXT)


def test_a_masked_key_goes_over_the_wire_unchanged() -> None:
    sent = MaskedKey(entry=CONTEXT.entry, root=CONTEXT.root, commitment=CONTEXT.commitment, wrapped=WRAPPED)

    assert canonical.decode(canonical.encode(sent), MaskedKey) == sent
    assert canonical.decode(canonical.encode(CONTEXT), ReleaseContext) == CONTEXT
