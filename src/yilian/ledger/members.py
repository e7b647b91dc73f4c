"""Who is who: members, keys, parameters and the constitution, in the types by which the kernel judges.

Only the `governance` workflow writes them. Members and keys are cases whose id is the institution's id or the key's id;
parameters and the constitution are one register row each. The kernel reads all of them as of the last committed block,
so that a change takes effect from the next block.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta

from yilian.ledger.cases import Case, Part, Register
from yilian.values import Digest, InstitutionId, Natural, PublicKey, UnixMillis, Word

DisplayName = Annotated[str, Meta(min_length=1, max_length=80)]
"""Public name of an institution: with proposal texts the only free text on the ledger."""


class InstitutionKind(StrEnum):
    """What an institution is; decides which roles its people may hold."""

    HOSPITAL = "hospital"
    COMMUNITY_CENTRE = "community_centre"
    LABORATORY = "laboratory"
    PHARMACY = "pharmacy"
    DECOCTION_PLANT = "decoction_plant"
    SUPPLIER = "supplier"
    HERB_BASE = "herb_base"
    CARRIER = "carrier"
    BANK = "bank"
    INSURANCE_AGENCY = "insurance_agency"
    FUND = "fund"
    INSURER = "insurer"
    RESEARCH_INSTITUTE = "research_institute"
    SPONSOR = "sponsor"
    REGULATOR = "regulator"
    AUDIT_BODY = "audit_body"
    CDC = "cdc"
    QC_CENTRE = "qc_centre"
    HOSTING = "hosting"


class Role(StrEnum):
    """What a person's key may decide; NODE is the institution's gateway key alone."""

    NODE = "node"
    NEWCOMER = "newcomer"
    PATIENT = "patient"
    OFFICER = "officer"
    PHYSICIAN = "physician"
    NURSE = "nurse"
    PHARMACIST = "pharmacist"
    TECHNICIAN = "technician"
    DATA_OFFICER = "data_officer"
    DISCLOSURE_OFFICER = "disclosure_officer"
    ETHICS_MEMBER = "ethics_member"
    INVESTIGATOR = "investigator"
    PURCHASER = "purchaser"
    CASHIER = "cashier"
    COURIER = "courier"
    OPERATOR = "operator"
    QUALITY_OFFICER = "quality_officer"
    SALES_OFFICER = "sales_officer"
    PAYMENT_OFFICER = "payment_officer"
    CASE_OFFICER = "case_officer"
    ADJUSTER = "adjuster"
    MODEL_OWNER = "model_owner"
    RESEARCHER = "researcher"
    SIGNATORY = "signatory"
    MONITOR = "monitor"
    STATISTICIAN = "statistician"
    INSPECTOR = "inspector"
    AUDITOR = "auditor"
    SECOND_OFFICER = "second_officer"
    EPIDEMIOLOGIST = "epidemiologist"
    QC_OFFICER = "qc_officer"
    DEVICE = "device"


class HeldBy(StrEnum):
    """Where the private half of a key lies; printed in every receipt."""

    NODE = "node"
    DEVICE = "device"
    HARDWARE = "hardware"


class MemberState(StrEnum):
    """States of a member."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEAVING = "leaving"
    REMOVED = "removed"
    LEFT = "left"
    LAPSED = "lapsed"


class KeyState(StrEnum):
    """States of a key; a key past its end is simply not valid."""

    ACTIVE = "active"
    ROTATED = "rotated"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


_CARE_ROLES = (
    Role.PHYSICIAN,
    Role.NURSE,
    Role.PHARMACIST,
    Role.TECHNICIAN,
    Role.DATA_OFFICER,
    Role.DISCLOSURE_OFFICER,
    Role.ETHICS_MEMBER,
    Role.INVESTIGATOR,
    Role.PURCHASER,
    Role.CASHIER,
)
_GOODS_ROLES = (Role.SALES_OFFICER, Role.QUALITY_OFFICER, Role.COURIER, Role.DEVICE)
_STUDY_ROLES = (Role.RESEARCHER, Role.SIGNATORY, Role.MONITOR, Role.STATISTICIAN)
_STATE_ROLES = (Role.INSPECTOR, Role.AUDITOR, Role.SECOND_OFFICER)
_PAYING_ROLES = (Role.PAYMENT_OFFICER, Role.CASE_OFFICER)

ROLES_OF_KIND: Mapping[InstitutionKind, tuple[Role, ...]] = {
    InstitutionKind.HOSPITAL: _CARE_ROLES,
    InstitutionKind.COMMUNITY_CENTRE: _CARE_ROLES,
    InstitutionKind.LABORATORY: (Role.TECHNICIAN, Role.PHYSICIAN, Role.DATA_OFFICER),
    InstitutionKind.PHARMACY: (Role.PHARMACIST, Role.COURIER),
    InstitutionKind.DECOCTION_PLANT: (
        Role.PHARMACIST,
        Role.OPERATOR,
        Role.QUALITY_OFFICER,
        Role.COURIER,
        Role.DEVICE,
    ),
    InstitutionKind.SUPPLIER: _GOODS_ROLES,
    InstitutionKind.HERB_BASE: _GOODS_ROLES,
    InstitutionKind.CARRIER: _GOODS_ROLES,
    InstitutionKind.BANK: _PAYING_ROLES,
    InstitutionKind.INSURANCE_AGENCY: _PAYING_ROLES,
    InstitutionKind.FUND: _PAYING_ROLES,
    InstitutionKind.INSURER: (Role.ADJUSTER, Role.MODEL_OWNER),
    InstitutionKind.RESEARCH_INSTITUTE: _STUDY_ROLES,
    InstitutionKind.SPONSOR: _STUDY_ROLES,
    InstitutionKind.REGULATOR: _STATE_ROLES,
    InstitutionKind.AUDIT_BODY: _STATE_ROLES,
    InstitutionKind.CDC: (Role.EPIDEMIOLOGIST,),
    InstitutionKind.QC_CENTRE: (Role.QC_OFFICER,),
    InstitutionKind.HOSTING: (),
}
"""Roles besides OFFICER, which every kind has."""


class Member(Case, frozen=True, kw_only=True):
    """An institution of the consortium; its case id is its institution id, its state a `MemberState`."""

    kind: InstitutionKind
    operator: InstitutionId
    """Who runs its machine: itself, or the member that hosts it."""
    name: DisplayName
    legal_name: Digest
    """Commitment of the legal name."""
    district: Word
    grade: Word
    ca_fingerprint: Digest
    """SHA-256 of the DER bytes of its CA certificate: the anchor for its TLS peers."""
    keys_digest: Digest
    """Digest of the gateway keys and the first OFFICER key that were voted on."""
    votes_from: UnixMillis
    """Votes on proposals opened at or after this time; 0 for founders."""
    expires: UnixMillis
    """End of the invitation; afterwards without meaning."""
    leaves_on: UnixMillis
    """Date of an announced leave, else 0."""


class Key(Case, frozen=True, kw_only=True):
    """A registered key; its case id is its key id, its state a `KeyState`."""

    owner: InstitutionId
    role: Role
    suite: Natural
    public_key: PublicKey
    exchange_key: PublicKey | None
    """X25519 half of a gateway pair, registered and rotated with it; None for other roles."""
    held_by: HeldBy
    licence: Digest | None
    """Commitment of the licence, for physicians and pharmacists."""
    valid_from: UnixMillis
    valid_until: UnixMillis
    compromised_since: UnixMillis
    """Information given at revocation, else 0: what was valid at its block stays valid and is marked."""


class Parameter(Part, frozen=True, kw_only=True):
    """One parameter of the chain: a number, or a list of words."""

    name: Word
    number: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    words: Annotated[tuple[Word, ...], Meta(max_length=128)]


class Parameters(Register, frozen=True, kw_only=True):
    """All parameters, sorted by name; one row."""

    word: ClassVar[str] = "parameters"

    items: Annotated[tuple[Parameter, ...], Meta(max_length=512)]


class Rule(Part, frozen=True, kw_only=True):
    """One row of the constitution: who may propose an action, the quorum, and the delay before it applies.

    The quorum is `numerator`/`denominator` of the electorate: at least that share, or more than it where `strict`.
    """

    action: Word
    proposers: Annotated[tuple[InstitutionKind, ...], Meta(max_length=32)]
    """Kinds that may propose; empty = any member."""
    numerator: Annotated[int, Meta(ge=1, le=1000)]
    denominator: Annotated[int, Meta(ge=1, le=1000)]
    strict: bool
    delay: UnixMillis
    voting_period: UnixMillis


class Constitution(Register, frozen=True, kw_only=True):
    """The rule table; one row of state. `version` rises by one with every change."""

    word: ClassVar[str] = "constitution"

    version: Natural
    rules: Annotated[tuple[Rule, ...], Meta(max_length=64)]


class Roster(Register, frozen=True, kw_only=True):
    """Ids of all members ever, in the order of joining; one row, so that no electorate needs a scan."""

    word: ClassVar[str] = "roster"

    members: Annotated[tuple[InstitutionId, ...], Meta(max_length=1024)]


LIVING = (MemberState.ACTIVE, MemberState.SUSPENDED, MemberState.LEAVING)
"""States in which a member counts in an electorate and its gateway key may sign envelopes."""


def may_hold(kind: InstitutionKind, role: Role) -> bool:
    """Say whether people of this kind of institution may hold this role."""
    return role == Role.OFFICER or role in ROLES_OF_KIND[kind]


def is_valid(key: Key, state: str, time: UnixMillis) -> bool:
    """Say whether a key may sign at a block time."""
    return state == KeyState.ACTIVE and key.valid_from <= time <= key.valid_until
