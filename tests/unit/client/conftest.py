"""A chain on which every kind of receipt was made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.client.proof_stand import Stand
from yilian.ledger.receipt import Kind


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Give the chain; tests only read it."""
    made = Stand(tmp_path_factory.mktemp("stand"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def receipts(stand: Stand) -> dict[Kind, bytes]:
    """Give one receipt of each kind."""
    return stand.receipts()
