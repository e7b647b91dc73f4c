"""What a patient's consent says: one base provision and one level of exceptions, in coded form.

Source: IHE PCF 1.1 (Consent Basic, Intermediate, Advanced), without the elements that it forbids.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from yilian.ledger.cases import Part
from yilian.ledger.members import InstitutionKind, Role
from yilian.values import MAX_INT, InstitutionId, Month, UnixMillis, Word, day_from_civil, month_of, unix_millis


class Purpose(StrEnum):
    """Why data is used: codes of HL7 v3 ActReason; LOCATE is ours: may hold the keys that find a patient's entries."""

    TREAT = "TREAT"
    HPAYMT = "HPAYMT"
    HOPERAT = "HOPERAT"
    HRESCH = "HRESCH"
    ETREAT = "ETREAT"
    PUBHLTH = "PUBHLTH"
    LOCATE = "LOCATE"


class Effect(StrEnum):
    """What a provision does to what it matches."""

    PERMIT = "permit"
    DENY = "deny"


class Access(StrEnum):
    """What a recipient may do with a delivery: look once, or keep a copy; a duty, told with every decision."""

    VIEW = "view"
    STORE = "store"


Level = Annotated[int, Meta(ge=1, le=4)]
"""Data level of GB/T 39725-2020 as the ledger shows it; 5 stands only with the data."""
FIRST_MONTH = month_of(day_from_civil(1900, 1, 1))
LAST_MONTH = month_of(day_from_civil(9999, 12, 31))
ALWAYS = (unix_millis(0), unix_millis(MAX_INT))


class Provision(Part, frozen=True, kw_only=True):
    """One rule. An empty list matches everything; a question must meet every field to be matched."""

    effect: Effect
    recipients: Annotated[tuple[InstitutionId, ...], Meta(max_length=16)]
    """Named recipients; they and `recipient_kinds` are alternatives."""
    recipient_kinds: Annotated[tuple[InstitutionKind, ...], Meta(max_length=16)]
    roles: Annotated[tuple[Role, ...], Meta(max_length=16)]
    """Roles of the person who uses; judged at the use."""
    custodians: Annotated[tuple[InstitutionId, ...], Meta(max_length=16)]
    purposes: Annotated[tuple[Purpose, ...], Meta(max_length=7)]
    """A permit names at least one."""
    kinds: Annotated[tuple[Word, ...], Meta(max_length=64)]
    """WS/T 500 class codes of entries."""
    level_from: Level
    level_to: Level
    month_from: Month
    month_to: Month
    """Months of the events, both included."""
    begins: UnixMillis
    ends: UnixMillis
    """When the rule holds, within the period of the policy."""


class Policy(Part, frozen=True, kw_only=True):
    """All that one consent says. An exception beats the base, a deny beats a permit among the exceptions."""

    begins: UnixMillis
    ends: UnixMillis
    maximum: Annotated[int, Meta(ge=1, le=1_000_000)]
    """Deliveries in all: one budget over all grants that rely on the consent."""
    depth: Annotated[int, Meta(ge=0, le=3)]
    """How many times data may be passed on; 0: not at all."""
    access: Access
    erase_by: UnixMillis | None
    """When copies must be gone; None: no such duty."""
    base: Provision
    exceptions: Annotated[tuple[Provision, ...], Meta(max_length=16)]


def provision(
    effect: Effect,
    *purposes: Purpose,
    recipients: tuple[InstitutionId, ...] = (),
    recipient_kinds: tuple[InstitutionKind, ...] = (),
    roles: tuple[Role, ...] = (),
    custodians: tuple[InstitutionId, ...] = (),
    kinds: tuple[str, ...] = (),
    levels: tuple[int, int] = (1, 4),
    months: tuple[Month, Month] = (FIRST_MONTH, LAST_MONTH),
    period: tuple[UnixMillis, UnixMillis] = ALWAYS,
) -> Provision:
    """Write a provision by what it restricts; what is not named matches everything."""
    return Provision(
        effect=effect,
        recipients=recipients,
        recipient_kinds=recipient_kinds,
        roles=roles,
        custodians=custodians,
        purposes=purposes,
        kinds=kinds,
        level_from=levels[0],
        level_to=levels[1],
        month_from=months[0],
        month_to=months[1],
        begins=period[0],
        ends=period[1],
    )


def provisions(policy: Policy) -> tuple[Provision, ...]:
    """List the base and the exceptions; `matched_provision` of a decision is an index in it."""
    return (policy.base, *policy.exceptions)


def permits_of(policy: Policy) -> tuple[Provision, ...]:
    """List the provisions that permit."""
    return tuple(item for item in provisions(policy) if item.effect == Effect.PERMIT)


def level_cap(policy: Policy) -> int:
    """Give the highest level that any provision permits, 0 where none permits."""
    return max((item.level_to for item in permits_of(policy)), default=0)


def fault_of(policy: Policy) -> str:
    """Say what is malformed in a policy, in words; empty where nothing is."""
    if policy.begins >= policy.ends:
        return f"begins {policy.begins} is not before ends {policy.ends}"
    if not permits_of(policy):
        return "no provision permits anything"
    for index, item in enumerate(provisions(policy)):
        if item.effect == Effect.PERMIT and not item.purposes:
            return f"provision {index} permits without a purpose"
        if item.level_from > item.level_to or item.month_from > item.month_to or item.begins > item.ends:
            return f"a range of provision {index} is empty"
    return ""


def is_narrower(new: Policy, old: Policy) -> bool:
    """Say whether `new` permits nothing that `old` does not, field by field (structurally: a sufficient condition).

    The base may shrink or turn into a deny; every permitting exception lies within an old one; no deny is lost.
    """
    return (
        new.begins >= old.begins
        and new.ends <= old.ends
        and new.maximum <= old.maximum
        and new.depth <= old.depth
        and new.access in (old.access, Access.VIEW)
        and (old.erase_by is None or (new.erase_by is not None and new.erase_by <= old.erase_by))
        and _base_is_narrower(new.base, old.base)
        and all(
            any(_lies_within(item, other) for other in old.exceptions if other.effect == Effect.PERMIT)
            for item in new.exceptions
            if item.effect == Effect.PERMIT
        )
        and all(
            any(_lies_within(item, other) for other in new.exceptions if other.effect == Effect.DENY)
            for item in old.exceptions
            if item.effect == Effect.DENY
        )
    )


def _base_is_narrower(new: Provision, old: Provision) -> bool:
    return new.effect == Effect.DENY or (old.effect == Effect.PERMIT and _lies_within(new, old))


def _lies_within(inner: Provision, outer: Provision) -> bool:
    return (
        _recipients_within(inner, outer)
        and _listed_within(inner.roles, outer.roles)
        and _listed_within(inner.custodians, outer.custodians)
        and _listed_within(inner.purposes, outer.purposes)
        and _listed_within(inner.kinds, outer.kinds)
        and outer.level_from <= inner.level_from
        and inner.level_to <= outer.level_to
        and outer.month_from <= inner.month_from
        and inner.month_to <= outer.month_to
        and outer.begins <= inner.begins
        and inner.ends <= outer.ends
    )


def _recipients_within(inner: Provision, outer: Provision) -> bool:
    if not outer.recipients and not outer.recipient_kinds:
        return True
    if not inner.recipients and not inner.recipient_kinds:
        return False
    named = all(item in outer.recipients for item in inner.recipients)
    return named and all(item in outer.recipient_kinds for item in inner.recipient_kinds)


def _listed_within(inner: tuple[object, ...], outer: tuple[object, ...]) -> bool:
    return not outer or (bool(inner) and all(item in outer for item in inner))
