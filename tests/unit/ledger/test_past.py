"""The state some blocks ago: proofs and rows as they were made then, so long as there is room."""

from __future__ import annotations

from bench.world import Ledger
from yilian.crypto.suite import sha256
from yilian.ledger.past import MAX_BLOCKS, MAX_BUCKETS, Overwritten, Past
from yilian.ledger.results import Head
from yilian.ledger.state import case_key, key_hash
from yilian.ledger.tree import verify_state
from yilian.values import digest, unix_millis


def test_an_older_state_proves_what_it_proved_when_it_was_new(ledger: Ledger) -> None:
    world, machine = ledger.world, ledger.machine
    keys = [key_hash(case_key(world.publish(number)[0])) for number in range(1, 40)]
    seen = []
    for number in range(1, 30):
        if number % 3:
            ledger.block(world.transaction([world.publication(number)]))
        else:
            ledger.block(world.transaction([world.restriction(number - 1), world.publication(number)]))
        view = machine.view(number)
        assert view is not None
        seen.append((view.head, [(view.row(key), view.prove(key)) for key in keys]))
    again = []
    for height in range(1, 30):
        older = machine.view(height)
        assert older is not None
        again.append((older.head, [(older.row(key), older.prove(key)) for key in keys]))
    assert again == seen
    assert len({row for _, shown in seen for row, _ in shown[1:2]}) == 3
    for head, shown in again:
        for key, (row, proof) in zip(keys, shown, strict=True):
            assert verify_state(proof, key, None if row is None else sha256(row), head.state_root)


def test_a_state_that_was_never_kept_or_is_to_come_is_not_given(ledger: Ledger) -> None:
    assert ledger.machine.view(1) is None
    assert ledger.machine.view(0) is not None


def test_the_oldest_blocks_go_where_there_is_no_room() -> None:
    past = Past()
    for height in range(4):
        past.add(overwritten(height, MAX_BUCKETS // 2))
    assert [past.since(height) is None for height in range(5)] == [True, True, False, False, True]
    past.add(overwritten(4, MAX_BUCKETS + 1))
    assert past.since(3) is None
    assert past.since(4) is not None


def test_blocks_that_overwrite_nothing_do_not_pile_up() -> None:
    past = Past()
    for height in range(MAX_BLOCKS + 1):
        past.add(overwritten(height, 0))
    assert past.since(0) is None
    assert past.since(1) is not None


def overwritten(height: int, buckets: int) -> Overwritten:
    before = Head(
        height=height,
        time=unix_millis(height),
        block=digest(bytes(32)),
        app_hash=digest(bytes(32)),
        log_size=0,
        log_root=digest(bytes(32)),
        state_root=digest(bytes(32)),
        parameters_root=digest(bytes(32)),
    )
    return Overwritten(before=before, nodes=dict.fromkeys(range(buckets), bytes(32)), buckets={}, rows={})
