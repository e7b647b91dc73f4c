"""What the API says: typed JSON with hex for bytes; times are milliseconds, heights are of the ledger."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

V = TypeVar("V")

Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="32 bytes, hex")]
Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="16 bytes, hex")]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{128}$", description="64 bytes, hex")]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything answered."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything asked."""


class PageView(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """Some rows, and the cursor that asks for the next ones; null at the end."""

    items: tuple[V, ...]
    next: str | None


class Me(View, frozen=True, kw_only=True):
    """Whom this API key stands for, and where."""

    institution: Hex32
    slug: str
    label: str
    role: str
    key_id: Hex32
    signs_here: bool
    """Whether the node holds the person's key; otherwise operations are drafted and signed on a device."""
    acts_as_node: bool
    """Whether steps of the gateway key alone may be asked for with this key."""
    chain: Hex32


class AnswerView(View, frozen=True, kw_only=True):
    """A step that was done, durably."""

    case_id: Hex32
    op_id: Hex16
    command: str
    state: str
    height: int
    leaf: int


class MessageView(View, frozen=True, kw_only=True):
    """What one person signs: Ed25519 over `message`, as this key in this role until then."""

    key_id: Hex32
    role: str
    valid_until: int
    message: Hex


class DraftView(View, frozen=True, kw_only=True):
    """A core that waits for signatures; `to_sign` has the message of each signer named."""

    core: Hex
    op_id: Hex16
    case_id: Hex32
    command: str
    chain: Hex32
    actor: Hex32
    to_sign: tuple[MessageView, ...]


class SignerAsked(Asked, frozen=True, kw_only=True):
    """Who will sign a draft; by default the caller itself."""

    key_id: Hex32
    role: str


class PersonAsked(Asked, frozen=True, kw_only=True):
    """One person's signature over a drafted core."""

    key_id: Hex32
    role: str
    valid_until: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    signature: Hex64


class SignAsked(Asked, frozen=True, kw_only=True):
    """A drafted core to sign with the caller's key that the node holds: one of the signatures that a step needs."""

    core: Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=40_000)]


class SignatureView(View, frozen=True, kw_only=True):
    """One person's signature over a core, as `submit` takes it."""

    key_id: Hex32
    role: str
    valid_until: int
    signature: Hex64


class SubmitAsked(Asked, frozen=True, kw_only=True):
    """A drafted core with the signatures of the persons; none where the gateway key alone decides."""

    core: Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=40_000)]
    persons: Annotated[tuple[PersonAsked, ...], Meta(max_length=3)] = ()


class ActionView(View, frozen=True, kw_only=True):
    """A step that is legal from the state of a case."""

    command: str
    title: str
    mine: bool
    """Whether this API key may take it now."""
    who: str
    after: int | None = None
    """Only past this time."""
    before: int | None = None
    """Only up to this time."""
    paper: bool = False
    """Whether a home must name the witnessed paper."""


class CaseView(View, frozen=True, kw_only=True):
    """A case as the newest block left it."""

    case_id: Hex32
    workflow: str
    kind: str
    state: str
    title: str
    version: int
    flags: tuple[str, ...]
    opened_height: int
    opened_time: int
    changed_height: int
    changed_time: int
    fields: dict[str, Any]
    """The typed record of the case; its schema is that of its type."""
    patient: dict[str, Any] | None = None
    registers: dict[str, dict[str, Any]] = {}
    """Rows beside the case such as counters, in one case asked for by its id."""
    actions: tuple[ActionView, ...] = ()
    """What can be done now, in one case asked for by its id."""


class EventView(View, frozen=True, kw_only=True):
    """One operation of the log, refused ones too."""

    height: int
    index: int
    leaf: int
    time: int
    workflow: str
    command: str
    case_id: Hex32
    actor: Hex32
    op_id: Hex16
    result: int
    """0 done, else the refusal's number."""
    state: str


class EntryView(View, frozen=True, kw_only=True):
    """What the catalogue says of a record; never the record."""

    entry_id: Hex32
    root: Hex32
    custodian: Hex32
    kind: str
    level: int
    month: int
    size_class: int
    status: str
    restricted: bool
    late: bool
    height: int
    time: int


class EntriesAsked(Asked, frozen=True, kw_only=True):
    """Ids of entries; those that stand in the catalogue are answered."""

    ids: Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=1_000)]


class IdsView(View, frozen=True, kw_only=True):
    """Ids that begin with what was asked."""

    ids: tuple[Hex32, ...]


class ReceivedView(View, frozen=True, kw_only=True):
    """A copy that was delivered here."""

    entry_id: Hex32
    use_id: Hex32
    custodian: Hex32


class VerifiedView(View, frozen=True, kw_only=True):
    """A record of this institution, verified against the ledger: blob, root, key, commitment."""

    entry_id: Hex32
    state: str
    root: Hex32
    commitment: Hex32
    true_size: int


class FetchAsked(Asked, frozen=True, kw_only=True):
    """Fetch entries of a grant: all of them where `entries` is empty."""

    grant: Hex32
    entries: Annotated[tuple[Hex32, ...], Meta(max_length=32)] = ()


class FetchedView(View, frozen=True, kw_only=True):
    """What became of a use; `draft` is there where a device must sign the reservation first."""

    use_id: Hex32
    state: str
    entries: tuple[Hex32, ...]
    verified: bool
    disputed: tuple[Hex32, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    draft: DraftView | None = None


class ImportAsked(Asked, frozen=True, kw_only=True):
    """Import a FHIR file, folder or archive that lies on the node's machine."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    mapping: dict[str, str] = {}
    """Organisation of the input → institution, where the rule is not to choose."""
    only_mapped: bool = False
    """Take only what `mapping` names."""


class BackupAsked(Asked, frozen=True, kw_only=True):
    """Back up the node: ledger, vaults, keys, settings and sealed records, in one encrypted file."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yilian-backup$")]
    """Name of the file in the folder of backups; never a path."""
    passphrase: Annotated[str, Meta(min_length=12, max_length=1024)]
    """Opens the file; whoever loses it has no backup."""
    blobs: bool = True
    """Sealed records too, and not only the list of them."""


class ScreeningAsked(Asked, frozen=True, kw_only=True):
    """Screen the residents of this institution; without both answers China-PAR says that the region is missing."""

    north: bool | None = None
    """North of the Yangtze."""
    urban: bool | None = None


class RiskView(View, frozen=True, kw_only=True):
    """What a screening said of one resident; for the physicians of this institution."""

    subject: Hex
    risk_class: str | None
    model: str | None
    percent: float | None
    version: str
    missing: tuple[str, ...]
    referred: bool
    """Whether a referral of this institution is known."""


class JobView(View, frozen=True, kw_only=True):
    """Long work: RUNNING, DONE or FAILED, and how far it is."""

    job_id: Hex16
    kind: str
    state: str
    started: int
    finished: int | None
    progress: dict[str, Any]


class SubjectAsked(Asked, frozen=True, kw_only=True):
    """Look for a patient of this institution by an identifier; never in a URL."""

    identifier: Annotated[str, Meta(min_length=1, max_length=128)]


class SubjectView(View, frozen=True, kw_only=True):
    """A patient of this institution, by the name that the vault gives; means nothing elsewhere."""

    subject: Hex
    entries: tuple[Hex32, ...]


class WalletAsked(Asked, frozen=True, kw_only=True):
    """Register the wallet of a patient of this institution: its X25519 key."""

    subject: Hex
    exchange_key: Hex32


class WalletKeyView(View, frozen=True, kw_only=True):
    """A subject key of one year, sealed to the wallet."""

    custodian: Hex32
    year: int
    wrapped: Hex


class RequestAsked(Asked, frozen=True, kw_only=True):
    """Seal and publish the request of a referral; the consent is the patient's own affair, with a wallet."""

    subject: Hex
    receiver: Hex32
    purpose: Annotated[str, Meta(min_length=1, max_length=2_000)]
    """For the receiving physician; goes sealed."""
    urgency: Annotated[str, Meta(pattern="^(emergency|urgent|routine)$")] = "routine"
    specialty: Annotated[str, Meta(max_length=64)] = ""
    records: Annotated[tuple[Hex32, ...], Meta(max_length=31)] = ()
    """Entries that go along; empty: the most relevant of this institution."""
    deliveries: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """By default two for each record."""
    days: Annotated[int, Meta(ge=1, le=365)] = 90
    """How long the receiver may fetch."""
    language: Annotated[str, Meta(pattern="^(zh|en)$")] = "zh"
    """Of the consent's text."""


class RequestView(View, frozen=True, kw_only=True):
    """A request that stands in the catalogue, and what is to go along with it."""

    request: Hex32
    records: tuple[Hex32, ...]
    deliveries: int
    """N of the grant over the records."""


class ReferralAsked(RequestAsked, frozen=True, kw_only=True):
    """Refer a patient of this institution: request, consent on paper and referral in one go.

    The caller is the physician who refers and who saw the paper signed.
    """

    paper: Annotated[str, Meta(min_length=4, max_length=1_000_000)]
    """The signed consent as scanned, Base64; goes sealed."""
    paper_type: Annotated[str, Meta(pattern="^[a-z]+/[A-Za-z0-9.+-]+$", max_length=64)] = "application/pdf"


class EmergencyAsked(Asked, frozen=True, kw_only=True):
    """Ask one custodian for a patient's records without the patient's word."""

    custodian: Hex32
    identifiers: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(min_length=1, max_length=16)
    ]
    """By what the custodian finds the patient, `system|value`; goes sealed to it alone."""
    reason: Annotated[str, Meta(pattern="^(unconscious|no_time|cannot_speak_for_self|public_emergency)$")]
    minutes: Annotated[int, Meta(ge=1, le=1_440)] = 240
    """How long the access may last."""


class EmergencyView(View, frozen=True, kw_only=True):
    """An emergency access that was opened."""

    case_id: Hex32


class ReferralView(View, frozen=True, kw_only=True):
    """A referral that was requested, with what came before it."""

    case_id: Hex32
    consent: Hex32
    request: Hex32
    records: tuple[Hex32, ...]


class ResultView(View, frozen=True, kw_only=True):
    """The result of a referral, given back."""

    case_id: Hex32
    result: Hex32


class CompletionAsked(Asked, frozen=True, kw_only=True):
    """Answer a referral: the result is sealed, published and granted to the referrer."""

    text: Annotated[str, Meta(min_length=1, max_length=20_000)]
    title: Annotated[str, Meta(min_length=1, max_length=80)] = "出院小结"
    deliveries: Annotated[int, Meta(ge=1, le=10_000)] = 2
    days: Annotated[int, Meta(ge=1, le=365)] = 90


class MemberView(View, frozen=True, kw_only=True):
    """A member of the consortium."""

    id: Hex32
    slug: str
    """Its short name on this node; empty where another node runs it."""
    name: str
    kind: str
    state: str
    operator: Hex32
    grade: str
    ca_fingerprint: Hex32


class KeyView(View, frozen=True, kw_only=True):
    """A registered key."""

    key_id: Hex32
    owner: Hex32
    role: str
    state: str
    held_by: str
    public_key: Hex
    exchange_key: Hex32 | None
    valid_from: int
    valid_until: int


class LedgerView(View, frozen=True, kw_only=True):
    """Where the chain stands."""

    chain: Hex32
    name: str
    height: int
    time: int
    app_hash: Hex32
    log_size: int
    log_root: Hex32
    projected: int
    """Height up to which the read model has come."""


class ReadyView(View, frozen=True, kw_only=True):
    """Whether the node can serve; `lag` counts blocks that the read model has still to take over."""

    ready: bool
    height: int
    lag: int


class AuditView(View, frozen=True, kw_only=True):
    """An answer to a question of audit: rows by the question's own columns, ids in hex, times in ms of block time."""

    question: str
    rows: tuple[dict[str, Any], ...]
    height: int
    """Up to which block it was asked."""


class AuditAsked(Asked, frozen=True, kw_only=True):
    """Which deliveries; what is null is not asked."""

    entry: Hex32 | None = None
    grant: Hex32 | None = None
    use: Hex32 | None = None
    custodian: Hex32 | None = None
    recipient: Hex32 | None = None
