from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from yilian import canonical, values
from yilian.crypto import merkle, seal, suite
from yilian.crypto.seal import Header, Sealed
from yilian.errors import ConflictError, VerificationError

SMALL = 1024
KEY = b"k" * 32
# Three whole segments of 1 KiB and a bit; Padmé pads 3,100 bytes to 3,200.
PLAIN = bytes(range(256)) * 12 + b"the last 28 bytes of it all."


def sealed_small(plain: bytes, key: bytes = KEY) -> tuple[bytes, Sealed]:
    out = io.BytesIO()
    sealed = seal.seal((plain,), len(plain), out, key, segment_size=SMALL)
    return out.getvalue(), sealed


BLOB, SEALED = sealed_small(PLAIN)
HEADER = seal.parse_header(SEALED.header)
START = 4 + len(SEALED.header)
STEP = SMALL + 16
SEGMENTS = [BLOB[START + at : START + at + STEP] for at in range(0, len(BLOB) - START, STEP)]


def joined(segments: list[bytes], header: bytes = SEALED.header) -> bytes:
    return seal.blob_prefix(header) + b"".join(segments)


def root_over(segments: list[bytes], header: bytes = SEALED.header) -> bytes:
    return merkle.root([merkle.leaf_hash(part) for part in (header, *segments)])


def encrypted(index: int, flag: int, plain: bytes, header: bytes = SEALED.header) -> bytes:
    nonce = HEADER.nonce_prefix + index.to_bytes(4, "big") + bytes((flag,))
    return AESGCM(KEY).encrypt(nonce, plain, header)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="empty"),
        pytest.param(1, id="one-byte"),
        pytest.param(5_000, id="a-record"),
        pytest.param((1 << 20) - 1, id="one-below-a-segment"),
        pytest.param(1 << 20, id="exactly-one-segment"),
        pytest.param((1 << 20) + 1, id="one-above-a-segment"),
        pytest.param(3 << 20, id="exactly-three-segments"),
    ],
)
def test_a_record_of_any_size_comes_back(size: int) -> None:
    plain = bytes(size)

    blob, sealed, key = seal.seal_bytes(plain)

    assert seal.open_bytes(blob, key, sealed.root) == plain
    assert seal.root_of_blob(io.BytesIO(blob)) == sealed.root
    assert len(blob) == sealed.blob_size


@pytest.mark.parametrize(("size", "segments"), [(0, 1), (1, 1), (SMALL, 1), (SMALL + 1, 2), (3 * SMALL, 3)], ids=str)
def test_an_exact_multiple_gets_no_empty_segment_and_an_empty_record_gets_one(size: int, segments: int) -> None:
    _, sealed = sealed_small(bytes(size))

    assert sealed.segments == segments


def test_pieces_of_any_size_are_sealed_in_order() -> None:
    pieces = [PLAIN[:0], PLAIN[:1], PLAIN[1:2000], PLAIN[2000:]]
    out = io.BytesIO()

    sealed = seal.seal(iter(pieces), len(PLAIN), out, KEY, segment_size=SMALL)

    assert seal.open_bytes(out.getvalue(), KEY, sealed.root) == PLAIN


def test_a_file_is_sealed_from_where_it_stands() -> None:
    source, out = io.BytesIO(b"skip" + PLAIN), io.BytesIO()
    source.seek(4)

    sealed = seal.seal(source, len(PLAIN), out, KEY)

    assert seal.open_bytes(out.getvalue(), KEY, sealed.root) == PLAIN


@pytest.mark.parametrize(
    ("true_length", "found"),
    [
        pytest.param(len(PLAIN) + 1, "gave 3100 bytes", id="source-shorter"),
        pytest.param(len(PLAIN) - 1, "gave more bytes", id="source-longer"),
        pytest.param(0, "gave more bytes", id="nothing-announced"),
        pytest.param(2 * SMALL, "gave more bytes", id="source-longer-by-segments"),
    ],
)
def test_a_source_of_another_length_is_refused(true_length: int, found: str) -> None:
    with pytest.raises(ConflictError, match=found):
        seal.seal((PLAIN[:1500], PLAIN[1500:]), true_length, io.BytesIO(), KEY, segment_size=SMALL)


def test_a_data_key_of_another_length_is_refused_when_sealing() -> None:
    with pytest.raises(ValueError, match="data key has 31 bytes, expected 32"):
        seal.seal_bytes(b"x", bytes(31))


def test_salts_and_keys_are_32_fresh_bytes() -> None:
    drawn = {seal.new_salt(), seal.new_salt(), seal.new_data_key(), seal.new_data_key()}

    assert [len(value) for value in drawn] == [32] * 4


def test_two_seals_of_one_record_share_nothing() -> None:
    one, sealed, key = seal.seal_bytes(b"same")
    other, again, other_key = seal.seal_bytes(b"same")

    assert (one != other, sealed.root != again.root, key != other_key) == (True, True, True)


def test_records_of_nearly_one_size_look_alike() -> None:
    _, shorter, _ = seal.seal_bytes(bytes(3_100))
    _, longer, _ = seal.seal_bytes(bytes(3_200))

    assert (shorter.padded_size, shorter.blob_size) == (longer.padded_size, longer.blob_size)


WHOLE = SEGMENTS
TRUNCATED_AND_MOVED = [
    pytest.param(joined(WHOLE[:-1]), "segment 3 of 4 has 0 bytes", id="cut-at-a-boundary"),
    pytest.param(joined(WHOLE)[:-5], "segment 3 of 4 has", id="cut-inside-a-segment"),
    pytest.param(BLOB[: START - 5], "header has", id="cut-inside-the-header"),
    pytest.param(BLOB[:3], "length of the header has 3 bytes", id="cut-inside-the-length"),
    pytest.param(b"", "length of the header has 0 bytes", id="nothing"),
    pytest.param(joined([WHOLE[1], WHOLE[0], *WHOLE[2:]]), "segment 0 of 4 under root", id="two-swapped"),
    pytest.param(joined([WHOLE[0], WHOLE[0], *WHOLE[2:]]), "segment 1 of 4 under root", id="one-twice"),
    pytest.param(joined([*WHOLE, WHOLE[-1]]), "bytes follow the last of 4 segments", id="one-more-at-the-end"),
    pytest.param(BLOB + b"\0", "bytes follow the last of 4 segments", id="one-byte-more"),
    pytest.param(b"\0\0\x01\x01" + BLOB[4:], "header of 257 bytes", id="header-too-long"),
]


@pytest.mark.parametrize(("blob", "message"), TRUNCATED_AND_MOVED)
def test_a_cut_or_rearranged_blob_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        seal.open_bytes(blob, KEY, SEALED.root)


@pytest.mark.parametrize("position", [START, START + STEP + 7, len(BLOB) - 1], ids=["first", "second", "last"])
def test_one_flipped_bit_in_a_segment_is_refused(position: int) -> None:
    blob = BLOB[:position] + bytes((BLOB[position] ^ 1,)) + BLOB[position + 1 :]

    with pytest.raises(VerificationError, match="does not open"):
        seal.open_bytes(blob, KEY, SEALED.root)


def test_a_last_flag_in_the_middle_is_refused() -> None:
    evil = [*WHOLE[:1], encrypted(1, 1, PLAIN[SMALL : 2 * SMALL]), *WHOLE[2:]]

    with pytest.raises(VerificationError, match="segment 1 of 4 under root"):
        seal.open_bytes(joined(evil), KEY, root_over(evil))


def test_a_last_segment_without_its_flag_is_refused() -> None:
    evil = [*WHOLE[:3], encrypted(3, 0, PLAIN[3 * SMALL :] + bytes(100))]

    with pytest.raises(VerificationError, match="segment 3 of 4 under root"):
        seal.open_bytes(joined(evil), KEY, root_over(evil))


def test_padding_that_is_not_zero_is_refused() -> None:
    evil = [*WHOLE[:3], encrypted(3, 1, PLAIN[3 * SMALL :] + bytes(99) + b"!")]

    with pytest.raises(VerificationError, match="padding in segment 3"):
        seal.open_bytes(joined(evil), KEY, root_over(evil))


def test_another_root_is_refused() -> None:
    with pytest.raises(VerificationError, match=f"blob has root {SEALED.root.hex()}"):
        seal.open_bytes(BLOB, KEY, bytes(32))


def test_the_blob_of_another_record_under_the_same_key_is_refused() -> None:
    other, _ = sealed_small(PLAIN[::-1])

    with pytest.raises(VerificationError, match=f"the ledger says {SEALED.root.hex()}"):
        seal.open_bytes(other, KEY, SEALED.root)


@pytest.mark.parametrize("key", [b"j" * 32, b"k" * 31, b""], ids=["other", "short", "none"])
def test_another_key_is_refused_by_the_key_check(key: bytes) -> None:
    with pytest.raises(VerificationError, match="does not fit the key check"):
        seal.open_bytes(BLOB, key, SEALED.root)


def test_the_header_of_another_record_is_refused() -> None:
    _, other = sealed_small(PLAIN)
    blob = joined(WHOLE, other.header)

    with pytest.raises(VerificationError, match="segment 0 of 4"):
        seal.open_bytes(blob, KEY, root_over(WHOLE, other.header))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("segment_size", 2 * SMALL),
        ("padded_size", HEADER.padded_size - 16),
        ("nonce_prefix", b"another"),
        ("sealed_length", bytes(24)),
        ("key_check", bytes(32)),
    ],
)
def test_a_changed_header_field_is_refused_by_the_key_check(field: str, value: object) -> None:
    header = canonical.encode(msgspec.structs.replace(HEADER, **{field: value}))

    with pytest.raises(VerificationError, match="does not fit the key check"):
        seal.open_bytes(joined(WHOLE, header), KEY, root_over(WHOLE, header))


def recommitted(header: Header) -> bytes:
    """What a dishonest custodian can do: a key check that fits its changed header."""
    fields = canonical.encode(
        [header.version, int(header.suite), header.segment_size, header.padded_size, header.nonce_prefix]
    )
    check = suite.derive_key(KEY, suite.framed("yilian/key-check/v1", fields, header.sealed_length))
    return canonical.encode(msgspec.structs.replace(header, key_check=values.digest(check)))


def test_a_sealed_length_that_does_not_open_is_refused() -> None:
    header = recommitted(msgspec.structs.replace(HEADER, sealed_length=bytes(24)))

    with pytest.raises(VerificationError, match="sealed length in the header"):
        seal.open_bytes(joined(WHOLE, header), KEY, root_over(WHOLE, header))


def test_a_sealed_length_that_does_not_belong_to_the_padded_size_is_refused() -> None:
    fields = canonical.encode([1, 1, SMALL, HEADER.padded_size, HEADER.nonce_prefix])
    lie = AESGCM(KEY).encrypt(
        HEADER.nonce_prefix + bytes(4) + b"\x02", (17).to_bytes(8, "big"), suite.framed("yilian/true-length/v1", fields)
    )
    header = recommitted(msgspec.structs.replace(HEADER, sealed_length=lie))

    with pytest.raises(VerificationError, match=r"padded size 3200 under root .*, expected 18"):
        seal.open_bytes(joined(WHOLE, header), KEY, root_over(WHOLE, header))


def test_a_key_fits_only_the_header_that_commits_to_it() -> None:
    assert seal.key_fits(SEALED.header, KEY)
    assert not seal.key_fits(SEALED.header, b"j" * 32)


# NIST SP 800-38D, for a ciphertext that opens under two keys (Grubbs, Lu, Ristenpart 2017; Dodis et al. 2018).
def gf_multiply(left: int, right: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        product ^= left * (right >> bit & 1)
        left = left >> 1 ^ (0xE1 << 120) * (left & 1)
    return product


def gf_power(base: int, exponent: int) -> int:
    result = 1 << 127
    for _ in range(exponent):
        result = gf_multiply(result, base)
    return result


def tag_secrets(key: bytes, nonce: bytes) -> tuple[int, int]:
    """Give GHASH's point and the mask of the tag."""
    blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16) + nonce + b"\0\0\0\x01")  # noqa: S305
    return int.from_bytes(blocks[:16], "big"), int.from_bytes(blocks[16:], "big")


def tag_of(point: int, mask: int, aad: bytes, ciphertext: bytes) -> int:
    padded = aad + bytes(-len(aad) % 16) + ciphertext + bytes(-len(ciphertext) % 16)
    padded += (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    found = 0
    for at in range(0, len(padded), 16):
        found = gf_multiply(found ^ int.from_bytes(padded[at : at + 16], "big"), point)
    return found ^ mask


def segment_for_two_keys(one: bytes, two: bytes, nonce: bytes, aad: bytes) -> bytes:
    """Solve the last of two blocks so that both keys give the same tag."""
    (point_1, mask_1), (point_2, mask_2) = tag_secrets(one, nonce), tag_secrets(two, nonce)
    start = b"sixteen bytes ok"
    apart = tag_of(point_1, mask_1, aad, start + bytes(16)) ^ tag_of(point_2, mask_2, aad, start + bytes(16))
    # The last block is multiplied by the point twice: once itself, once with the block of lengths.
    weight = gf_multiply(point_1, point_1) ^ gf_multiply(point_2, point_2)
    inverse = 1 << 127
    for _ in range(127):
        weight = gf_multiply(weight, weight)
        inverse = gf_multiply(inverse, weight)
    ciphertext = start + gf_multiply(apart, inverse).to_bytes(16, "big")
    return ciphertext + tag_of(point_1, mask_1, aad, ciphertext).to_bytes(16, "big")


def test_a_ciphertext_that_opens_under_two_keys_is_refused_for_the_second() -> None:
    second = b"2" * 32
    _, honest = sealed_small(bytes(32))
    prefix = seal.parse_header(honest.header).nonce_prefix
    nonce = prefix + bytes(4) + b"\x01"
    segment = segment_for_two_keys(KEY, second, nonce, honest.header)
    blob, root = joined([segment], honest.header), root_over([segment], honest.header)

    one, two = AESGCM(KEY).decrypt(nonce, segment, honest.header), AESGCM(second).decrypt(nonce, segment, honest.header)

    assert one != two
    assert seal.open_bytes(blob, KEY, root) == one
    with pytest.raises(VerificationError, match="does not fit the key check"):
        seal.open_bytes(blob, second, root)


def zeros(segments: int) -> Iterator[bytes]:
    for _ in range(segments):
        yield bytes(1 << 20)


class Nowhere(io.RawIOBase):
    def write(self, data: object) -> int:
        return len(memoryview(data))


def test_sealing_and_opening_a_large_record_takes_few_segments_of_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with (tmp_path / "blob").open("wb") as out:
            sealed = seal.seal(zeros(40), 40 << 20, out, KEY)
        with (tmp_path / "blob").open("rb") as blob:
            opened = seal.open_sealed(blob, KEY, sealed.root, Nowhere())  # type: ignore[arg-type]  # all that is written to
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert opened == 40 << 20
    assert peak < 8 << 20


def test_a_blob_checked_before_opens_without_its_root_being_made_again() -> None:
    out = io.BytesIO()
    assert seal.open_checked(io.BytesIO(BLOB), KEY, values.digest(bytes(32)), out) == len(PLAIN)
    assert out.getvalue() == PLAIN


@pytest.mark.parametrize("at", [START - 1, START, START + STEP, len(BLOB) - 1], ids=["header", "1", "2", "last"])
def test_a_blob_checked_before_and_changed_since_does_not_open(at: int) -> None:
    changed = bytearray(BLOB)
    changed[at] ^= 1
    with pytest.raises(VerificationError):
        seal.open_checked(io.BytesIO(bytes(changed)), KEY, SEALED.root, io.BytesIO())
