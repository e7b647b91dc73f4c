"""What the API needs of a node: the protocol `NodeLike`. `node/operations.py` is the one that serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from yilian.crypto.suite import Signer
from yilian.engine.gateway import Gateway, Signed
from yilian.engine.port import Engine
from yilian.ledger.block import Genesis
from yilian.ledger.checkpoint import Note
from yilian.ledger.claims import Claim
from yilian.ledger.members import Role
from yilian.ledger.receipt import Kind
from yilian.ledger.registry import Registry
from yilian.ledger.results import Answer
from yilian.ledger.trust import Trust
from yilian.storage.checkpoints import StoredAlert
from yilian.storage.port import Index
from yilian.values import CaseId, EntryId, InstitutionId, KeyId, OpId
from yilian.web.app.upkeep_views import AnchorFileView, AnchorsView, CoveredView, IntegrityAsked, IntegrityView
from yilian.web.app.views import (
    AuditAsked,
    AuditView,
    BackupAsked,
    CompletionAsked,
    EmergencyAsked,
    EmergencyView,
    FetchedView,
    ImportAsked,
    JobView,
    ReceivedView,
    ReferralAsked,
    ReferralView,
    RequestAsked,
    RequestView,
    ResultView,
    RiskView,
    ScreeningAsked,
    SubjectView,
    VerifiedView,
    WalletKeyView,
)
from yilian.web.kit.answers import Kept

NODE_ROLES = (Role.NODE, Role.DATA_OFFICER, Role.OFFICER)
"""The scope `node`: API keys of these roles may ask for steps that the gateway key takes alone."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an API key stands for: a registered person of one institution of this node."""

    slug: str
    institution: InstitutionId
    key_id: KeyId
    role: Role
    label: str

    @property
    def acts_as_node(self) -> bool:
        """Whether steps of the gateway key alone may be asked for."""
        return self.role in NODE_ROLES


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A decrypted record."""

    content: bytes
    content_type: str


class ProofAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt shall prove."""

    kind: Kind
    subject: bytes = b""
    """Operation id (16 bytes), or case id (32 bytes)."""
    leaf: int | None = None
    """Place of an operation in the log, instead of its id."""
    name: str = ""
    """Of the claim."""
    cose: bool = False
    """As COSE receipt (RFC 9942): an operation alone."""


class UpkeepLike(Protocol):
    """What these routes need of a node."""

    def anchors(self, before: int | None, limit: int) -> AnchorsView:
        """List timestamps."""
        ...

    def anchor(self, height: int) -> AnchorFileView:
        """Give the first timestamp that covers a height; NotFoundError where there is none."""
        ...

    def integrity(self, caller: Caller) -> IntegrityView:
        """Say what the check of the caller's institution found."""
        ...

    def start_integrity(self, caller: Caller, asked: IntegrityAsked) -> bytes:
        """Begin or go on with the check, and give its job id; ConflictError where it runs."""
        ...

    def covered(self, caller: Caller, day: int, number: int) -> CoveredView:
        """Show that a daily statement of the caller's institution covers an event; NotFoundError where it does not."""
        ...


class LogLike(Protocol):
    """The log as auditors see it, and what readers of receipts have to believe. Any thread; `yilian.errors`."""

    def checkpoint(self) -> Note:
        """Give the newest note that satisfies the policy and whose tiles are here; UnavailableError without one."""
        ...

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Give the first hashes of a tile; NotFoundError where the log has them not."""
        ...

    def entries(self, index: int, width: int) -> bytes:
        """Give the first leaves of a bundle; NotFoundError where the log has them not."""
        ...

    def trust(self) -> Trust:
        """Give what readers of receipts have to believe, as of the newest block."""
        ...

    def alerts(self, *, after: int, limit: int) -> list[StoredAlert]:
        """Give alerts with an id above `after`, the oldest first."""
        ...


class NodeLike(Protocol):
    """A running node as the API sees it. Every method may be called from any thread; errors are `yilian.errors`."""

    @property
    def genesis(self) -> Genesis:
        """The start of the chain."""
        ...

    @property
    def engine(self) -> Engine:
        """The chain."""
        ...

    @property
    def registry(self) -> Registry:
        """The workflows of the chain."""
        ...

    @property
    def index(self) -> Index:
        """The read model."""
        ...

    @property
    def upkeep(self) -> UpkeepLike:
        """Outside timestamps, and the check of sealed bytes."""
        ...

    @property
    def log(self) -> LogLike:
        """The log for auditors."""
        ...

    def slug_of(self, institution: InstitutionId) -> str:
        """Give the short name of an institution of this node; empty for another's."""
        ...

    def identify(self, token_hash: bytes) -> Caller | None:
        """Find whom an API key stands for, by the SHA-256 of its token; None where it is unknown or revoked."""
        ...

    def gateway(self, caller: Caller) -> Gateway:
        """Give the hand of the caller's institution on the ledger."""
        ...

    def signer(self, caller: Caller) -> Signer | None:
        """Give the caller's own key where this node holds it."""
        ...

    def send(self, caller: Caller, operation: Signed) -> Answer:
        """Send an operation for the caller's institution, do what its command asks for beside it, give the answer.

        Raises:
            InvalidTransaction: it could not enter a block.
            UnavailableError: the engine is busy or stopped.
        """
        ...

    def keep_claims(self, caller: Caller, op: OpId, values: Mapping[str, str]) -> tuple[Claim, ...]:
        """Salt the claims of an operation that is to be drafted and keep them; a repeat gives the same ones.

        Raises:
            ConflictError: the operation made other claims before.
        """
        ...

    def prove(self, caller: Caller, asked: ProofAsked) -> bytes:
        """Make a receipt against the newest checkpoint that the policy has cosigned.

        Raises:
            NotFoundError: no such operation, case or use; or the caller's institution keeps no such claim.
            ConflictError: absence is asked for, and the case exists.
            UnavailableError: no checkpoint with enough cosignatures yet.
        """
        ...

    def find_answer(self, caller: Caller, key_hash: bytes) -> Kept | None:
        """Give the answer kept under an idempotency key."""
        ...

    def keep_answer(self, caller: Caller, key_hash: bytes, kept: Kept) -> None:
        """Keep an answer for a day."""
        ...

    def ids_with_prefix(self, prefix: str) -> tuple[CaseId, ...]:
        """Give at most 20 ids of cases that begin with some hex digits."""
        ...

    def received(self, caller: Caller) -> tuple[ReceivedView, ...]:
        """List the copies that were delivered here."""
        ...

    def open_record(self, caller: Caller, entry: EntryId) -> Document:
        """Decrypt and verify an own record, or a copy delivered here.

        Raises:
            NotFoundError: neither is here.
            VerificationError: the bytes do not hold.
        """
        ...

    def verify_record(self, caller: Caller, entry: EntryId) -> VerifiedView:
        """Verify an own record or a copy, without giving it out; errors as `open_record`."""
        ...

    def fetch(self, caller: Caller, grant: CaseId, entries: tuple[EntryId, ...]) -> FetchedView:
        """Fetch entries under a grant and verify them; with a draft where the caller's key is on a device."""
        ...

    def start_import(self, caller: Caller, asked: ImportAsked) -> bytes:
        """Start an import and give its job id; NotFoundError where nothing lies at the path."""
        ...

    def start_backup(self, caller: Caller, asked: BackupAsked) -> bytes:
        """Start a backup of the node and give its job id; SettingsError where no folder for backups is set."""
        ...

    def start_screening(self, caller: Caller, asked: ScreeningAsked) -> bytes:
        """Start a screening and give its job id."""
        ...

    def job(self, caller: Caller, job_id: bytes) -> JobView:
        """Give a job of the caller's institution."""
        ...

    def cancel_job(self, caller: Caller, job_id: bytes) -> JobView:
        """Stop a job at its next report."""
        ...

    def find_subject(self, caller: Caller, identifier: str) -> SubjectView:
        """Find a patient of the caller's institution."""
        ...

    def register_wallet(self, caller: Caller, subject: bytes, exchange_key: bytes) -> tuple[WalletKeyView, ...]:
        """Register a patient's wallet and give the subject keys sealed to it."""
        ...

    def risks(self, caller: Caller, risk_class: str | None) -> tuple[RiskView, ...]:
        """Give the latest results of screening, all or those of a class, the highest risk first."""
        ...

    def prepare_request(self, caller: Caller, asked: RequestAsked) -> RequestView:
        """Seal and publish the request of a referral."""
        ...

    def open_emergency(self, caller: Caller, asked: EmergencyAsked) -> EmergencyView:
        """Tell one custodian whom it is about, and open an emergency access."""
        ...

    def refer(self, caller: Caller, asked: ReferralAsked) -> ReferralView:
        """Refer a patient with a witnessed consent: publish the request, sign the consent, open the referral."""
        ...

    def complete(self, caller: Caller, referral: CaseId, asked: CompletionAsked) -> ResultView:
        """Give the result of a referral back."""
        ...

    def audit_who(self, caller: Caller, asked: AuditAsked) -> AuditView:
        """Say who got what, when, granted by whom, in what scope, which use of how many, passed on to whom."""
        ...

    def audit_case(self, caller: Caller, case: CaseId) -> AuditView:
        """Tell the whole course of a case."""
        ...

    def audit_unmatched(self, caller: Caller) -> AuditView:
        """List disclosures of which only one side was told."""
        ...
