"""Cases, commands, registers: the base types of everything that a workflow keeps or is told.

All are array-like structs whose shape is frozen: another field is a new type. `gc=False` here and in what the kernel
makes of them: frozen values cannot form circles, and tracking them costs a tenth of the time of an operation.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Meta

from yilian.values import CaseId, InstitutionId, Natural, PublicKey, UnixMillis, Word


class Case(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The typed fields of one case: ids, codes, counters, digests, deadlines."""


class Command(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What one step carries; at most 16 kB."""


class Register(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A typed row beside the cases (counters, ballots): same rules, raises no case version.

    A subclass names its `word`, unique within its workflow.
    """

    word: ClassVar[str] = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A typed part of a case, command or register."""


class Patient(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Who speaks for the patient of a case: a fresh case key of the wallet, or the home that holds the paper."""

    key: PublicKey | None
    """Ed25519 public key, HKDF(wallet secret, case id); None where a home speaks."""
    home: InstitutionId | None
    """The institution that signs for a custodial patient; None where a key speaks."""


class Header(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What the kernel keeps of every case."""

    id: CaseId
    version: Natural
    state: Word
    flags: Annotated[tuple[Word, ...], Meta(max_length=16)]
    """Sorted words such as OVERDUE, RESTRICTED; a flag is never a state."""
    opened_height: Natural
    opened_time: UnixMillis
    changed_height: Natural
    changed_time: UnixMillis
    patient: Patient | None


C = TypeVar("C", bound=Case)


class Found(msgspec.Struct, Generic[C], frozen=True, gc=False):
    """A case as it stands: its header and its typed fields."""

    header: Header
    fields: C

    @property
    def state(self) -> str:
        """State of the case."""
        return self.header.state
