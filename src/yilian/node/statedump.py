"""Read a state store in a child process, so that a damaged LMDB can end the child alone.

The child writes records of a kind byte, key length, value length, key and value. It first gives the head, then waits
for what to read. It changes nothing.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import cbor2

from yilian.errors import VerificationError, YilianError
from yilian.storage.lmdb import LmdbState

SILENCE_S = 120.0
"""A child that gives nothing for so long is walking a circle of pages."""
LEAST_ROW_BYTES = 40
"""A key of 32 bytes and LMDB's own 8."""
_FRAME = struct.Struct(">BII")
_CHUNK = 1 << 16


class Part(IntEnum):
    """What a record is."""

    HEAD = 1
    ROW = 2
    TILE = 3
    LEAVES = 4
    ERROR = 5
    END = 6


class DumpError(VerificationError):
    """The store could not be read to its end; says how the child ended."""


class Dump:
    """A child that reads one store; a context manager."""

    def __init__(self, path: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        self._child = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-c", f"from {__name__} import serve; serve()", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._buffer = bytearray()
        try:
            self._most = (path / "data.mdb").stat().st_size // LEAST_ROW_BYTES
        except OSError:
            self._most = 0  # the child says why

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue

    def head(self) -> bytes:
        """Give the stored head; DumpError where the store cannot be read."""
        _, _, head = self._next()
        return head

    def everything(self, height: int, tiles: Sequence[tuple[int, int]]) -> Iterator[tuple[Part, bytes, bytes]]:
        """Give all rows, then the named tiles and the leaves of blocks 1 … `height`; what is absent is empty.

        Args:
            height: last block whose leaves are read.
            tiles: (level, index) of the log's tiles.

        Raises:
            DumpError: the store cannot be read to its end.
        """
        if self._child.stdin is None:
            raise AssertionError("the stream is a pipe")
        try:
            self._child.stdin.write(cbor2.dumps([height, [list(place) for place in tiles]]))
            self._child.stdin.close()
        except OSError as error:
            raise DumpError(self._end()) from error
        rows = 0
        while True:
            part, key, value = self._next()
            if part == Part.END:
                return
            rows += part == Part.ROW
            if rows > self._most:
                raise DumpError(f"the store gives more than {self._most} rows, more than fit: its pages are damaged")
            yield part, key, value

    def _next(self) -> tuple[Part, bytes, bytes]:
        kind, key_size, value_size = _FRAME.unpack(self._take(_FRAME.size))
        key, value = self._take(key_size), self._take(value_size)
        part = Part(kind)
        if part == Part.ERROR:
            raise DumpError(value.decode(errors="replace"))
        return part, key, value

    def _take(self, size: int) -> bytes:
        if self._child.stdout is None:
            raise AssertionError("the stream is a pipe")
        descriptor = self._child.stdout.fileno()
        while len(self._buffer) < size:
            ready, _, _ = select.select([descriptor], [], [], SILENCE_S)
            if not ready:
                raise DumpError(f"reading the store gave nothing for {SILENCE_S:.0f} s: its pages are damaged")
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                raise DumpError(self._end())
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _end(self) -> str:
        code = self._child.wait()
        if code < 0:
            return f"the process that read the store was ended by {signal.Signals(-code).name}: its pages are damaged"
        return f"the process that read the store ended with {code} before the end of the store"


def serve() -> None:
    """Run the child: give the head, read what to give from the standard input, give it."""
    out = sys.stdout.buffer
    try:
        _serve(LmdbState.reading(Path(sys.argv[1])), out)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - whatever a damaged store brings about is to be told, not raised
        text = str(error) if isinstance(error, YilianError) else f"{type(error).__name__}: {error}"
        _give(out, Part.ERROR, b"", text.encode())
    out.flush()


def _serve(state: LmdbState, out: IO[bytes]) -> None:
    _give(out, Part.HEAD, b"", state.head() or b"")
    out.flush()
    height, tiles = cbor2.loads(sys.stdin.buffer.read())
    for key, row in state.scan(b"", None):
        _give(out, Part.ROW, key, row)
    for level, index in tiles:
        _give(out, Part.TILE, cbor2.dumps([level, index]), state.tile(level, index) or b"")
    for number in range(1, height + 1):
        _give(out, Part.LEAVES, number.to_bytes(8), state.leaves(number) or b"")
    _give(out, Part.END, b"", b"")


def _give(out: IO[bytes], part: Part, key: bytes, value: bytes) -> None:
    out.write(_FRAME.pack(part, len(key), len(value)))
    out.write(key)
    out.write(value)
