"""What SegmentBlocks does beyond the port: torn ends, damage, files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from yilian.errors import ConflictError, UnavailableError, VerificationError
from yilian.storage.segments import SegmentBlocks, find_damage

BLOCK = b"block-%04d" + b"." * 20
RECORD = 16 + len(BLOCK % 1)
FIRST, SECOND, THIRD = "00000001.seg", "00000002.seg", "00000003.seg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten blocks, four a segment."""
    blocks = SegmentBlocks(tmp_path / "blocks", segment_bytes=4 * RECORD)
    for height in range(1, 11):
        blocks.append(height, BLOCK % height)
    blocks.close()
    return tmp_path / "blocks"


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x01
    path.write_bytes(content)


def heights(folder: Path) -> tuple[int, int | None]:
    blocks = SegmentBlocks(folder)
    found = blocks.last_height(), None if blocks.dropped is None else blocks.dropped.height
    blocks.close()
    return found


def test_files_are_begun_at_their_size_and_are_the_owners(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.seg")}
    assert sizes == {FIRST: 4 * RECORD, SECOND: 4 * RECORD, THIRD: 2 * RECORD}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_opening_again_goes_on(folder: Path) -> None:
    blocks = SegmentBlocks(folder, segment_bytes=4 * RECORD, committed=10)
    blocks.append(11, BLOCK % 11)
    assert [blocks.read(height) for height in range(1, 12)] == [BLOCK % height for height in range(1, 12)]
    assert (blocks.dropped, list(find_damage(folder))) == (None, [])
    blocks.close()


@pytest.mark.parametrize("left", [1, 8, 15, 16, 17, RECORD - 1])
def test_an_incomplete_last_record_is_dropped(folder: Path, left: int) -> None:
    path = folder / THIRD
    path.write_bytes(path.read_bytes()[: RECORD + left])
    assert heights(folder) == (9, 10)
    assert heights(folder) == (9, None)


@pytest.mark.parametrize("offset", [0, 4, 8, 16, RECORD - 1], ids=["length", "checksum", "height", "first", "last"])
def test_an_invalid_last_record_is_dropped(folder: Path, offset: int) -> None:
    flip(folder / THIRD, RECORD + offset)
    assert heights(folder) == (9, 10)


def test_zeros_that_a_power_cut_left_are_dropped(folder: Path) -> None:
    with (folder / THIRD).open("ab") as file:
        file.write(bytes(4096))
    assert heights(folder) == (10, 11)


def test_a_new_file_that_a_crash_left_empty_is_used(folder: Path) -> None:
    (folder / "00000004.seg").touch()
    blocks = SegmentBlocks(folder)
    blocks.append(11, b"eleven")
    assert (blocks.read(11), (folder / "00000004.seg").stat().st_size) == (b"eleven", 22)
    blocks.close()


def test_a_bad_end_is_not_dropped_where_the_state_has_executed_it(folder: Path) -> None:
    flip(folder / THIRD, RECORD + 20)
    with pytest.raises(VerificationError, match=rf"{THIRD}, offset {RECORD}"):
        SegmentBlocks(folder, committed=10)
    assert heights(folder) == (9, 10)


def test_a_chain_that_ends_below_the_state_is_damage(folder: Path) -> None:
    with pytest.raises(VerificationError, match="ends at block 10, the state is at 11"):
        SegmentBlocks(folder, committed=11)


@pytest.mark.parametrize("offset", [0, 4, 8, 16, RECORD - 1], ids=["length", "checksum", "height", "first", "last"])
def test_damage_before_the_last_record_is_named_and_not_repaired(folder: Path, offset: int) -> None:
    flip(folder / THIRD, offset)
    before = (folder / THIRD).read_bytes()
    with pytest.raises(VerificationError, match=rf"{THIRD}, offset 0"):
        SegmentBlocks(folder)
    assert (folder / THIRD).read_bytes() == before


def test_damage_in_an_old_block_is_named_when_it_is_read(folder: Path) -> None:
    flip(folder / FIRST, RECORD + 30)
    blocks = SegmentBlocks(folder)
    with pytest.raises(VerificationError, match=rf"{FIRST}, offset {RECORD}: .*checksum.* block 2"):
        blocks.read(2)
    assert blocks.read(3) == BLOCK % 3
    blocks.close()


def test_a_torn_end_inside_an_older_segment_is_damage(folder: Path) -> None:
    path = folder / SECOND
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VerificationError, match=rf"{SECOND}, offset {3 * RECORD}"):
        SegmentBlocks(folder)


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("offset", range(0, 2 * RECORD, 5))
def test_every_flipped_byte_is_found(folder: Path, segment: int, offset: int) -> None:
    name = (FIRST, SECOND, THIRD)[segment]
    flip(folder / name, offset)
    found = [(damage.segment, damage.offset) for damage in find_damage(folder)]
    assert found == [(name, offset // RECORD * RECORD)]


def test_all_damage_is_found_and_only_the_end_may_be_torn(folder: Path) -> None:
    flip(folder / FIRST, 20)
    flip(folder / SECOND, 3 * RECORD)
    flip(folder / THIRD, RECORD + 20)
    assert [(damage.height, damage.is_torn_end) for damage in find_damage(folder)] == [
        (1, False),
        (8, False),
        (10, True),
    ]


def test_a_missing_segment_is_found(folder: Path) -> None:
    (folder / SECOND).unlink()
    assert "offset 0: the record says block 9, expected block 5" in str(next(iter(find_damage(folder))))
    with pytest.raises(VerificationError, match=THIRD):
        SegmentBlocks(folder)


def test_a_folder_is_open_once(folder: Path) -> None:
    blocks = SegmentBlocks(folder)
    with pytest.raises(ConflictError, match="open already"):
        SegmentBlocks(folder)
    blocks.close()
    blocks.close()
    assert heights(folder) == (10, None)


def test_a_closed_store_takes_no_block(folder: Path) -> None:
    blocks = SegmentBlocks(folder)
    blocks.close()
    with pytest.raises(UnavailableError, match="closed"):
        blocks.append(11, b"x")


def test_an_empty_block_is_refused(folder: Path) -> None:
    blocks = SegmentBlocks(folder)
    with pytest.raises(ValueError, match="0 bytes"):
        blocks.append(11, b"")
    blocks.close()
