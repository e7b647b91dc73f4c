"""Outside anchoring: authorities stamp the newest checkpoint, so that time is not the word of members alone.

A thread asks them by turn, each hour by default, keeps what holds, and tries again with growing delay where none does.
With `anchoring.max_age` set no new exchange begins while the newest timestamp is older (as X-Road does with
`acceptable-timestamp-failure-period`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import structlog

from yilian.errors import NotFoundError, SettingsError, UnavailableError, YilianError
from yilian.ledger.checkpoint import Note
from yilian.node.compose import Node
from yilian.node.timestamping import load_roots, request_stamp
from yilian.storage.anchors import Anchor

FIRST_DELAY_S, LONGEST_DELAY_S = 5.0, 600.0
"""After a turn in which no authority answered; doubled each time."""
TIMEOUT_S = 20.0
STOP_S = TIMEOUT_S + 5
_LOG = structlog.get_logger("yilian.anchoring")


class Anchoring:
    """The thread that has checkpoints stamped. Without authorities it does nothing.

    Args:
        node: whose checkpoints.
        newest: gives the checkpoint to stamp.

    Raises:
        SettingsError: an authority is named that is no http(s) address, or no roots; `max_age` without authorities.
    """

    def __init__(self, node: Node, newest: Callable[[], Note]) -> None:
        settings = node.settings.anchoring
        self.authorities = settings.authorities
        for url in self.authorities:
            if not url.startswith(("https://", "http://")):
                raise SettingsError(f"anchoring.authorities names {url}, expected http:// or https://: correct it")
        if settings.max_age and not self.authorities:
            raise SettingsError("anchoring.max_age is set without anchoring.authorities: name one, or drop the age")
        self._roots = load_roots(settings.roots) if self.authorities else ()
        self._node = node
        self._newest = newest
        self._turn = 0
        self._asking = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="anchoring", daemon=True)

    def start(self) -> None:
        """Begin, where there are authorities."""
        if self.authorities:
            self._thread.start()

    def stop(self) -> None:
        """End after the request that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def anchor_now(self) -> Anchor:
        """Have the newest checkpoint stamped by the first authority that answers rightly, and keep the token.

        Raises:
            UnavailableError: none of them did, each with its reason; or there are none.
        """
        if not self.authorities:
            raise UnavailableError("no authority is named: set anchoring.authorities and anchoring.roots")
        reasons = []
        with self._asking, httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http:
            note = self._newest()
            text = stamped_text(note.encode())
            for step in range(len(self.authorities)):
                url = self.authorities[(self._turn + step) % len(self.authorities)]
                try:
                    stamp = request_stamp(http, url, text, self._roots, now=self._node.clock())
                except YilianError as error:
                    reasons.append(str(error))
                    _LOG.warning("not anchored", error=type(error).__name__, address=url)
                    continue
                self._turn += step
                anchor = Anchor(
                    height=note.checkpoint.height,
                    time=stamp.time,
                    authority=url,
                    note=note.encode(),
                    response=stamp.response,
                )
                self._node.anchors.add(anchor)
                _LOG.info("anchored", height=anchor.height, address=url)
                return anchor
        self._turn += 1
        raise UnavailableError("no authority stamped the checkpoint: " + "; ".join(reasons))

    def _run(self) -> None:
        delay = FIRST_DELAY_S
        while not self._stopping.wait(self._left_s()):
            try:
                self.anchor_now()
                delay = FIRST_DELAY_S
            except YilianError as error:
                age = age_ms(self._node)
                seconds = -1 if age is None else age // 1000
                _LOG.error("alert", kind="NOT_ANCHORED", error=type(error).__name__, seconds=seconds)
                if self._stopping.wait(delay):
                    return
                delay = min(2 * delay, LONGEST_DELAY_S)
            except Exception as error:  # noqa: BLE001 - the outermost loop of a thread: it must go on
                _LOG.exception("anchoring broke", error=type(error).__name__)
                if self._stopping.wait(LONGEST_DELAY_S):
                    return

    def _left_s(self) -> float:
        age = age_ms(self._node)
        every = self._node.settings.anchoring.every
        return 0.0 if age is None else max(0.0, every - age / 1000)


def age_ms(node: Node) -> int | None:
    """Give the age of the newest timestamp by this machine's clock, None where there is none."""
    newest = node.anchors.newest()
    return None if newest is None else max(0, node.clock() - newest.time)


def status_of(node: Node) -> dict[str, int | None]:
    """Give what the node's status says: the newest timestamp's age in seconds and its height, None without one."""
    age, newest = age_ms(node), node.anchors.newest()
    return {
        "anchor_age_s": None if age is None else age // 1000,
        "anchor_height": None if newest is None else newest.height,
    }


def is_too_old(node: Node) -> str:
    """Say why no new exchange may begin for want of a fresh timestamp; empty where one may."""
    limit = node.settings.anchoring.max_age
    if not limit:
        return ""
    age = age_ms(node)
    if age is not None and age <= limit * 1000:
        return ""
    found = "no timestamp" if age is None else f"the newest timestamp is {age // 1000} s old"
    return f"{found}, expected one of {limit} s at most (anchoring.max_age): see that an authority answers"


def get_anchor(node: Node, height: int) -> Anchor:
    """Give the first timestamp that covers a height; NotFoundError where there is none."""
    found = node.anchors.at(height)
    if found is None:
        raise NotFoundError(f"no timestamp of a checkpoint at height {height} or above: wait for the next one")
    return found


def stamped_text(note: bytes) -> bytes:
    """Give what of a note is stamped: its text, with the line feed of the last line."""
    return note.partition(b"\n\n")[0] + b"\n"
