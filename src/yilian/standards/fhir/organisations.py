"""Whose encounters are whose: the input's organisations mapped to the consortium's institutions, by a stated rule.

The rule, first hit wins, deterministic and independent of the order of the input:

1. explicit: the operator's table (`identifier.value` → institution), as `[organisations]` of a TOML file, or the
   mapping of an earlier import, so that an organisation never moves.
2. by kind: an organisation of whose encounters at least one in ten is an emergency or a stay counts as a hospital, any
   other as a community centre; within the kind the institution is picked by SHA-256 of the identifier. Where the
   consortium has no institution of that kind, all kinds are taken.

With `explicit_only` rule 2 is off: what the table does not name belongs to none, is listed, its encounters skipped.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

import msgspec

from yilian.errors import SettingsError

HOSPITAL_SHARE = 0.1
STAYS = frozenset({"EMER", "OBSENC", "IMP", "ACUTE", "NONAC", "SS", "PRENC"})


class ProviderKind(StrEnum):
    """What kind of provider an institution is, as far as the mapping cares."""

    HOSPITAL = "hospital"
    COMMUNITY = "community"


class Rule(StrEnum):
    """By which rule an organisation was mapped."""

    EXPLICIT = "explicit"
    BY_KIND = "by kind"
    NONE = "none"


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation of the input; equal across bundles where `identifier` (its identifier.value) is equal."""

    identifier: str
    name: str
    type: str


class Institution(msgspec.Struct, frozen=True, kw_only=True):
    """An institution of the consortium that may take encounters."""

    slug: str
    kind: ProviderKind


class MappedOrganisation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the mapping; `institution` is None where the organisation belongs to none."""

    identifier: str
    name: str
    institution: str | None
    rule: Rule
    encounters: int


class OrganisationMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Which institution takes which organisation's encounters; rows sorted by identifier."""

    rows: tuple[MappedOrganisation, ...]

    def institutions(self) -> dict[str, str]:
        """Give identifier.value → institution slug; give it as `explicit` to the next import to keep it."""
        return {row.identifier: row.institution for row in self.rows if row.institution is not None}

    def lines(self) -> tuple[str, ...]:
        """Say the mapping in lines to print: identifier, name, institution, rule, encounters; no patient."""
        return tuple(
            f"{row.identifier}  {row.name} → {row.institution or '(none: its encounters are skipped)'}"
            f"  [{row.rule}, {row.encounters} encounters]"
            for row in self.rows
        )


class EncounterCounts:
    """Count encounters by organisation and class while bundles pass by; the input of `map_organisations`."""

    def __init__(self) -> None:
        self.organisations: dict[str, Organisation] = {}
        self.classes: dict[str, Counter[str]] = {}

    def add(self, organisations: Iterable[Organisation], encounters: Iterable[tuple[str | None, str]]) -> None:
        """Add a bundle's organisations and its encounters as (provider, class) pairs."""
        for organisation in organisations:
            self.organisations.setdefault(organisation.identifier, organisation)
        for provider, encounter_class in encounters:
            if provider is not None:
                self.organisations.setdefault(provider, Organisation(identifier=provider, name="", type=""))
                self.classes.setdefault(provider, Counter())[encounter_class] += 1


def map_organisations(
    counts: EncounterCounts,
    institutions: Collection[Institution],
    explicit: Mapping[str, str] | None = None,
    *,
    explicit_only: bool = False,
) -> OrganisationMapping:
    """Map every organisation that was counted, by the rule of this module.

    Raises:
        SettingsError: no institution given, or the explicit table names one that is not there.
    """
    explicit = explicit or {}
    slugs = {institution.slug for institution in institutions}
    if not slugs:
        raise SettingsError("no institution takes encounters: name a hospital or a community centre")
    strange = sorted(set(explicit.values()) - slugs)
    if strange:
        raise SettingsError(f"the mapping names {', '.join(strange)}: expected one of {', '.join(sorted(slugs))}")
    rows = []
    for identifier in sorted(counts.organisations):
        classes = counts.classes.get(identifier, Counter())
        institution, rule = explicit.get(identifier), Rule.EXPLICIT
        if institution is None and not explicit_only:
            institution, rule = _by_kind(identifier, classes, institutions), Rule.BY_KIND
        rows.append(
            MappedOrganisation(
                identifier=identifier,
                name=counts.organisations[identifier].name,
                institution=institution,
                rule=Rule.NONE if institution is None else rule,
                encounters=classes.total(),
            )
        )
    return OrganisationMapping(rows=tuple(rows))


def parse_mapping(text: str) -> dict[str, str]:
    """Read an explicit mapping from TOML: a table `[organisations]` of `"identifier.value" = "institution"`.

    Raises:
        SettingsError: no TOML, no such table, or a value that is no text.
    """
    try:
        table = tomllib.loads(text)["organisations"]
        return msgspec.convert(table, dict[str, str])
    except (tomllib.TOMLDecodeError, KeyError, msgspec.ValidationError) as error:
        raise SettingsError(
            f'the mapping has no readable table [organisations] ({error}): write "identifier" = "institution" lines'
        ) from error


def home_of(counts: Mapping[str, int], community: Collection[str]) -> str | None:
    """Give a patient's home: the community institution with the most encounters, else the institution with the most.

    `counts` is encounters by institution. Ties go to the first slug in order. None where there is no encounter.
    """
    seen = {slug: number for slug, number in counts.items() if number > 0}
    near = {slug: number for slug, number in seen.items() if slug in community}
    return min(near or seen, key=lambda slug: (-seen[slug], slug), default=None)


def _by_kind(identifier: str, classes: Counter[str], institutions: Collection[Institution]) -> str:
    stays = sum(number for code, number in classes.items() if code in STAYS)
    hospital = stays > 0 and stays >= HOSPITAL_SHARE * classes.total()
    kind = ProviderKind.HOSPITAL if hospital else ProviderKind.COMMUNITY
    same = [institution.slug for institution in institutions if institution.kind is kind]
    candidates = sorted(same or [institution.slug for institution in institutions])
    draw = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8])
    return candidates[draw % len(candidates)]
