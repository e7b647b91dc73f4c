"""kill −9 while blocks, state, blobs and vault are written: nothing acknowledged is lost, nothing is torn."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from yilian.storage.blobs import LocalBlobs
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks
from yilian.storage.vault import Vault

ROUNDS = 6
SEED = 20260401

# Writes for ever, one line a step that is durable, from the height it was left at.
WRITER = """
import sys
from pathlib import Path
from yilian.ledger.ports import Batch
from yilian.storage.blobs import LocalBlobs
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks
from yilian.storage.vault import Vault

home = Path(sys.argv[1])
state = LmdbState(home / "state", map_size=1 << 18)
height = int(state.head() or b"0")
blocks = SegmentBlocks(home / "blocks", segment_bytes=20_000, committed=height)
blobs = LocalBlobs(home / "blobs")
vault = Vault(home / "vault.db", bytes(32))
blocks.truncate_after(height)
while True:
    height += 1
    mark = b"%d" % height
    blobs.put_many([(height.to_bytes(32), mark * 1000), ((height << 64).to_bytes(32), mark)])
    vault.access.set_cursor("writer", height)
    blocks.append(height, mark * 500)
    rows = {(height * 7919 % 997 * 1000 + part).to_bytes(32): mark for part in range(20)}
    state.write(Batch(height=height, rows=rows, tiles={(0, height // 256): mark}, leaves=mark, head=mark))
    sys.stdout.write(f"{height}\\n")
    sys.stdout.flush()
"""


def kill_a_writer(home: Path, steps: int) -> int:
    """Let a writer take so many steps, kill it at once, and give the last height it acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(steps)]
    process.kill()
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return int([line for line in lines if line.endswith("\n")][-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_nothing_acknowledged_is_lost_and_nothing_is_torn(home: Path, round_number: int) -> None:
    acknowledged = kill_a_writer(home, random.Random(SEED + round_number).randrange(1, 40))

    with closing(LmdbState(home / "state")) as state:
        height = int(state.head() or b"0")
        assert height in {acknowledged, acknowledged + 1}
        assert (state.leaves(height), state.leaves(height + 1)) == (b"%d" % height, None)
        newest = (height * 7919 % 997 * 1000).to_bytes(32)
        rows = list(state.scan(newest, (int.from_bytes(newest) + 20).to_bytes(32)))
        assert [row for _, row in rows] == [b"%d" % height] * 20
    with closing(SegmentBlocks(home / "blocks", committed=height)) as blocks:
        assert blocks.last_height() in {height, height + 1}
        assert [blocks.read(each) for each in range(1, height + 1)] == [
            b"%d" % each * 500 for each in range(1, height + 1)
        ]
    blobs = LocalBlobs(home / "blobs")
    assert [blobs.size(each.to_bytes(32)) for each in range(1, height + 1)] == [
        1000 * len(str(each)) for each in range(1, height + 1)
    ]
    assert Vault.check(home / "vault.db", bytes(32)) == []
    with closing(Vault(home / "vault.db", bytes(32))) as vault:
        assert vault.access.cursor("writer") >= height
