"""The story that the tests of consent begin with."""

from __future__ import annotations

import pytest

from tests.workflows.consent.consent_story import Story


@pytest.fixture
def story() -> Story:
    """Give a consortium in which nothing happened yet."""
    return Story()
