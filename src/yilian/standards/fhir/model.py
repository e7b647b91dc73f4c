"""The few elements of FHIR R4 that we look at; all else stays unread bytes.

Every struct is lenient (unknown elements are skipped), holds no free text but names, and never an enumeration:
so a decoding error names types and element paths, and never what a patient's file says.

Source: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

import msgspec

from yilian.values import Day, UnixMillis, day_from_civil, day_of, unix_millis

NOTHING = msgspec.Raw()

_BEIJING = timezone(timedelta(hours=8))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH_OF_YEAR, _LENGTH_OF_MONTH, _LENGTH_OF_DATE = 4, 7, 10


class Element(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A FHIR element: camelCase names, unknown elements skipped."""


class Coding(Element, frozen=True, kw_only=True):
    """A code of a code system."""

    system: str | None = None
    code: str | None = None


class CodeableConcept(Element, frozen=True, kw_only=True):
    """Codings of one meaning; its text is not read."""

    coding: tuple[Coding, ...] = ()


class Identifier(Element, frozen=True, kw_only=True):
    """A business identifier; `system` and `value` together are unique."""

    system: str | None = None
    value: str | None = None
    type: CodeableConcept | None = None


class Reference(Element, frozen=True, kw_only=True):
    """A literal reference, or a logical one by identifier."""

    reference: str | None = None
    identifier: Identifier | None = None


class Period(Element, frozen=True, kw_only=True):
    """FHIR dateTimes as written."""

    start: str | None = None
    end: str | None = None


class Meta(Element, frozen=True, kw_only=True):
    """Only the security labels."""

    security: tuple[Coding, ...] = ()


class HumanName(Element, frozen=True, kw_only=True):
    """A name as registered."""

    text: str | None = None
    family: str | None = None
    given: tuple[str, ...] = ()


class ContactPoint(Element, frozen=True, kw_only=True):
    """A phone number or the like."""

    system: str | None = None
    value: str | None = None


class Address(Element, frozen=True, kw_only=True):
    """A postal address."""

    text: str | None = None
    line: tuple[str, ...] = ()
    city: str | None = None
    district: str | None = None
    state: str | None = None


class PatientElements(Element, frozen=True, kw_only=True):
    """What a registration needs of a Patient."""

    id: str | None = None
    identifier: tuple[Identifier, ...] = ()
    name: tuple[HumanName, ...] = ()
    telecom: tuple[ContactPoint, ...] = ()
    address: tuple[Address, ...] = ()
    gender: str | None = None
    birth_date: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None


class OrganizationElements(Element, frozen=True, kw_only=True):
    """What the mapping of organisations needs of an Organization."""

    id: str | None = None
    identifier: tuple[Identifier, ...] = ()
    name: str | None = None
    type: tuple[CodeableConcept, ...] = ()


class EncounterElements(Element, frozen=True, kw_only=True):
    """What the catalogue needs of an Encounter."""

    id: str | None = None
    identifier: tuple[Identifier, ...] = ()
    class_: Coding | None = msgspec.field(default=None, name="class")
    period: Period | None = None
    service_provider: Reference | None = None
    reason_code: tuple[CodeableConcept, ...] = ()


class Instant(NamedTuple):
    """A FHIR date or dateTime: the first moment that it may mean, and its calendar day at UTC+8."""

    time: UnixMillis | int
    day: Day


def parse_instant(text: str) -> Instant:
    """Read a FHIR date or dateTime; a partial date means its first day, a dateTime without zone is taken at UTC+8.

    `time` is in milliseconds since 1970 and negative before.

    Raises:
        ValueError: not a date of FHIR R4. The message does not repeat the text.

    Source: FHIR R4 section 2.24.0.1, date and dateTime.
    """
    try:
        if len(text) <= _LENGTH_OF_DATE:
            return _from_date(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("not a FHIR date or dateTime: write YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_BEIJING)
    time = (moment - _EPOCH) // timedelta(milliseconds=1)
    if time >= 0:
        return Instant(time, day_of(unix_millis(time)))
    there = (moment + timedelta(hours=8)).astimezone(UTC)
    return Instant(time, day_from_civil(there.year, there.month, there.day))


def _from_date(text: str) -> Instant:
    if len(text) not in {_LENGTH_OF_YEAR, _LENGTH_OF_MONTH, _LENGTH_OF_DATE}:
        raise ValueError("length")
    parts = [int(part) for part in text.split("-")]
    year, month, day_of_month = (*parts, 1, 1)[:3]
    day = day_from_civil(year, month, day_of_month)
    return Instant(day * 86_400_000 - 8 * 3_600_000, day)
