"""The pair of institutions that the tests of the exchange begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.exchange.pair import Pair, found_home


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Give a running pair; the tests of a module share it, each with records of its own."""
    running = Pair(found_home(tmp_path_factory.mktemp("pair"))).start()
    running.register()
    yield running
    running.stop()
