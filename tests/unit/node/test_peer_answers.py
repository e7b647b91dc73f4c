"""Answers of other doors: no longer than was asked for, and whole within their time."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from yilian.errors import UnavailableError, VerificationError
from yilian.node.peer_client import SLOWEST, read_body


class _Pieces(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from (b"a", b"b", b"c")


def test_an_answer_is_read_as_a_whole() -> None:
    assert read_body(httpx.Response(200, stream=_Pieces()), 3) == b"abc"


def test_an_answer_that_is_too_long_is_refused() -> None:
    with pytest.raises(VerificationError, match="more than 2 bytes"):
        read_body(httpx.Response(200, stream=_Pieces()), 2)


def test_an_answer_that_trickles_is_given_up_though_each_piece_comes_in_time() -> None:
    with pytest.raises(UnavailableError, match="trickles, 1 bytes came"):
        read_body(httpx.Response(200, stream=_Pieces()), SLOWEST - 1, within_s=-1.0)
