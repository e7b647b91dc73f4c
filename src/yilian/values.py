"""The identifiers, units and dates that every part shares; each wire integer is bounded to 64 bits.

A name used as a type of a wire struct carries its bounds; the function of the same name in lower case makes one from
raw bytes or integers and checks it: use it once, at the edge.
Dates inside consensus are whole days at UTC+8, computed here with integers alone (`datetime` is unreachable there).
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta

_Digest = NewType("_Digest", bytes)
_InstitutionId = NewType("_InstitutionId", bytes)
_CaseId = NewType("_CaseId", bytes)
_KeyId = NewType("_KeyId", bytes)
_OpId = NewType("_OpId", bytes)
_PublicKey = NewType("_PublicKey", bytes)
_UnixMillis = NewType("_UnixMillis", int)
_Day = NewType("_Day", int)
_Month = NewType("_Month", int)

_B32 = Meta(min_length=32, max_length=32)
MAX_INT = 2**63 - 1

Digest = Annotated[_Digest, _B32]
"""32 bytes of a hash."""
InstitutionId = Annotated[_InstitutionId, _B32]
"""H("yilian/member/v1" ‖ fingerprint of the first CA)."""
CaseId = Annotated[_CaseId, _B32]
"""Derived, never chosen; an entry, a grant, a use, a referral are all cases."""
EntryId = CaseId
KeyId = Annotated[_KeyId, _B32]
"""H(suite ‖ public key)."""
OpId = Annotated[_OpId, Meta(min_length=16, max_length=16)]
"""16 random bytes of the sender."""
PublicKey = Annotated[_PublicKey, Meta(min_length=32, max_length=65)]
"""Raw public key: 32 bytes (Ed25519, X25519), 65 (uncompressed point)."""
UnixMillis = Annotated[_UnixMillis, Meta(ge=0, le=MAX_INT)]
"""Milliseconds since 1970-01-01T00:00:00Z; on the ledger always block time."""
Day = Annotated[_Day, Meta(ge=-1_000_000, le=1_000_000)]
"""Days since 1970-01-01, of the calendar at UTC+8."""
Month = Annotated[_Month, Meta(ge=0, le=200_000)]
"""year × 12 + month − 1."""
Natural = Annotated[int, Meta(ge=0, le=MAX_INT)]
"""A count or a quantity ≥ 0."""
Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
"""A code of a closed or published list; never free text."""
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""Ed25519 signature."""

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
UTC8 = 8 * HOUR


def digest(raw: bytes) -> Digest:
    """Take 32 bytes as a digest.

    Raises:
        ValueError: another length.
    """
    return _Digest(_sized(raw, 32, "digest"))


def institution_id(raw: bytes) -> InstitutionId:
    """Take 32 bytes as the id of an institution; ValueError for another length."""
    return _InstitutionId(_sized(raw, 32, "institution id"))


def case_id(raw: bytes) -> CaseId:
    """Take 32 bytes as the id of a case; ValueError for another length."""
    return _CaseId(_sized(raw, 32, "case id"))


def key_id(raw: bytes) -> KeyId:
    """Take 32 bytes as the id of a key; ValueError for another length."""
    return _KeyId(_sized(raw, 32, "key id"))


def op_id(raw: bytes) -> OpId:
    """Take 16 bytes as the id of an operation; ValueError for another length."""
    return _OpId(_sized(raw, 16, "operation id"))


def public_key(raw: bytes) -> PublicKey:
    """Take 32 or 65 bytes as a public key; ValueError for another length."""
    if len(raw) not in {32, 65}:
        raise ValueError(f"public key has {len(raw)} bytes, expected 32 or 65")
    return _PublicKey(raw)


def unix_millis(value: int) -> UnixMillis:
    """Take an integer as a time in milliseconds; ValueError where it is negative or over 64 bits."""
    if not 0 <= value <= MAX_INT:
        raise ValueError(f"time {value} is outside 0 … 2⁶³ − 1")
    return _UnixMillis(value)


def day_of(time: UnixMillis) -> Day:
    """Give the calendar day at UTC+8 on which a time falls."""
    return _Day((time + UTC8) // DAY)


def end_of_day(day: Day) -> UnixMillis:
    """Give the last millisecond of a day at UTC+8."""
    return unix_millis((day + 1) * DAY - UTC8 - 1)


def day_from_civil(year: int, month: int, day_of_month: int) -> Day:
    """Give the day number of a date of the Gregorian calendar.

    Raises:
        ValueError: no such date.

    Source: Howard Hinnant, chrono-compatible low-level date algorithms, `days_from_civil`.
    """
    shifted = year - (month <= 2)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day_of_month - 1
    result = _Day(era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468)
    if civil_from_day(result) != (year, month, day_of_month):
        raise ValueError(f"{year:04}-{month:02}-{day_of_month:02} is not a date of the calendar")
    return result


def civil_from_day(day: Day) -> tuple[int, int, int]:
    """Give (year, month, day of the month) of a day number. Source: as `day_from_civil`, `civil_from_days`."""
    shifted = day + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + (3 if shifted_month < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted_month + 2) // 5 + 1


def month_of(day: Day) -> Month:
    """Give the month in which a day falls."""
    year, month, _ = civil_from_day(day)
    return _Month(year * 12 + month - 1)


def _sized(raw: bytes, size: int, what: str) -> bytes:
    if len(raw) != size:
        raise ValueError(f"{what} has {len(raw)} bytes, expected {size}")
    return bytes(raw)
