"""L2: the engine over HTTP with durable acknowledgement, against the state machine in memory at 100 an envelope.

The real application and server, the raw route, an API key, LMDB state and block segments on disk; the client is another
process with some connections that each wait for their answer before they send the next envelope.
"""

from __future__ import annotations

import hashlib
import http.client
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import cbor2
import uvicorn

from bench import machine
from bench.report import Measurement, judged
from bench.world import World
from yilian.crypto.suite import key_id_of
from yilian.engine.embedded import EmbeddedEngine
from yilian.ledger.members import Role
from yilian.ledger.registry import Registry
from yilian.storage.lmdb import LmdbState
from yilian.storage.segments import SegmentBlocks
from yilian.web.app import Caller, NodeLike, create_app

EACH = 100
WARM_UP = 300
"""Envelopes sent first: they bring the checking process up, as `machine.run` does."""
ENVELOPES = 500
CONNECTIONS = 32
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of a server that lives for seconds
START_S = 30.0
BOUND = 0.5


class Submitting:
    """A node for the raw route alone: the engine, and one caller."""

    def __init__(self, world: World, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.registry: Registry = world.registry
        signer = world.party.person(Role.DATA_OFFICER)
        self._caller = Caller(
            slug="hospital",
            institution=world.party.id,
            key_id=key_id_of(signer.suite, signer.public_key),
            role=Role.DATA_OFFICER,
            label="data-officer",
        )

    def identify(self, token_hash: bytes) -> Caller | None:
        """Know the one caller."""
        return self._caller if token_hash == hashlib.sha256(TOKEN.encode()).digest() else None


def measure() -> Iterator[Measurement]:
    """Give the figure of L2."""
    world = World(machine.TREE_DEPTH)
    reference, _ = machine.run(world, lambda first: world.transactions(first, 20_000, each=EACH), EACH)
    rate = max(over_http(world) for _ in range(2))
    yield judged(
        "L2 over HTTP, durable, 100 an envelope / state machine",
        rate,
        "op/s",
        ratio=rate / reference,
        kind=">=",
        bound=BOUND,
    )


def over_http(world: World) -> float:
    """Measure operations a second from another process, each acknowledged once it is durable."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yilian-bench-")))
        engine = _engine(world, folder, stack)
        file = folder / "envelopes"
        file.write_bytes(pickle.dumps(world.transactions(0, (WARM_UP + ENVELOPES) * EACH, each=EACH)))
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(cast("NodeLike", Submitting(world, engine))),
                port=0,
                http="httptools",
                loop="uvloop",
                log_config=None,
                access_log=False,
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(setattr, server, "should_exit", True)  # noqa: FBT003 - a flag of uvicorn
        port = _port(server)
        command = [sys.executable, "-m", "bench.http", str(port), str(file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
        return float(done.stdout)


def send_all(port: int, envelopes: list[bytes]) -> float:
    """Send envelopes over some connections and give operations a second; every one must be done."""
    waiting = iter(envelopes)
    lock = threading.Lock()
    done = [0] * CONNECTIONS

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"authorization": f"Bearer {TOKEN}"}
        while True:
            with lock:
                envelope = next(waiting, None)
            if envelope is None:
                connection.close()
                return
            connection.request("POST", "/v1/transactions", envelope, headers)
            code, _, answers = cbor2.loads(connection.getresponse().read())
            done[number] += sum(not answer[2] for answer in answers) if not code else 0

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if sum(done) != len(envelopes) * EACH:
        raise AssertionError(f"{sum(done)} of {len(envelopes) * EACH} operations were done: see the answers")
    return sum(done) / seconds


def _engine(world: World, folder: Path, stack: ExitStack) -> EmbeddedEngine:
    state = LmdbState(folder / "state")
    stack.callback(state.close)
    blocks = SegmentBlocks(folder / "segments")
    stack.callback(blocks.close)
    engine = world.engine(state, blocks, second_core=True)
    stack.callback(engine.close)
    return engine


def _port(server: uvicorn.Server) -> int:
    deadline = time.monotonic() + START_S
    while not server.started:
        if time.monotonic() > deadline:
            raise AssertionError("the server did not start")
        time.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


if __name__ == "__main__":
    envelopes_: list[bytes] = pickle.loads(Path(sys.argv[2]).read_bytes())  # noqa: S301 - our own file
    send_all(int(sys.argv[1]), envelopes_[:WARM_UP])
    print(send_all(int(sys.argv[1]), envelopes_[WARM_UP:]))
