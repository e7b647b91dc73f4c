"""One suite over every adapter of the `Blobs` port."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.errors import ConflictError, NotFoundError
from yilian.storage.blobs import LocalBlobs
from yilian.storage.port import Blobs

ROOT, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture(params=["local"])
def blobs(tmp_path: Path) -> Blobs:
    return LocalBlobs(tmp_path / "blobs")


def content(blobs: Blobs, root: bytes) -> bytes:
    with blobs.open(root) as file:
        return file.read()


def test_a_blob_is_read_back(blobs: Blobs) -> None:
    assert blobs.put(ROOT, b"sealed") == 6
    assert (content(blobs, ROOT), blobs.size(ROOT), blobs.exists(ROOT)) == (b"sealed", 6, True)


def test_a_blob_may_come_in_pieces(blobs: Blobs) -> None:
    assert blobs.put(ROOT, (piece for piece in (b"sea", b"", b"led"))) == 6
    assert content(blobs, ROOT) == b"sealed"


def test_a_blob_is_put_back_over_a_damaged_one(blobs: Blobs) -> None:
    blobs.put(ROOT, b"flipped")
    blobs.put(ROOT, b"sealed")
    assert content(blobs, ROOT) == b"sealed"


def test_many_blobs_are_read_back(blobs: Blobs) -> None:
    many = {bytes([index % 256, index // 256]) * 16: b"blob %d" % index for index in range(600)}
    blobs.put_many(many.items())
    assert {root: content(blobs, root) for root in blobs.roots()} == many


def test_no_blobs_are_no_trouble(blobs: Blobs) -> None:
    blobs.put_many([])
    assert list(blobs.roots()) == []


def test_roots_come_in_order(blobs: Blobs) -> None:
    blobs.put_many([(OTHER, b"2"), (ROOT, b"1")])
    assert list(blobs.roots()) == [ROOT, OTHER]


def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFoundError, match=ROOT.hex()):
        blobs.open(ROOT)
    with pytest.raises(NotFoundError, match=ROOT.hex()):
        blobs.size(ROOT)
    assert not blobs.exists(ROOT)


def test_a_deleted_blob_is_gone_and_deleting_again_is_no_trouble(blobs: Blobs) -> None:
    blobs.put(ROOT, b"sealed")
    blobs.delete(ROOT)
    blobs.delete(ROOT)
    assert (blobs.exists(ROOT), list(blobs.roots())) == (False, [])


def test_a_root_has_32_bytes(blobs: Blobs) -> None:
    with pytest.raises(ValueError, match="expected 32"):
        blobs.put(b"short", b"")


def test_an_interrupted_transfer_goes_on_where_it_stopped(blobs: Blobs) -> None:
    with blobs.writer("transfer-1") as writer:
        writer.append(b"sea")
    with blobs.writer("transfer-1") as writer, writer.read() as before:
        assert (writer.length, before.read()) == (3, b"sea")
        writer.append(b"led")
        writer.commit(ROOT)
    assert content(blobs, ROOT) == b"sealed"
    with blobs.writer("transfer-1") as writer:
        assert writer.length == 0


def test_a_bad_end_of_a_transfer_is_cut_off(blobs: Blobs) -> None:
    with blobs.writer("transfer-1") as writer:
        writer.append(b"seaXXX")
        writer.truncate(3)
        writer.append(b"led")
        writer.commit(ROOT)
    assert content(blobs, ROOT) == b"sealed"


def test_a_discarded_transfer_begins_anew(blobs: Blobs) -> None:
    with blobs.writer("transfer-1") as writer:
        writer.append(b"sea")
        writer.discard()
    with blobs.writer("transfer-1") as writer:
        assert writer.length == 0


def test_a_transfer_has_one_writer(blobs: Blobs) -> None:
    with blobs.writer("transfer-1"), pytest.raises(ConflictError), blobs.writer("transfer-1"):
        pass


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 129])
def test_a_transfer_has_a_plain_name(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="name of a partial blob"), blobs.writer(name):
        pass
