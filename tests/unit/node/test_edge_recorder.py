"""Who was turned away is written down, and a flood of strangers does not fill the disk."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from yilian.node.doors import MOST_A_MINUTE, MOST_PENDING, TLS_NON_MEMBER, EdgeRecorder
from yilian.storage.vault.audit import EdgeRefusal


def test_a_flood_of_strangers_is_counted_and_not_all_written() -> None:
    written: list[EdgeRefusal] = []
    host: Any = SimpleNamespace(
        slug="centre", vault=SimpleNamespace(audit=SimpleNamespace(append_refusal=written.append))
    )
    recorder = EdgeRecorder()
    for _ in range(3 * MOST_A_MINUTE):
        recorder.record(host, TLS_NON_MEMBER, "CERTIFICATE_VERIFY_FAILED")
    recorder.close()
    # a minute may have begun in between
    assert MOST_PENDING <= len(written) <= 2 * MOST_A_MINUTE
    assert len(written) + recorder.dropped == 3 * MOST_A_MINUTE
    assert recorder.dropped
