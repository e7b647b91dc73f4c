from __future__ import annotations

import io

import msgspec
import pytest

from yilian import canonical, values
from yilian.crypto import blob as blobs
from yilian.crypto import merkle, seal
from yilian.crypto.blob import BlobReader, SegmentChecker, SegmentProof
from yilian.errors import VerificationError

SMALL = 1024
OUT = io.BytesIO()
SEALED = seal.seal((b"x" * 5_000,), 5_000, OUT, b"k" * 32, segment_size=SMALL)
BLOB = OUT.getvalue()
LEAVES = blobs.leaf_hashes(io.BytesIO(BLOB))
OTHER_OUT = io.BytesIO()
OTHER = seal.seal((b"x" * 5_000,), 5_000, OTHER_OUT, b"k" * 32, segment_size=SMALL)
OTHER_LEAVES = blobs.leaf_hashes(io.BytesIO(OTHER_OUT.getvalue()))


def reader() -> BlobReader:
    return BlobReader(io.BytesIO(BLOB))


def checker() -> SegmentChecker:
    return SegmentChecker(SEALED.header, LEAVES, SEALED.root)


def hashed(blob: bytes, size: int) -> blobs.RootHasher:
    hasher = blobs.RootHasher()
    for at in range(0, len(blob), size):
        hasher.update(memoryview(blob)[at : at + size])
    return hasher


class OneByteAtATime(io.BytesIO):
    """What a slow socket gives."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1))


def test_leaves_of_a_blob_give_its_root() -> None:
    assert merkle.root(LEAVES) == SEALED.root == blobs.root_of_blob(io.BytesIO(BLOB))
    assert reader().leaf_hashes() == LEAVES


def test_a_slow_source_gives_the_same_root() -> None:
    assert blobs.root_of_blob(OneByteAtATime(BLOB)) == SEALED.root


@pytest.mark.parametrize("size", [1, 3, 7, 1000, len(BLOB)])
def test_pieces_of_any_size_give_the_same_root(size: int) -> None:
    assert hashed(BLOB, size).root() == SEALED.root


@pytest.mark.parametrize("length", [0, 3, 4, 40, len(BLOB) - 1])
def test_pieces_of_a_cut_blob_have_no_root(length: int) -> None:
    with pytest.raises(VerificationError, match="the blob was cut in segment"):
        hashed(BLOB[:length], 64).root()


def test_pieces_after_the_last_segment_are_refused() -> None:
    with pytest.raises(VerificationError, match="bytes follow the last of 5 segments"):
        hashed(BLOB + b"x", 64)


def test_pieces_that_begin_with_no_header_are_refused() -> None:
    with pytest.raises(VerificationError, match="header of 0 bytes"):
        hashed(bytes(64), 5)


def test_a_blob_that_ends_inside_a_read_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"segment 4 of 5 has .* bytes, expected"):
        blobs.root_of_blob(OneByteAtATime(BLOB[:-1]))


def transferred(indexes: range) -> bytes:
    check, read = checker(), reader()
    received = [read.segment(index) for index in indexes]
    for index, segment in zip(indexes, received, strict=True):
        check.check(index, segment)
    return b"".join(received)


@pytest.mark.parametrize("cut", range(6))
def test_a_transfer_cut_anywhere_goes_on_at_the_next_segment(cut: int) -> None:
    before = blobs.blob_prefix(SEALED.header) + transferred(range(cut))
    after = transferred(range(cut, 5))

    assert (before + after, checker().segments) == (BLOB, reader().segments)
    assert len(before) == min(checker().offset(cut), len(BLOB))


@pytest.mark.parametrize(
    ("index", "segment"),
    [
        pytest.param(1, reader().segment(0), id="another-segment"),
        pytest.param(0, reader().segment(0)[:-1], id="cut"),
        pytest.param(0, b"", id="nothing"),
        pytest.param(5, reader().segment(0), id="one-too-many"),
        pytest.param(-1, reader().segment(4), id="negative"),
        pytest.param(0, BlobReader(OTHER_OUT).segment(0), id="of-another-record"),
    ],
)
def test_a_wrong_segment_is_refused_on_arrival(index: int, segment: bytes) -> None:
    with pytest.raises(VerificationError, match=f"segment {index} .*root {SEALED.root.hex()}"):
        checker().check(index, segment)


@pytest.mark.parametrize(
    ("header", "leaves", "message"),
    [
        pytest.param(SEALED.header, LEAVES[:-1], "leaf hashes give root", id="leaf-missing"),
        pytest.param(SEALED.header, [], "leaf hashes give root", id="no-leaves"),
        pytest.param(SEALED.header, OTHER_LEAVES, "leaf hashes give root", id="leaves-of-another-record"),
        pytest.param(OTHER.header, LEAVES, "the header does not belong", id="header-of-another-record"),
    ],
)
def test_a_transfer_does_not_start_with_other_leaves_or_header(
    header: bytes, leaves: list[bytes], message: str
) -> None:
    with pytest.raises(VerificationError, match=message):
        SegmentChecker(header, leaves, SEALED.root)


def test_a_node_hash_cannot_stand_for_two_segments() -> None:
    folded = [LEAVES[0], *LEAVES[1:2], merkle.node_hash(LEAVES[2], LEAVES[3]), *LEAVES[4:]]

    with pytest.raises(VerificationError, match=r"leaf hashes give root|does not belong"):
        SegmentChecker(SEALED.header, folded, SEALED.root)


def test_a_header_that_tells_another_number_of_segments_than_there_are_leaves_is_refused() -> None:
    # All leaves of a level but the last folded into their parents: the root stays, the number of leaves does not.
    folded = [merkle.node_hash(left, right) for left, right in zip(LEAVES[::2], LEAVES[1::2], strict=True)]

    assert merkle.root(folded) == SEALED.root
    with pytest.raises(VerificationError, match="with 3 leaves"):
        SegmentChecker(SEALED.header, folded, SEALED.root)


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_no_segment_outside_the_header(index: int) -> None:
    with pytest.raises(IndexError, match=f"segment {index} of 5"):
        reader().segment(index)


@pytest.mark.parametrize("index", range(5))
def test_a_challenged_segment_is_proven(index: int) -> None:
    proof = blobs.segment_with_proof(io.BytesIO(BLOB), index)
    received = canonical.decode(canonical.encode(proof), SegmentProof)

    blobs.verify_segment(received, index, SEALED.root)


PROOF = blobs.segment_with_proof(io.BytesIO(BLOB), 2)


@pytest.mark.parametrize(
    ("proof", "index", "message"),
    [
        pytest.param(PROOF, 3, "is not segment 3", id="another-segment-than-asked"),
        pytest.param(msgspec.structs.replace(PROOF, index=3), 3, "is not segment 3", id="relabelled"),
        pytest.param(msgspec.structs.replace(PROOF, segment=b""), 2, "is not segment 2", id="other-bytes"),
        pytest.param(msgspec.structs.replace(PROOF, segment_path=()), 2, "is not segment 2", id="no-path"),
        pytest.param(msgspec.structs.replace(PROOF, header=OTHER.header), 2, "header does not belong", id="header"),
        pytest.param(msgspec.structs.replace(PROOF, header_path=()), 2, "header does not belong", id="no-header-path"),
    ],
)
def test_a_wrong_answer_to_a_challenge_is_refused(proof: SegmentProof, index: int, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        blobs.verify_segment(proof, index, SEALED.root)


def test_no_segment_is_proven_under_another_root() -> None:
    with pytest.raises(VerificationError, match="header does not belong"):
        blobs.verify_segment(PROOF, 2, OTHER.root)


def test_a_header_with_more_segments_than_can_be_counted_is_refused() -> None:
    header = msgspec.structs.replace(blobs.parse_header(SEALED.header), padded_size=values.MAX_INT)

    with pytest.raises(VerificationError, match="expected at most 2³²"):
        blobs.parse_header(canonical.encode(header))


@pytest.mark.parametrize(("field", "value"), [("version", 2), ("segment_size", 1023), ("segment_size", (1 << 20) + 1)])
def test_a_header_of_another_form_is_refused(field: str, value: int) -> None:
    header = msgspec.structs.replace(blobs.parse_header(SEALED.header), **{field: value})

    with pytest.raises(VerificationError, match="are no Header"):
        blobs.parse_header(canonical.encode(header))


@pytest.mark.parametrize(
    ("true_length", "padded"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        (8, 8),
        (9, 10),
        (129, 144),
        (5_000, 5_120),
        (1 << 20, 1 << 20),
        ((1 << 20) + 1, 1_081_344),
    ],
)
def test_sizes_are_padded_by_padme(true_length: int, padded: int) -> None:
    assert blobs.padded_size(true_length) == padded


@pytest.mark.parametrize(("size", "size_class"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 20, 20)])
def test_a_size_class_is_the_smallest_power_of_two_that_holds_it(size: int, size_class: int) -> None:
    assert blobs.size_class(size) == size_class
