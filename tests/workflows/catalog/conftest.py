"""A consortium with a catalogue, and a record's description that a test may vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from yilian.ledger.members import InstitutionKind
from yilian.testing.consortium import Consortium, Party
from yilian.values import CaseId, digest
from yilian.workflows import catalog, governance
from yilian.workflows.catalog.model import Origin, Publish

MONTH = 2026 * 12 + 4
Describer = Callable[..., dict[str, Any]]
Publisher = Callable[..., CaseId]


@pytest.fixture
def consortium() -> Consortium:
    """Give a centre, a hospital, a regulator, and an audit body that the centre's machine hosts."""
    return Consortium.found(
        {
            "centre": InstitutionKind.COMMUNITY_CENTRE,
            "hospital": InstitutionKind.HOSPITAL,
            "regulator": InstitutionKind.REGULATOR,
            "bureau": InstitutionKind.AUDIT_BODY,
        },
        operators={"bureau": "centre"},
        parameters={"catalog.challenges_a_day": 3},
        workflows=(governance.WORKFLOW, catalog.WORKFLOW),
    )


@pytest.fixture
def describe(consortium: Consortium) -> Describer:
    """Give a function that describes a record under a fresh tag."""

    def described(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a command
        drawn = {name: digest(consortium.draw()) for name in ("tag", "root", "commitment")}
        plain = {"size_class": 12, "kind": "C0007", "level": 3, "month": MONTH, "origin": Origin.SYSTEM, "late": False}
        return {**drawn, **plain, **fields}

    return described


@pytest.fixture
def publish(consortium: Consortium, describe: Describer) -> Publisher:
    """Give a function that publishes an entry of a party and names it."""

    def published(party: Party, **fields: Any) -> CaseId:  # noqa: ANN401 - fields of a command
        answer = consortium.act(party, Publish(**describe(**fields)))
        assert answer.ok, answer.message
        return answer.case_id

    return published
