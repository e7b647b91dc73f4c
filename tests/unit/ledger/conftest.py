"""A small consortium and a machine over a store in memory."""

from __future__ import annotations

import pytest

from bench.world import Ledger, World


@pytest.fixture(scope="session")
def world() -> World:
    return World(10)


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world)
