"""Replay gives one `app_hash`, whatever the hash seed, the time zone, the locale or the store."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.world import World
from yilian import canonical
from yilian.errors import VerificationError
from yilian.ledger.block import BlockHeader, parse_block, seal_block, transactions_root
from yilian.ledger.machine import Machine
from yilian.ledger.replay import replay
from yilian.storage.lmdb import LmdbState
from yilian.storage.memory import MemoryState
from yilian.storage.segments import SegmentBlocks
from yilian.values import digest, unix_millis

ROOT = Path(__file__).parent.parent.parent
ENTRIES = 60

REPLAY = """
import sys
from pathlib import Path
from yilian import canonical
from yilian.ledger.block import Genesis
from yilian.ledger.machine import Machine
from yilian.ledger.registry import Registry
from yilian.ledger.replay import replay
from yilian.storage.memory import MemoryState
from yilian.storage.segments import SegmentBlocks
from yilian.workflows import catalog, governance

home = Path(sys.argv[1])
genesis = canonical.decode((home / "genesis.cbor").read_bytes(), Genesis)
machine = Machine(MemoryState(), Registry((governance.WORKFLOW, catalog.WORKFLOW)), genesis)
blocks = SegmentBlocks(home / "segments")
for height in range(1, blocks.last_height() + 1):
    machine.commit(replay(machine, blocks.read(height)))
print(machine.head.app_hash.hex(), machine.head.log_size)
"""


@pytest.fixture(scope="module")
def world() -> World:
    return World(10)


@pytest.fixture(scope="module")
def recorded(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("recorded")
    (home / "genesis.cbor").write_bytes(canonical.encode(world.genesis))
    with (
        closing(LmdbState(home / "state", map_size=1 << 22)) as state,
        closing(SegmentBlocks(home / "segments")) as blocks,
        closing(world.engine(state, blocks)) as engine,
    ):
        futures = [engine.submit(each) for each in world.transactions(0, ENTRIES, each=7)]
        futures += [engine.submit(world.transaction([world.restriction(number)])) for number in range(ENTRIES + 5)]
        for future in futures:
            future.result(60)
        (home / "app_hash").write_text(f"{engine.head().app_hash.hex()} {engine.head().log_size}\n")
    return home


@pytest.mark.parametrize("seed", ["1", "2"])
@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/St_Johns"])
def test_replay_gives_the_recorded_app_hash(recorded: Path, seed: str, zone: str) -> None:
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "TZ": zone,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, str(recorded)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == (recorded / "app_hash").read_text()


def one_block(world: World, machine: Machine, **changes: object) -> bytes:
    """Seal a first block of one publication, with some fields of its header replaced."""
    transactions = (world.transaction([world.publication(1)]),)
    fields: dict[str, object] = {
        "version": 1,
        "chain": machine.chain,
        "height": 1,
        "time": unix_millis(world.start + 1),
        "parent": machine.head.block,
        "transactions_root": transactions_root(transactions),
        "app_hash": machine.head.app_hash,
        "proposer": world.party.id,
        "key_id": world.party.gateway.key_id,
    }
    header = BlockHeader(**{**fields, **changes})  # type: ignore[arg-type]  # tests hand in what is wrong
    return seal_block(header, transactions, world.party.gateway)


OTHER = digest(bytes(32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"chain": OTHER}, "says chain", id="another-chain"),
        pytest.param({"height": 2}, "says height", id="a-gap"),
        pytest.param({"parent": OTHER}, "says parent", id="another-parent"),
        pytest.param({"app_hash": OTHER}, "says app_hash", id="another-state"),
        pytest.param({"time": 1}, "before block", id="time-runs-back"),
        pytest.param({"transactions_root": OTHER}, "holds transactions of root", id="another-root"),
        pytest.param({"proposer": OTHER}, "expected the sequencer", id="another-proposer"),
        pytest.param({"key_id": OTHER}, "not signed by a valid gateway key", id="unknown-key"),
    ],
)
def test_a_wrong_block_is_refused(world: World, changes: dict[str, object], message: str) -> None:
    machine = Machine(MemoryState(), world.registry, world.genesis)
    with pytest.raises(VerificationError, match=message):
        replay(machine, one_block(world, machine, **changes))


def test_a_block_signed_by_another_key_is_refused(world: World) -> None:
    machine = Machine(MemoryState(), world.registry, world.genesis)
    header, block = parse_block(one_block(world, machine))
    other = seal_block(header, block.transactions, world.other.gateway)
    with pytest.raises(VerificationError, match="not signed by a valid gateway key"):
        replay(machine, other)


def test_a_block_of_a_member_that_is_not_the_sequencer_is_refused(world: World) -> None:
    machine = Machine(MemoryState(), world.registry, world.genesis)
    header, block = parse_block(one_block(world, machine, proposer=world.other.id, key_id=world.other.gateway.key_id))
    with pytest.raises(VerificationError, match="expected the sequencer"):
        replay(machine, seal_block(header, block.transactions, world.other.gateway))


def test_a_block_with_a_transaction_that_may_not_enter_is_refused_and_leaves_no_trace(world: World) -> None:
    machine = Machine(MemoryState(), world.registry, world.genesis)
    before = machine.head
    late = (world.transaction([world.publication(1)], valid_until=world.start),)
    header, _ = parse_block(one_block(world, machine))
    changed = BlockHeader(
        **{name: getattr(header, name) for name in header.__struct_fields__}
        | {"transactions_root": transactions_root(late)}
    )
    with pytest.raises(VerificationError, match="EXPIRED"):
        replay(machine, seal_block(changed, late, world.party.gateway))
    machine.commit(replay(machine, one_block(world, machine)))
    assert machine.head.log_size == before.log_size + 1
