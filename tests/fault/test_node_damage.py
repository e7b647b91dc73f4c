"""A home that is damaged, full or read-only: the node does not start on it, and says what to do; or it mends itself."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.fault.stand import contents
from tests.fault.test_node_kill import ENVIRONMENT, proposal
from yilian.errors import UnavailableError, VerificationError
from yilian.node.check import Counts, Finding
from yilian.node.checking import check_all
from yilian.node.compose import Node, open_node, read_ledger
from yilian.node.home import Home
from yilian.node.projections import Projector
from yilian.storage.rows import CaseQuery
from yilian.storage.segments import SegmentBlocks
from yilian.testing.served import SETTINGS, serve

CONSENTS = 5
PAGE = 4096


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    with serve(folder) as served:
        with served.client("centre-data-officer") as client:
            time = client.get("/v1/ledger")["time"]
            for _ in range(CONSENTS):
                client.act("consent", "consent.propose", proposal(time))
        served.wait_projected()
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Home:
    shutil.copytree(original, tmp_path / "copy")
    return Home(tmp_path / "copy" / "home")


def findings(home: Home) -> list[Finding]:
    return list(check_all(home, SETTINGS, Counts(), lambda *_: None))


def height(home: Home) -> int:
    with read_ledger(home) as ledger:
        return ledger.head.height


def goes_on(home: Home, *, expected: int) -> None:
    """Open a home, at the height that it should have."""
    with closing(open_node(home, SETTINGS)) as node:
        assert node.engine.head().height == expected
    assert findings(home) == []


def last_segment(home: Home) -> Path:
    return max(home.segments.glob("*.seg"))


def last_record(home: Home) -> int:
    """Give the length of the last block's record."""
    with closing(SegmentBlocks(home.segments)) as blocks:
        return 16 + len(blocks.read(blocks.last_height()))


# ----------------------------------------------------------------------------------------------------- blocks and state


@pytest.mark.parametrize("missing", [1, 17, 200])
def test_a_truncated_segment_whose_blocks_the_state_has_is_refused_by_name(home: Home, missing: int) -> None:
    segment = last_segment(home)
    os.truncate(segment, segment.stat().st_size - missing)
    with pytest.raises(VerificationError, match=rf"{segment.name}.*fetch the blocks from another holder"):
        open_node(home, SETTINGS)
    assert any(each.area == "blocks" and segment.name in each.place for each in findings(home))


def test_a_state_ahead_of_the_segments_is_refused_with_both_heights(home: Home) -> None:
    before, segment = height(home), last_segment(home)
    os.truncate(segment, segment.stat().st_size - last_record(home))
    with pytest.raises(VerificationError, match=rf"ends at block {before - 1}, the state is at {before}"):
        open_node(home, SETTINGS)
    (found,) = [each for each in findings(home) if each.area == "blocks"]
    assert (str(before - 1) in found.found, str(before) in found.found) == (True, True)


@pytest.mark.parametrize("length", [1, 15, 16, 60])
def test_a_torn_last_block_that_nobody_was_told_of_is_dropped(home: Home, length: int) -> None:
    before, segment = height(home), last_segment(home)
    whole = segment.read_bytes()
    segment.write_bytes(whole + (120).to_bytes(4) + b"crc?" + (before + 1).to_bytes(8) + b"torn"[: length - 16] * 20)
    os.truncate(segment, len(whole) + length)
    assert findings(home) == []
    goes_on(home, expected=before)
    assert segment.read_bytes() == whole


def test_a_state_behind_the_segments_executes_them_again(home: Home) -> None:
    before = height(home)
    shutil.rmtree(home.state)
    goes_on(home, expected=before)


OPEN = """
import sys
from pathlib import Path
from yilian.node.compose import open_node
from yilian.node.home import Home
from yilian.testing.served import SETTINGS
from yilian.errors import YilianError
try:
    open_node(Home(Path(sys.argv[1])), SETTINGS).close()
except YilianError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def flip_bytes(content: bytearray, page: int) -> None:
    for at in range(page * PAGE + 16, (page + 1) * PAGE):
        content[at] ^= 0xFF


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_a_damaged_page_of_the_state_is_never_served_from(home: Home, share: float) -> None:
    data = home.state / "data.mdb"
    whole, before = data.read_bytes(), height(home)
    content = bytearray(whole)
    flip_bytes(content, 2 + int((len(whole) // PAGE - 2) * share))
    data.write_bytes(content)
    # LMDB knows no checksums: a page that does not hold may end who reads it
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(home.path)], capture_output=True, text=True, check=False, timeout=60
    )
    found = {each.area for each in findings(home)}
    if done.returncode == 0:
        # what a start does not read: an older page, which harms nothing, or the log's, which the check names
        assert found <= {"log", "state"}
    else:
        assert done.returncode < 0 or "VerificationError" in done.stderr, done
        assert found & {"log", "state"}
    shutil.rmtree(home.state)
    goes_on(home, expected=before)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_changed_row_of_the_state_is_refused_at_the_start(home: Home, share: float) -> None:
    with read_ledger(home) as ledger:
        consents = [case.case_id for case in ledger.index.find_cases(CaseQuery(kind="consent")).items]
    data = home.state / "data.mdb"
    content = bytearray(data.read_bytes())
    wanted = b"case/" + consents[int(share * (len(consents) - 1))]
    at = content.find(wanted)
    while at != -1:
        content[at + len(wanted) + 4] ^= 1
        at = content.find(wanted, at + 1)
    data.write_bytes(content)
    with pytest.raises(VerificationError, match=r"state store has root .* run `yilian node check`"):
        open_node(home, SETTINGS)
    assert "state" in {each.area for each in findings(home)}


# --------------------------------------------------------------------------------------------------------- read model


def projected(home: Home) -> list[object]:
    """Open a home, let its read model catch up, and give what it says."""
    with closing(open_node(home, SETTINGS)) as node:
        return caught_up(node)


def caught_up(node: Node) -> list[object]:
    Projector(node).catch_up()
    return contents(node.index)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no database " * 1000),
        lambda file: os.truncate(file, 5000),
    ],
    ids=["deleted", "emptied", "overwritten", "cut"],
)
def test_a_read_model_that_is_gone_or_wrecked_is_built_again(home: Home, change: Callable[[Path], None]) -> None:
    before = projected(home)
    assert len(before[2]) == CONSENTS
    change(home.index_file)
    assert projected(home) == before


# ------------------------------------------------------------------------------------------------------------- the disk

FULL = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.argv = ["yilian", "node", "start", "--home", sys.argv[1]]
runpy.run_module("yilian.cli.main", run_name="__main__")
"""
READ_ONLY = """
import ctypes, os, runpy, sys
if os.geteuid() == 0:
    # root reads and writes whatever the mode says: give up CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER
    kept = (1 << 41) - 1 & ~0b1110
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    libc = ctypes.CDLL(None, use_errno=True)
    got = (ctypes.c_uint32 * 6)()
    libc.capget(header, got)
    got[0] &= low
    got[3] &= high
    if libc.capset(header, got):
        raise OSError(ctypes.get_errno(), "capset")
sys.argv = ["yilian", "node", "start", "--home", sys.argv[1]]
runpy.run_module("yilian.cli.main", run_name="__main__")
"""


def start_in_vain(home: Home, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(home.path)],
        env=ENVIRONMENT | {"YILIAN_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_disk_that_is_full_at_the_start_is_told_and_harms_nothing(home: Home) -> None:
    before = height(home)
    done = start_in_vain(home, FULL)
    assert (done.returncode, "Traceback" in done.stderr) == (UnavailableError.exit_code, False), done.stderr
    assert "free space or repair" in done.stderr
    goes_on(home, expected=before)


def test_a_home_that_cannot_be_written_is_told_and_unharmed(home: Home) -> None:
    before = height(home)
    modes = {path: path.stat().st_mode for path in [home.path, *home.path.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        done = start_in_vain(home, READ_ONLY)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert (done.returncode, "Traceback" in done.stderr) == (UnavailableError.exit_code, False), done.stderr
    assert "Permission denied" in done.stderr
    goes_on(home, expected=before)
