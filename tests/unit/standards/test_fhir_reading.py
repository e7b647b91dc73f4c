from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from yilian.errors import NotFoundError
from yilian.standards.fhir import BrokenInput, Limits, ReceivedBundle, parse_bundle, read_bundles

ENTRY = b'{ "resource":{"resourceType":"Patient","id":"p","multipleBirthInteger":1.50} }'
BUNDLE = b'{"resourceType":"Bundle","type":"transaction","entry":[ ' + ENTRY + b" ]}"


def received(found: ReceivedBundle | BrokenInput) -> ReceivedBundle:
    assert isinstance(found, ReceivedBundle)
    return found


def broken(found: ReceivedBundle | BrokenInput) -> BrokenInput:
    assert isinstance(found, BrokenInput)
    return found


def archive(path: Path, mode: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload] # the mode is a parameter of the test
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_file_is_read_with_its_bytes_digest_and_entry_slices(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(BUNDLE)
    (found,) = read_bundles(tmp_path / "one.json")
    bundle = received(found)
    assert (bundle.name, bundle.position, bundle.raw) == ("one.json", 0, BUNDLE)
    assert bundle.sha256 == hashlib.sha256(BUNDLE).digest()
    assert [bytes(entry) for entry in bundle.entries] == [ENTRY]


def test_a_byte_order_mark_stays_in_the_received_bytes() -> None:
    bundle = received(parse_bundle("bom.json", b"\xef\xbb\xbf" + BUNDLE))
    assert bundle.raw == b"\xef\xbb\xbf" + BUNDLE
    assert [bytes(entry) for entry in bundle.entries] == [ENTRY]


def test_a_gzip_file_gives_the_unpacked_bytes(tmp_path: Path) -> None:
    (tmp_path / "one.json.gz").write_bytes(gzip.compress(BUNDLE))
    (found,) = read_bundles(tmp_path / "one.json.gz")
    assert received(found).raw == BUNDLE


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz"), ("a.txz", "w:xz")]
)
def test_an_archive_gives_its_json_members_in_order(tmp_path: Path, name: str, mode: str) -> None:
    files = {"b.json": BUNDLE, "README.md": b"words", "a.json.gz": gzip.compress(BUNDLE)}
    found = [received(each) for each in read_bundles(archive(tmp_path / name, mode, files))]
    assert [(each.name, each.position) for each in found] == [(f"{name}/b.json", 0), (f"{name}/a.json.gz", 1)]
    assert [each.raw for each in found] == [BUNDLE, BUNDLE]


def test_a_folder_is_read_recursively_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.json").write_bytes(BUNDLE)
    (tmp_path / "notes.txt").write_bytes(b"words")
    (tmp_path / "sub" / "a.json").write_bytes(BUNDLE)
    archive(tmp_path / "sub" / "c.tar.xz", "w:xz", {"x.json": BUNDLE})
    assert [received(each).name for each in read_bundles(tmp_path)] == ["b.json", "sub/a.json", "sub/c.tar.xz/x.json"]


def test_a_broken_file_is_reported_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b'{"resourceType":"Bundle","type":"transaction","entry":{"secret":1}}')
    (tmp_path / "2.json.gz").write_bytes(gzip.compress(BUNDLE)[:-20])
    (tmp_path / "3.json").write_bytes(BUNDLE)
    one, two, three = read_bundles(tmp_path)
    assert broken(one) == BrokenInput(
        file="1.json",
        position=0,
        entry=-1,
        element="Bundle.entry",
        reason="Expected `array`, got `object`: send valid FHIR JSON",
    )
    assert broken(two).reason == "cannot be read (EOFError): copy the file again"
    assert received(three).position == 2


@pytest.mark.parametrize(
    ("raw", "element"),
    [
        pytest.param(b"", "Bundle", id="empty"),
        pytest.param(b'{"resourceType":"Bundle"', "Bundle", id="cut"),
        pytest.param(BUNDLE + b"x", "Bundle", id="trailing"),
        pytest.param(b"[" * 100_000, "Bundle", id="no-object"),
        pytest.param(b'{"resourceType":"Bundle","x":' + b"[" * 100_000, "Bundle", id="too-deep"),
        pytest.param(b'{"resourceType":"Patient","id":"Wang Xiaoming"}', "resourceType", id="no-bundle"),
        pytest.param(b'{"resourceType":"Bundle","type":"Wang Xiaoming"}', "Bundle.type", id="other-type"),
        pytest.param(b'{"resourceType":"Bundle","type":7}', "Bundle.type", id="type-is-a-number"),
        pytest.param(b'{"resourceType":"Bundle","type":"\xff\xfe"}', "Bundle", id="not-utf-8"),
    ],
)
def test_bytes_that_are_no_bundle_are_broken_and_the_reason_repeats_nothing_of_them(raw: bytes, element: str) -> None:
    found = broken(parse_bundle("x.json", raw))
    assert found.entry == -1
    assert found.element.startswith(element)
    assert "Wang" not in found.reason + found.element


def test_a_bundle_at_the_limit_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(BUNDLE)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(BUNDLE))
    archive(tmp_path / "c.tar", "w", {"c.json": BUNDLE})
    at_limit = read_bundles(tmp_path, Limits(bundle_bytes=len(BUNDLE)))
    below = read_bundles(tmp_path, Limits(bundle_bytes=len(BUNDLE) - 1))
    assert all(isinstance(each, ReceivedBundle) for each in at_limit)
    assert all("split the bundle" in broken(each).reason for each in below)


def test_a_gzip_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b" " * 5_000_000))
    (found,) = read_bundles(tmp_path, Limits(bundle_bytes=1000))
    assert broken(found).reason == "unpacks to more than 1000 bytes: split the bundle"


def test_an_archive_that_unpacks_to_too_much_stops_there(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.xz", "w:xz", {"1.json": BUNDLE, "big.bin": b" " * 100_000, "2.json": BUNDLE})
    first, second = read_bundles(path, Limits(archive_bytes=50_000))
    assert received(first).name == "a.tar.xz/1.json"
    assert broken(second).reason == "unpacks to more than 50000 bytes: split the archive"


def test_a_torn_archive_gives_what_came_before_the_tear(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", "w", {"1.json": BUNDLE, "2.json": BUNDLE * 50})
    path.write_bytes(path.read_bytes()[:2500])
    first, *others = read_bundles(path)
    assert received(first).raw == BUNDLE
    assert [broken(each).file.startswith("a.tar") for each in others] == [True] * len(others)
    assert others


def test_a_file_packed_wrongly_inside_an_archive_harms_no_other(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", "w", {"1.json.gz": b"not gzip", "2.json": BUNDLE})
    first, second = read_bundles(path)
    assert broken(first).reason == "cannot be read (BadGzipFile): copy the file again"
    assert received(second).raw == BUNDLE


def test_a_file_of_another_kind_is_refused_when_named_itself(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF")
    (found,) = read_bundles(tmp_path / "scan.pdf")
    assert broken(found).reason.startswith("none of .json")


def test_a_path_where_nothing_lies_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="name a FHIR file"):
        list(read_bundles(tmp_path / "absent"))
