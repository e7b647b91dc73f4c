"""kill −9 of the engine under load, at random moments and inside a commit: nothing acknowledged is lost or torn."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.world import World
from yilian import canonical
from yilian.node.check import check_ledger
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks

ROOT = Path(__file__).parent.parent.parent
SEED = 20260402
ACKNOWLEDGED = 100
KILL_POINTS = ("random", "before the block", "after the block", "after the state")

# Submits for ever with 64 operations in flight, and prints "number leaf" for each one that is acknowledged.
# At a kill point other than "random" it kills itself inside the commit of the block that comes after `blocks` blocks.
SUBMITTER = """
import os, signal, sys, threading
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from bench.world import World
from yilian import canonical
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger.block import Genesis
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks

home, number, point, acknowledged = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
printed = 0

def die_at(here):
    if here == point and printed >= acknowledged:
        os.kill(os.getpid(), signal.SIGKILL)

class Blocks(SegmentBlocks):
    def append(self, height, block):
        die_at("before the block")
        super().append(height, block)
        die_at("after the block")

class State(LmdbState):
    def write(self, batch):
        super().write(batch)
        die_at("after the state")

world = World(10, canonical.decode((home / "genesis.cbor").read_bytes(), Genesis))
state = State(home / "state", map_size=1 << 20)
blocks = Blocks(home / "segments", segment_bytes=200_000)
engine = world.engine(state, blocks)
room = threading.Semaphore(64)

def submit(number):
    def answered(future):
        global printed
        (answer,) = future.result().answers
        assert answer.ok, answer
        printed += 1
        sys.stdout.write(f"{number} {answer.leaf}\\n")
        sys.stdout.flush()
        room.release()
    engine.submit(world.transaction([world.publication(number)])).add_done_callback(answered)

while True:
    room.acquire()
    submit(number)
    number += 1
"""


def kill_a_submitter(home: Path, first: int, point: str, extra: int) -> dict[int, int]:
    """Let an engine acknowledge at least 100 operations, kill it, and give what it acknowledged: number → leaf."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(ROOT), str(home), str(first), point, str(ACKNOWLEDGED + extra)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    if point == "random":
        lines = [process.stdout.readline() for _ in range(ACKNOWLEDGED + extra)]
        process.kill()
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {int(number): int(leaf) for number, leaf in whole}


def test_no_acknowledged_operation_is_lost_and_the_chain_goes_on(tmp_path: Path, kill_rounds: int) -> None:
    world = World(10)
    (tmp_path / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
    chance = random.Random(SEED)
    first = 0
    for round_number in range(kill_rounds):
        point = KILL_POINTS[round_number % len(KILL_POINTS)]
        acknowledged = kill_a_submitter(tmp_path, first, point, chance.randrange(100))
        assert len(acknowledged) >= ACKNOWLEDGED
        first = resumed(tmp_path, world, acknowledged, first)
    assert list(check_ledger(tmp_path, world.registry, read_genesis=lambda _: world.genesis)) == []


def resumed(home: Path, world: World, acknowledged: dict[int, int], first: int) -> int:
    """Open what a killed engine left, look for everything acknowledged, and give the first number not on the ledger."""
    with (
        closing(LmdbState(home / "state", map_size=1 << 20)) as state,
        closing(SegmentBlocks(home / "segments", segment_bytes=200_000)) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        head = engine.head()
        assert head.height == blocks.last_height()
        assert engine.block(head.height)[0].digest == head.block
        # operations were submitted in order, one leaf each: the leaves are the numbers
        assert acknowledged == {number: number for number in acknowledged}
        lost = [number for number in range(first, head.log_size) if engine.find_case(world.publish(number)[0]) is None]
        assert lost == []
        assert max(acknowledged) < head.log_size
        assert engine.find_case(world.publish(head.log_size)[0]) is None
        return head.log_size


@pytest.mark.parametrize("point", KILL_POINTS[1:])
def test_a_kill_point_stops_the_engine_inside_the_commit(tmp_path: Path, point: str) -> None:
    world = World(10)
    (tmp_path / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
    acknowledged = kill_a_submitter(tmp_path, 0, point, 0)
    with closing(SegmentBlocks(tmp_path / "segments", segment_bytes=200_000)) as blocks:
        kept = blocks.last_height()
    after = resumed(tmp_path, world, acknowledged, 0)
    assert kept > 0
    assert (after > len(acknowledged)) is (point != "before the block")
