"""The stream of blocks at a door: it goes on only for who may still ask."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.unit.node.witness_stand import Stand
from yilian.node import ledger_doors
from yilian.node.sequencer_line import LONG_POLL_S
from yilian.values import InstitutionId, institution_id


def _streamed(stand: Stand, peer: InstitutionId, *, stop_after_s: float) -> tuple[list[Any], float]:
    """Give what a peer is sent, and after how many seconds the answer ended; the node stops meanwhile."""
    sequencer, stopping = stand.sequencer(), threading.Event()
    stand.block(sequencer)
    node = cast("Any", SimpleNamespace(engine=sequencer.engine, stopping=stopping))
    answer = cast("ledger_doors.Sender", ledger_doors.answer_get(node, peer, "blocks", b"after=0"))
    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 - of ASGI
        sent.append(message)

    async def receive() -> Any:  # noqa: ANN401 - of ASGI
        return await asyncio.Future()

    async def stream() -> None:
        await answer(receive, send)

    stop = threading.Timer(stop_after_s, stopping.set)
    stop.start()
    begun = time.monotonic()
    asyncio.run(stream())
    stop.cancel()
    return sent, time.monotonic() - begun


def test_a_stream_goes_on_for_a_member_until_the_node_stops(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    sent, lasted = _streamed(stand, stand.party("centre").id, stop_after_s=1.0)
    stand.close()
    assert (len(sent), sent[-1]["more_body"]) == (3, False)
    assert lasted >= 1.0


def test_a_stream_ends_with_the_block_after_which_its_reader_is_no_member(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    sent, lasted = _streamed(stand, institution_id(bytes(32)), stop_after_s=LONG_POLL_S)
    stand.close()
    assert [message.get("more_body") for message in sent] == [None, True, False]
    assert lasted < LONG_POLL_S / 2
