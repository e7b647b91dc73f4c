"""Reading sealed blobs again: what is missing or changed is found, at a bounded rate, from where it stopped."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from yilian.crypto.seal import seal_bytes
from yilian.errors import UnavailableError
from yilian.node.integrity import SAVE_EVERY_S, Checking, Locate, Throttle
from yilian.node.jobs import Stopped
from yilian.storage.blobs import LocalBlobs
from yilian.storage.vault import Vault
from yilian.storage.vault.integrity import Finding, Held, HeldKind, Source, Wrong
from yilian.storage.vault.records import ReceivedFile, Record, RecordStatus, Summary
from yilian.storage.vault.releases import ReceivedCopy
from yilian.values import Digest, case_id, institution_id

BIG = 3_000_000
"""Bytes of a record with three segments."""


class Clock:
    """Time that moves only when somebody waits, or a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds

    def millis(self) -> int:
        return int(self.now * 1000)


class Institution:
    """A vault and blobs with some of each kind; the reports of its checks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = Vault(folder / "vault.db", bytes(32))
        self.blobs = LocalBlobs(folder / "blobs")
        self.clock = Clock()
        self.reports: list[Mapping[str, int | float | str]] = []
        self.size = 0

    def keep(self, content: bytes) -> tuple[Digest, bytes]:
        key = secrets.token_bytes(32)
        blob, sealed, _ = seal_bytes(content, key)
        self.blobs.put(sealed.root, blob)
        self.size += len(blob)
        return sealed.root, key

    def add_record(self, content: bytes = b"record") -> Record:
        root, key = self.keep(content)
        record = Record(
            entry_id=case_id(secrets.token_bytes(32)),
            root=root,
            data_key=key,
            salt=bytes(32),
            level=4,
            true_size=len(content),
            subject_ref=bytes(16),
            year=2026,
            j=0,
            source=bytes(32),
            encounter=secrets.token_hex(4),
            canonical=secrets.token_bytes(32),
            kind="C0001",
            status=RecordStatus.PUBLISHED,
        )
        self.vault.records.insert([record])
        return record

    def add_copy(self, uses: int = 1) -> ReceivedCopy:
        root, key = self.keep(b"copy")
        entry = case_id(secrets.token_bytes(32))
        copies = [
            ReceivedCopy(
                entry_id=entry,
                use_id=case_id(bytes([number]) * 32),
                root=root,
                data_key=key,
                salt=bytes(32),
                true_size=4,
            )
            for number in range(uses)
        ]
        self.vault.releases.put_copies(copies)
        return copies[0]

    def add_file(self) -> ReceivedFile:
        root, key = self.keep(b"file")
        file = ReceivedFile(
            digest=secrets.token_bytes(32), root=root, data_key=key, true_size=4, name="f", is_imported=True
        )
        self.vault.records.put_file(file)
        return file

    def add_summary(self) -> Summary:
        root, key = self.keep(b"summary")
        summary = Summary(subject_ref=secrets.token_bytes(16), root=root, data_key=key, salt=bytes(32), true_size=7)
        self.vault.records.put_summary(summary)
        return summary

    def path(self, root: bytes) -> Path:
        return self.folder / "blobs" / root.hex()[:2] / root.hex()[2:]

    def flip(self, root: bytes, at: int = -1) -> None:
        content = bytearray(self.path(root).read_bytes())
        content[at] ^= 1
        self.path(root).write_bytes(content)

    def checking(
        self,
        *,
        rate: int = 10**12,
        locate: Locate = lambda _: (),
        told: Callable[[Mapping[str, int | float | str]], None] = lambda _: None,
    ) -> Checking:
        def report(figures: Mapping[str, int | float | str]) -> None:
            self.reports.append(dict(figures))
            told(figures)

        return Checking(
            self.vault,
            self.blobs,
            throttle=Throttle(rate, clock=self.clock, wait=self.clock.wait),
            clock=self.clock.millis,
            report=report,
            locate=locate,
            name="centre",
        )

    def check(self, rate: int = 10**12) -> list[Finding]:
        self.checking(rate=rate).run()
        return self.vault.integrity.findings()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Institution]:
    opened = Institution(tmp_path)
    yield opened
    opened.vault.close()


def test_what_is_whole_gives_no_finding_and_everything_is_read(here: Institution) -> None:
    here.add_record()
    here.add_record(bytes(BIG))
    here.add_copy(uses=3)
    here.add_file()
    here.add_summary()
    figures = here.checking().run()
    assert here.vault.integrity.findings() == []
    assert (figures["done"], figures["bytes"], figures["wrong"]) == (5, here.size, 0)
    run = here.vault.integrity.find_pass()
    assert run is not None
    assert run.finished is not None


@pytest.mark.parametrize("at", [0, 4, 40, 200, -1], ids=["length", "header", "key check", "segment", "end"])
def test_a_flipped_byte_is_found_wherever_it_is(here: Institution, at: int) -> None:
    here.add_record()
    record = here.add_record(bytes(300))
    here.flip(record.root, at)
    (found,) = here.check()
    assert (found.entry, found.root, found.kind, found.wrong) == (
        record.entry_id, record.root, HeldKind.RECORD, Wrong.CHANGED,
    )  # fmt: skip


def test_missing_cut_and_longer_files_are_found_in_every_kind(here: Institution) -> None:
    record, copy, file, summary = here.add_record(), here.add_copy(), here.add_file(), here.add_summary()
    here.path(record.root).unlink()
    here.path(copy.root).write_bytes(here.path(copy.root).read_bytes()[:-1])
    here.path(file.root).write_bytes(here.path(file.root).read_bytes() + b"x")
    here.path(summary.root).write_bytes(b"")
    found = [(one.kind, one.wrong, one.root) for one in here.check()]
    assert found == [
        (HeldKind.RECORD, Wrong.MISSING, record.root),
        (HeldKind.COPY, Wrong.CHANGED, copy.root),
        (HeldKind.FILE, Wrong.CHANGED, file.root),
        (HeldKind.SUMMARY, Wrong.CHANGED, summary.root),
    ]


def test_a_blob_of_another_record_in_its_place_is_found(here: Institution) -> None:
    first, second = here.add_record(), here.add_record()
    here.path(first.root).write_bytes(here.path(second.root).read_bytes())
    assert [one.entry for one in here.check()] == [first.entry_id]


def test_what_cannot_be_opened_is_named_so(here: Institution) -> None:
    record = here.add_record()
    here.path(record.root).unlink()
    here.path(record.root).mkdir()
    (found,) = here.check()
    assert found.wrong == Wrong.UNREADABLE


def test_a_finding_goes_once_the_blob_is_back(here: Institution) -> None:
    record = here.add_record()
    content = here.path(record.root).read_bytes()
    here.flip(record.root)
    (first,) = here.check()
    here.clock.now += 1000
    (again,) = here.check()
    assert again.found == first.found < again.checked, "it keeps when it was found first"
    here.blobs.put(record.root, content)
    assert here.check() == []


def test_an_erased_record_is_not_missed_and_its_finding_goes(here: Institution) -> None:
    kept, erased = here.add_record(), here.add_record()
    here.flip(erased.root)
    assert [one.entry for one in here.check()] == [erased.entry_id]
    here.vault.records.erase(erased.entry_id)
    here.blobs.delete(erased.root)
    here.clock.now += 1
    assert here.check() == []
    assert here.blobs.exists(kept.root)


def test_a_record_erased_while_the_pass_is_at_it_is_not_missed(here: Institution) -> None:
    first, second = sorted((here.add_record(), here.add_record()), key=lambda one: one.entry_id)

    def erase(_: Mapping[str, int | float | str]) -> None:
        if here.blobs.exists(second.root):
            here.vault.records.erase(second.entry_id)
            here.blobs.delete(second.root)

    def locate(_: Held) -> tuple[Source, ...]:
        raise AssertionError("nothing is looked for that need not be here")

    assert here.checking(told=erase, locate=locate).run()["done"] == 2
    assert here.vault.integrity.findings() == []
    assert here.blobs.exists(first.root)


def test_a_pass_that_was_killed_goes_on_where_it_was(here: Institution, tmp_path: Path) -> None:
    records = [here.add_record(bytes(1_000_000)) for _ in range(12)]
    for one in records:
        here.flip(one.root)
    first = sorted(records, key=lambda one: one.entry_id)

    class KilledError(BaseException):
        pass

    def kill(_: Held) -> tuple[Source, ...]:
        if here.reports[-1]["done"] == 7:
            raise KilledError
        return ()

    with pytest.raises(KilledError):
        here.checking(rate=1_000_000, locate=kill).run()  # a second a record: written every second one
    here.vault.close()
    here.vault = Vault(tmp_path / "vault.db", bytes(32))
    kept = here.vault.integrity.find_pass()
    assert kept is not None
    assert kept.finished is None
    assert 5 <= kept.done <= 7
    assert {one.entry for one in here.vault.integrity.findings()} == {one.entry_id for one in first[: kept.done]}

    read: list[bytes] = []
    opened = here.blobs.open
    here.blobs.open = lambda root: (read.append(root), opened(root))[1]  # type: ignore[method-assign, assignment]
    figures = here.checking().run()
    assert set(read) == {one.root for one in first[kept.done :]}, "what was checked is not read again"
    assert (figures["done"], figures["total"], figures["wrong"]) == (12, 12, 12)
    assert len(here.vault.integrity.findings()) == 12


CHILD = """
import sys, time
from pathlib import Path
from yilian.node import integrity
from yilian.storage.blobs import LocalBlobs
from yilian.storage.vault import Vault

integrity.SAVE_EVERY_S = 0.02
folder = Path(sys.argv[1])
integrity.Checking(
    Vault(folder / "vault.db", bytes(32)),
    LocalBlobs(folder / "blobs"),
    throttle=integrity.Throttle(30_000),
    clock=lambda: time.time_ns() // 1_000_000,
    report=lambda _: None,
).run()
"""


def test_a_process_that_was_killed_leaves_a_pass_that_goes_on(here: Institution, tmp_path: Path) -> None:
    records = [here.add_record(bytes(1000)) for _ in range(200)]
    here.flip(min(records, key=lambda one: one.entry_id).root)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)])
    deadline = time.monotonic() + 60
    while (kept := here.vault.integrity.find_pass()) is None or kept.done < 3:
        assert child.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline, "it did not begin"
        time.sleep(0.01)
    child.kill()
    assert child.wait(10) == -signal.SIGKILL

    left = here.vault.integrity.find_pass()
    assert left is not None
    assert (left.finished, left.is_paused) == (None, False)
    assert 3 <= left.done < 200
    figures = here.checking().run()
    assert (figures["done"], figures["wrong"]) == (200, 1)
    assert len(here.vault.integrity.findings()) == 1
    assert here.vault.find_damage() == []


def test_the_rate_is_kept_and_the_time_left_is_told(here: Institution) -> None:
    for _ in range(4):
        here.add_record(bytes(BIG))
    began, rate = here.clock.now, 500_000
    assert here.check(rate=rate) == []
    passed = here.clock.now - began
    assert here.size / passed <= rate
    assert here.size / passed >= 0.99 * rate, "no slower than it may be"
    half = next(one for one in here.reports if one["done"] == 2)
    assert half["bytes_per_s"] == pytest.approx(rate, rel=0.35)
    assert half["left_s"] == pytest.approx(passed / 2, rel=0.35)
    for earlier, later in zip(here.reports, here.reports[1:], strict=False):
        assert int(later["bytes"]) - int(earlier["bytes"]) <= 1_100_000, "told at every segment at least"


def test_what_was_not_read_is_not_caught_up_later() -> None:
    clock = Clock()
    throttle = Throttle(100, clock=clock, wait=clock.wait)
    throttle.took(100, lambda: None)
    assert clock.waited == pytest.approx(1)
    clock.now += 50
    throttle.took(100, lambda: None)
    assert clock.waited == pytest.approx(2)


def test_a_stop_goes_on_by_itself_and_a_cancel_when_asked(here: Institution) -> None:
    for _ in range(5):
        here.add_record()

    def stopped(figures: Mapping[str, int | float | str]) -> None:
        if figures["done"] == 2:
            raise Stopped("the node stops: start again")

    def cancelled(_: Mapping[str, int | float | str]) -> None:
        raise UnavailableError("the job was cancelled: start it again")

    with pytest.raises(Stopped):
        here.checking(told=stopped).run()
    kept = here.vault.integrity.find_pass()
    assert kept is not None
    assert (kept.done, kept.is_paused) == (2, False)

    with pytest.raises(UnavailableError):
        here.checking(told=cancelled).run()
    kept = here.vault.integrity.find_pass()
    assert kept is not None
    assert (kept.finished, kept.is_paused) == (None, True)
    assert here.checking().run()["done"] == 5


def test_a_source_stands_in_the_finding_and_a_blob_brought_back_makes_none(here: Institution) -> None:
    lost, mended = here.add_copy(), here.add_copy()
    content = here.path(mended.root).read_bytes()
    source = Source(institution=institution_id(bytes(32)), grant=case_id(bytes(32)), is_intact=True)

    def locate(held: Held) -> tuple[Source, ...]:
        if held.root == mended.root:
            here.blobs.put(mended.root, content)
        return (source,)

    for one in (lost, mended):
        here.flip(one.root)
    here.checking(locate=locate).run()
    (found,) = here.vault.integrity.findings()
    assert (found.root, found.sources, found.use) == (lost.root, (source,), lost.use_id)


def test_a_vault_with_findings_holds(here: Institution) -> None:
    here.flip(here.add_record().root)
    here.check()
    assert here.vault.find_damage() == []
    assert msgspec.json.encode(here.reports[-1]), "figures are JSON"
    assert SAVE_EVERY_S > 0
