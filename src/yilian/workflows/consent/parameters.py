"""The limits and durations of consent, with their defaults."""

from __future__ import annotations

from yilian.ledger.workflow import ParameterSpec
from yilian.values import DAY, HOUR, MINUTE
from yilian.workflows.consent.model import MAX_ATTESTATIONS, MAX_DEPTH, MAX_LIVING

PARAMETERS = (
    ParameterSpec(name="consent.lapse", number=30 * DAY, least=HOUR, most=365 * DAY),
    ParameterSpec(name="consent.attestations", number=MAX_ATTESTATIONS, least=1, most=MAX_ATTESTATIONS),
    ParameterSpec(name="consent.custodial_purposes", words=("TREAT", "LOCATE"), guarded=True),
    ParameterSpec(name="consent.custodial_period", number=366 * DAY, least=DAY, most=3_660 * DAY, guarded=True),
    ParameterSpec(name="consent.custodial_depth", number=0, most=MAX_DEPTH, guarded=True),
    ParameterSpec(name="consent.depth", number=MAX_DEPTH, most=MAX_DEPTH),
    ParameterSpec(name="consent.children", number=16, least=1, most=MAX_LIVING),
    ParameterSpec(name="consent.living", number=MAX_LIVING, least=1, most=MAX_LIVING),
    ParameterSpec(name="consent.lease", number=10 * MINUTE, least=MINUTE, most=DAY),
    ParameterSpec(name="consent.dispute_window", number=72 * HOUR, least=HOUR, most=30 * DAY),
    ParameterSpec(name="consent.acknowledgement", number=HOUR, least=MINUTE, most=7 * DAY),
    ParameterSpec(name="consent.emergency", number=24 * HOUR, least=HOUR, most=7 * DAY),
    ParameterSpec(name="consent.emergencies_open", number=5, least=0, most=MAX_LIVING),
    ParameterSpec(name="consent.emergency_notice", number=24 * HOUR, least=HOUR, most=30 * DAY),
    ParameterSpec(name="consent.emergency_review", number=7 * DAY, least=DAY, most=90 * DAY),
    ParameterSpec(name="consent.unjustified_memory", number=90 * DAY, least=DAY, most=3_660 * DAY),
)
"""Durations in milliseconds. The custodial caps are wider by the constitution only."""
