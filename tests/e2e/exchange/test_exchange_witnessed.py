"""A custodian releases only on blocks that the witnesses of the policy have cosigned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.exchange.pair import WAIT_S, Pair, found_home
from yilian.ledger.checkpoint import SignatureKind
from yilian.ledger.trust import believe
from yilian.node.checkpoints import open_checkpoints
from yilian.workflows.consent.model import Use, UseState
from yilian.workflows.consent.receiving import Fetched


@pytest.fixture
def witnessed(tmp_path: Path) -> Iterator[Pair]:
    """Give a pair whose policy asks for two witnesses, none of which works yet."""
    pair = Pair(found_home(tmp_path, governance__witnesses=2))
    pair.node.checkpoints = open_checkpoints(pair.node)
    pair.start()
    pair.register()
    yield pair
    pair.node.checkpoints.stop()
    pair.stop()


def test_a_reservation_waits_until_its_block_is_cosigned(witnessed: Pair) -> None:
    (entry,) = witnessed.publish(b'{"resourceType":"Bundle"}')
    grant = witnessed.grant((entry,))
    fetched: list[Fetched] = []
    fetching = threading.Thread(target=lambda: fetched.append(witnessed.fetch(grant)))
    fetching.start()
    # the reservation is the next block; nothing but the custodian's own delivery could follow it
    reserved = witnessed.node.engine.head().height + 1
    assert witnessed.node.engine.wait_height(reserved, WAIT_S) == reserved
    assert witnessed.node.engine.wait_height(reserved + 1, 1.0) == reserved
    states = {use.state for use in _uses(witnessed, reserved)}
    witnessed.node.checkpoints.start()
    fetching.join(WAIT_S)

    assert states == {UseState.RESERVED}
    assert [one.state for one in fetched] == ["confirmed"]
    note = witnessed.node.checkpoints.newest()
    believed = believe(note, witnessed.node.checkpoints.signers.trust(), executed=True)
    assert note.checkpoint.height >= reserved
    assert [one.kind for one in believed.cosigners] == [SignatureKind.EXECUTED] * 2


def _uses(pair: Pair, height: int) -> list[Use]:
    found = [case for event in pair.node.engine.events(height) for kind, case in event.cases if kind == "use"]
    return [pair.use(one.header.id) for one in found]  # type: ignore[misc]  # headers with their fields
