"""A council for each test."""

from __future__ import annotations

import pytest

from tests.workflows.governance.council import SEVEN, Council
from yilian.testing.consortium import Consortium
from yilian.workflows import governance


@pytest.fixture
def council() -> Council:
    """Give a council of seven members, at noon of its first day."""
    return Council(Consortium.found(SEVEN, workflows=(governance.WORKFLOW,)))
