"""Reading every sealed blob again, at a bounded rate, and saying which are missing or changed.

A pass goes through own records, received copies, received files and summaries, each in the order of its key. How far it
is and what it found is written together every two seconds, so that it goes on there after a kill; it reports ids only.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

import msgspec
import structlog

from yilian.crypto.blob import root_of_blob
from yilian.errors import NotFoundError, UnavailableError, VerificationError
from yilian.node.jobs import Stopped
from yilian.storage.port import Blobs
from yilian.storage.vault import Vault
from yilian.storage.vault.integrity import KINDS, Finding, Held, Pass, Source, Wrong

JOB = "integrity"
PAGE = 100
SAVE_EVERY_S = 2.0
LONGEST_WAIT_S = 0.25
_LOG = structlog.get_logger("yilian.integrity")

Report = Callable[[Mapping[str, int | float | str]], None]
Locate = Callable[[Held], tuple[Source, ...]]
"""Says where else the bytes of a blob lie; may bring them back first."""


class Throttle:
    """Lets so many bytes a second pass; what was not used is not saved up.

    Args:
        rate: bytes a second.
        clock: seconds, only ever forward.
        wait: waits so many seconds.
    """

    def __init__(
        self, rate: int, *, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self.clock = clock
        self._rate = rate
        self._wait = wait
        self._free_at = clock()

    def took(self, size: int, tick: Callable[[], None]) -> None:
        """Wait until `size` bytes may have been read, and call `tick` on the way."""
        self._free_at = max(self._free_at, self.clock()) + size / self._rate
        tick()
        while (left := self._free_at - self.clock()) > 0:
            self._wait(min(left, LONGEST_WAIT_S))
            tick()


class Checking:
    """One institution's pass, from where the last one stopped.

    Args:
        vault: what must be here, how far the pass is, what it found.
        blobs: where the bytes lie.
        throttle: how fast they are read.
        clock: milliseconds of this machine.
        report: takes figures; what it raises stops the pass, which goes on there the next time.
        locate: asked once for every blob that is wrong; an empty answer is one too.
        name: short name of the institution, for the log.
    """

    def __init__(
        self,
        vault: Vault,
        blobs: Blobs,
        *,
        throttle: Throttle,
        clock: Callable[[], int],
        report: Report,
        locate: Locate = lambda _: (),
        name: str = "",
    ) -> None:
        self._kept = vault.integrity
        self._blobs = blobs
        self._throttle = throttle
        self._report = report
        self._locate = locate
        self._name = name
        self._clock = clock
        found = self._kept.find_pass()
        if found is None or found.finished is not None:
            found = Pass(started=clock(), total=self._kept.count())
        self._pass = msgspec.structs.replace(found, is_paused=False)
        self._begun = throttle.clock()
        self._done_before, self._size_before = found.done, found.size
        self._read = 0
        self._wrong: list[Finding] = []
        self._right: list[bytes] = []
        self._known = {one.root for one in self._kept.findings()}
        self._saved = self._begun

    def run(self) -> Mapping[str, int | float | str]:
        """Go through what is left of the pass, and give its figures.

        Raises:
            UnavailableError: it was cancelled, or the node stops; the next one goes on.
        """
        self._kept.save(self._pass)
        try:
            for kind in KINDS[KINDS.index(self._pass.kind) :]:
                if kind != self._pass.kind:
                    self._pass = msgspec.structs.replace(self._pass, kind=kind, after=b"")
                self._check_kind()
        except UnavailableError as error:
            self._save(is_paused=not isinstance(error, Stopped))
            raise
        self._save()
        self._pass = msgspec.structs.replace(self._pass, finished=self._clock())
        self._kept.finish(self._pass)
        return self.figures()

    def figures(self) -> Mapping[str, int | float | str]:
        """Give how far it is: counts, bytes, bytes a second, and the seconds that are left by what was done so far."""
        passed = max(self._throttle.clock() - self._begun, 1e-9)
        done = self._pass.done - self._done_before
        left = max(0, self._pass.total - self._pass.done)
        return {
            "done": self._pass.done,
            "total": max(self._pass.total, self._pass.done),
            "bytes": self._size_before + self._read,
            "bytes_per_s": round(self._read / passed),
            "left_s": round(left * passed / done) if done else 0,
            "wrong": len(self._known),
        }

    def _check_kind(self) -> None:
        kind = self._pass.kind
        key = self._pass.after
        while True:
            held, last = self._kept.held_after(kind, key, PAGE)
            for one in held:
                self._check(one)
            if last is None:
                return
            key = last

    def _check(self, held: Held) -> None:
        wrong = self._examine(held)
        if wrong is not None and self._kept.is_held(held):
            self._note(held, wrong)
        elif wrong is None and held.root in self._known:
            self._right.append(held.root)
            self._known.discard(held.root)
        self._pass = msgspec.structs.replace(
            self._pass, after=held.key, done=self._pass.done + 1, size=self._size_before + self._read
        )
        if self._throttle.clock() - self._saved >= SAVE_EVERY_S:
            self._save()
        self._tick()

    def _examine(self, held: Held) -> Wrong | None:
        try:
            blob = self._blobs.open(held.root)
        except NotFoundError:
            return Wrong.MISSING
        except UnavailableError:
            return Wrong.UNREADABLE
        with blob:
            try:
                found = root_of_blob(cast("BinaryIO", _Measured(blob, self._took)))
            except VerificationError:
                return Wrong.CHANGED
            except OSError:
                return Wrong.UNREADABLE
        return None if found == held.root else Wrong.CHANGED

    def _note(self, held: Held, wrong: Wrong) -> None:
        sources = self._locate(held)
        if self._examine(held) is None:
            return  # it was brought back
        _LOG.error("alert", kind=f"BLOB_{wrong.name}", institution=self._name, case=(held.entry or held.root).hex())
        self._known.add(held.root)
        self._wrong.append(
            Finding(
                root=held.root,
                kind=held.kind,
                wrong=wrong,
                entry=held.entry,
                use=held.use,
                found=self._clock(),
                checked=self._pass.started,
                sources=sources,
            )
        )

    def _took(self, size: int) -> None:
        self._read += size
        self._throttle.took(size, self._tick)

    def _tick(self) -> None:
        self._report(self.figures())

    def _save(self, *, is_paused: bool = False) -> None:
        self._pass = msgspec.structs.replace(self._pass, is_paused=is_paused)
        self._kept.save(self._pass, wrong=self._wrong, right=self._right)
        self._wrong, self._right = [], []
        self._saved = self._throttle.clock()


class _Measured(io.RawIOBase):
    """A file whose bytes are counted as they are read."""

    def __init__(self, blob: BinaryIO, took: Callable[[int], None]) -> None:
        self._blob = blob
        self._took = took

    def read(self, size: int = -1) -> bytes:
        """Read, and say how much it was."""
        got = self._blob.read(size)
        self._took(len(got))
        return got
