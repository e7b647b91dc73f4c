"""The story that the tests of a referral begin with."""

from __future__ import annotations

import pytest

from tests.workflows.referral.referral_story import Story


@pytest.fixture
def story() -> Story:
    """Give a consortium with a consent, a request and two records of the centre."""
    return Story()
