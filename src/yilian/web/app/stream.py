"""Events of the ledger as they become durable: Server-Sent Events, resumed from a height.

Each message is one block with operations: `id` its height, `event` "block", `data` what its operations did. A client
that comes back with `Last-Event-ID` misses nothing. Source: HTML Living Standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
from anyio import to_thread
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from yilian.engine.port import Event
from yilian.errors import SettingsError, UnavailableError
from yilian.web.app.context import Context, Req
from yilian.web.kit.keys import bearer

KEEP_ALIVE_S = 15.0
MOST_STREAMS = 64
"""Streams open at once: each holds a connection and reads every block."""


def stream_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the route of the stream."""
    open_streams: set[object] = set()

    @get("/v1/events", tags=["ledger"], summary="Follow the ledger", media_type="text/event-stream")
    async def events(
        request: Req,
        after: Annotated[
            int | None, QueryParameter(ge=0, description="Height to start behind; 0: from the first")
        ] = None,
        workflow: Annotated[str | None, QueryParameter(max_length=64)] = None,
    ) -> ServerSentEvent:
        """Follow the operations of the chain, from behind `Last-Event-ID`, else behind `after`, else from now on."""
        start = _start(context, request.headers.get("last-event-id"), after)
        if len(open_streams) >= MOST_STREAMS:
            raise UnavailableError(f"{MOST_STREAMS} streams are open, expected fewer: close one, or come back later")
        shown = bearer(request.headers.get("authorization"))
        return ServerSentEvent(_counted(_follow(context, start, workflow, shown), open_streams))

    return [events]


async def _counted(
    messages: AsyncGenerator[ServerSentEventMessage, None], open_streams: set[object]
) -> AsyncGenerator[ServerSentEventMessage, None]:
    name = object()
    open_streams.add(name)
    try:
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield message
    finally:
        open_streams.discard(name)


async def _follow(
    context: Context, height: int, workflow: str | None, shown: bytes
) -> AsyncGenerator[ServerSentEventMessage, None]:
    """Give blocks as they become durable, until the API key that was `shown` opens nothing any more."""
    engine, loop, news = context.node.engine, asyncio.get_running_loop(), asyncio.Event()

    def told_of(_height: int) -> None:
        loop.call_soon_threadsafe(news.set)

    unsubscribe = engine.subscribe(told_of)
    try:
        yield ServerSentEventMessage(data=None, comment="following", retry=2000)
        judged = time.monotonic()
        while True:
            if time.monotonic() - judged >= KEEP_ALIVE_S:
                if await to_thread.run_sync(context.node.identify, shown) is None:
                    return
                judged = time.monotonic()
            news.clear()
            newest = engine.head().height
            while height < newest:
                height += 1
                told = await to_thread.run_sync(_told, context, height, workflow)
                if told is not None:
                    yield ServerSentEventMessage(data=told, event="block", id=height)
            try:
                await asyncio.wait_for(news.wait(), KEEP_ALIVE_S)
            except TimeoutError:
                yield ServerSentEventMessage(data=None, comment="still here")
    finally:
        unsubscribe()


def _told(context: Context, height: int, workflow: str | None) -> str | None:
    chosen = [event for event in context.node.engine.events(height) if workflow in {None, event.workflow}]
    if not chosen:
        return None
    block: dict[str, Any] = {"height": height, "time": chosen[0].time, "events": [_event(one) for one in chosen]}
    return msgspec.json.encode(block).decode()


def _event(event: Event) -> dict[str, Any]:
    return {
        "leaf": event.leaf,
        "workflow": event.workflow,
        "command": event.command,
        "case_id": event.case_id.hex(),
        "actor": event.actor.hex(),
        "op_id": event.op_id.hex(),
        "result": [list(pair) for pair in event.result],
        "cases": [
            {"kind": kind, "case_id": found.header.id.hex(), "state": found.state, "version": found.header.version}
            for kind, found in event.cases
        ],
    }


def _start(context: Context, last_event_id: str | None, after: int | None) -> int:
    if last_event_id is not None:
        if not last_event_id.isdecimal() or len(last_event_id) > 18:
            raise SettingsError(f"Last-Event-ID {last_event_id!r} is no height: leave it out or send the last one")
        return int(last_event_id)
    return context.node.engine.head().height if after is None else after
