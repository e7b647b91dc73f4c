"""Which organisations a bundle names, and how many encounters each has: all that the mapping of an import needs.

A fraction of the work of splitting a bundle, and by the same rules; a test holds both against each other.
"""

from __future__ import annotations

import msgspec

from yilian.standards.fhir.model import Coding, Element, OrganizationElements, Reference
from yilian.standards.fhir.organisations import Organisation
from yilian.standards.fhir.reading import ReceivedBundle
from yilian.standards.fhir.splitting import UNKNOWN_CLASS

Provided = tuple[str | None, str]
"""An encounter's provider (identifier.value of the organisation) and class."""


class _Resource(Element, frozen=True, kw_only=True):
    resource_type: str = ""
    id: str | None = None
    class_: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="class")
    service_provider: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="serviceProvider")


class _Entry(Element, frozen=True, kw_only=True):
    full_url: str | None = None
    resource: _Resource = _Resource()


class _Organization(msgspec.Struct):
    resource: OrganizationElements


_ENTRY = msgspec.json.Decoder(_Entry)
_ORGANIZATION = msgspec.json.Decoder(_Organization)
_REFERENCE = msgspec.json.Decoder(Reference)
_CODING = msgspec.json.Decoder(Coding)


def providers_of(bundle: ReceivedBundle) -> tuple[list[Organisation], list[Provided]]:
    """Give the organisations of a bundle and its encounters as (provider, class); nothing of a bundle that breaks."""
    places: dict[str, Organisation] = {}
    found: list[Organisation] = []
    encounters: list[_Resource] = []
    try:
        for raw in bundle.entries:
            entry = _ENTRY.decode(raw)
            kind = entry.resource.resource_type
            if kind == "Encounter":
                encounters.append(entry.resource)
            elif kind == "Organization":
                organisation = _organisation(raw, entry)
                found.append(organisation)
                places |= dict.fromkeys(_names(entry), organisation)
        return found, [(_provider(one, places), _class(one)) for one in encounters]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [], []


def _names(entry: _Entry) -> list[str]:
    names = [f"Organization/{entry.resource.id}"] if entry.resource.id is not None else []
    return [*names, entry.full_url] if entry.full_url is not None else names


def _organisation(raw: msgspec.Raw, entry: _Entry) -> Organisation:
    elements = _ORGANIZATION.decode(raw).resource
    value = next((item.value for item in elements.identifier if item.value), None)
    kinds = [coding.code for concept in elements.type for coding in concept.coding if coding.code]
    return Organisation(
        identifier=value or elements.id or entry.full_url or "",
        name=elements.name or "",
        type=kinds[0] if kinds else "",
    )


def _provider(encounter: _Resource, places: dict[str, Organisation]) -> str | None:
    if not encounter.service_provider:
        return None
    reference = _REFERENCE.decode(encounter.service_provider)
    named = reference.reference or ""
    place = places.get(named) or places.get("/".join(named.partition("/_history/")[0].split("/")[-2:]))
    if place is not None:
        return place.identifier
    if reference.identifier is not None and reference.identifier.value:
        return reference.identifier.value
    asked, question, search = named.partition("?identifier=")
    if question and asked == "Organization":
        return search.rpartition("|")[2] or None
    return None


def _class(encounter: _Resource) -> str:
    coding = _CODING.decode(encounter.class_) if encounter.class_ else None
    return (coding and coding.code) or UNKNOWN_CLASS
