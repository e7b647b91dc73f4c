"""The figures of a demonstration, counted at the end from the ledger and the stores; nothing the story says of itself.

`fetches.attempted` are uses reserved and delivered, `verified` those confirmed. `audit.pairs` are matched disclosure
pairs, `one_sided` delivered uses without one, `questions_answered` deliveries of which the ledger tells recipient,
time, granter, scope and number. `refused` is found in the log by its number; what was refused at the edge, in the
audit record of the institution that refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from yilian.clinic.screening import RiskClass
from yilian.demo.proving import measure
from yilian.ledger.members import LIVING, Roster
from yilian.ledger.results import Head
from yilian.ledger.workflow import Reads
from yilian.node.compose import Readings, read_ledger
from yilian.node.home import VAULT, Home
from yilian.node.screening import ScreeningResult
from yilian.node.settings import Settings
from yilian.storage.port import Index
from yilian.storage.rows import MAX_PAGE, CaseQuery, CaseRow
from yilian.storage.vault import Vault
from yilian.storage.vault.records import RecordStatus
from yilian.storage.vault.releases import NoteKind
from yilian.workflows.audit.questions import DELIVERED, MATCHED, Delivery, Questions
from yilian.workflows.consent.interface import Refusal

MEGABYTE = 1_000_000
_EDGE_STRANGERS = ("TLS_NON_MEMBER", "NO_GRANT")
_TAMPERED = "TAMPERED_BLOB"
_KEPT = frozenset({RecordStatus.PUBLISHED, RecordStatus.REPLACED})


class _Figures(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Referrals(_Figures, frozen=True, kw_only=True):
    """How far the referrals came."""

    requested: int
    accepted: int
    completed: int
    closed: int


class Fetches(_Figures, frozen=True, kw_only=True):
    """Uses that were reserved and delivered, and those confirmed by the recipient."""

    attempted: int
    verified: int


class RefusedFigures(_Figures, frozen=True, kw_only=True):
    """What was refused, and is on record as such."""

    stranger: int
    revoked: int
    exhausted: int
    expired: int
    wider_delegation: int
    tampered: int


class Audit(_Figures, frozen=True, kw_only=True):
    """What the auditor finds."""

    pairs: int
    one_sided: int
    questions_answered: int


class LedgerFigures(_Figures, frozen=True, kw_only=True):
    """Where the chain stands."""

    height: int
    operations: int
    refused_operations: int
    app_hash: str
    log_size: int


class Followers(_Figures, frozen=True, kw_only=True):
    """Nodes of their own that follow the sequencer, and whether each came to the same app hash."""

    count: int
    app_hash_equal: bool


class Seconds(_Figures, frozen=True, kw_only=True):
    """How long it took, by the wall clock; `import` is a word of Python."""

    importing: float = msgspec.field(name="import", default=0.0)
    screen: float = 0.0
    story: float = 0.0
    total: float = 0.0


class Report(_Figures, frozen=True, kw_only=True):
    """All figures of a run."""

    institutions: int
    patients: int
    records: int
    bytes_sealed: int
    screened: int
    high_risk: int
    referrals: Referrals
    fetches: Fetches
    refused: RefusedFigures
    audit: Audit
    ledger: LedgerFigures
    followers: Followers
    proofs: dict[str, dict[str, float]]
    """By name of the file in `<home>/proofs`: `bytes`, `make_ms`, `verify_ms`."""
    seconds: Seconds
    peak_rss_mb: int


class _Stores(msgspec.Struct, frozen=True, kw_only=True):
    patients: int = 0
    records: int = 0
    bytes_sealed: int = 0
    screened: int = 0
    high_risk: int = 0


def count(home: Home, settings: Settings, seconds: Seconds, *, peak_rss_mb: int, made: Mapping[str, float]) -> Report:
    """Count what a home holds; its node may run, and has then come to rest. `made`: as `proving.measure` takes it.

    Raises:
        SettingsError: the passphrase is missing or another.
        VerificationError: a store does not hold.
    """
    passphrase = home.passphrase(settings)
    with ExitStack() as stack:
        ledger = stack.enter_context(read_ledger(home))
        index = ledger.index
        vaults = {}
        blobs = {}
        for one in (home, *follower_homes(home)):
            for item in one.institutions():
                keystore = one.keystore(item.slug, passphrase)
                vaults[item.slug] = Vault(one.folder(item.slug) / "vault.db", keystore.load(VAULT))
                blobs[item.slug] = one.folder(item.slug) / "blobs"
                stack.callback(vaults[item.slug].close)
        questions = Questions(index)
        edges: Counter[str] = Counter()
        for vault in vaults.values():
            edges.update(vault.audit.refusal_counts())
        stores = [_stores(vault, blobs[slug]) for slug, vault in vaults.items()]
        uses = Counter(row.state for row in _cases(index, "use"))
        pairs = questions.pairs()
        return Report(
            institutions=_members(ledger.reads),
            patients=sum(item.patients for item in stores),
            records=sum(item.records for item in stores),
            bytes_sealed=sum(item.bytes_sealed for item in stores),
            screened=sum(item.screened for item in stores),
            high_risk=sum(item.high_risk for item in stores),
            referrals=_referrals(index),
            fetches=Fetches(
                attempted=sum(number for state, number in uses.items() if state in DELIVERED),
                verified=uses["confirmed"],
            ),
            refused=_refused(questions, edges),
            audit=Audit(
                pairs=sum(number for state, number in pairs.items() if state in MATCHED),
                one_sided=len(questions.unmatched()),
                questions_answered=sum(_answers(item) for item in questions.deliveries()),
            ),
            ledger=_ledger(ledger),
            followers=_followers(home, ledger.head),
            proofs=measure(home, made),
            seconds=seconds,
            peak_rss_mb=peak_rss_mb,
        )


def _stores(vault: Vault, blobs: Path) -> _Stores:
    records = [record for record in vault.records.each() if record.status in _KEPT]
    screened = [
        msgspec.json.decode(note.body, type=ScreeningResult) for note in vault.releases.notes(NoteKind.SCREENING)
    ]
    return _Stores(
        patients=sum(1 for _ in vault.records.summaries()),
        records=sum(1 for record in records if record.encounter and record.status == RecordStatus.PUBLISHED),
        bytes_sealed=sum(_blob_size(blobs, record.root) for record in records),
        screened=sum(item.is_screened for item in screened),
        high_risk=sum(item.risk_class == RiskClass.HIGH for item in screened),
    )


def _blob_size(blobs: Path, root: bytes) -> int:
    name = root.hex()
    return (blobs / name[:2] / name[2:]).stat().st_size


def _referrals(index: Index) -> Referrals:
    done = {tally.command: tally.count for tally in index.tally() if tally.workflow == "referral" and not tally.result}
    states = Counter(row.state for row in _cases(index, "referral"))
    return Referrals(
        requested=states.total(),
        accepted=done.get("referral.accept", 0),
        completed=done.get("referral.complete", 0),
        closed=states["closed"],
    )


def _refused(questions: Questions, edges: Counter[str]) -> RefusedFigures:
    found = questions.refusals()

    def of(*numbers: Refusal) -> int:
        return sum(found.get(("consent", int(number)), 0) for number in numbers)

    return RefusedFigures(
        stranger=of(Refusal.NO_GRANT, Refusal.NOT_THE_RECIPIENT) + sum(edges[kind] for kind in _EDGE_STRANGERS),
        revoked=of(Refusal.GRANT_REVOKED),
        exhausted=of(Refusal.DELIVERIES_SPENT),
        expired=of(Refusal.GRANT_EXPIRED),
        wider_delegation=of(Refusal.WIDER_THAN_PARENT),
        tampered=edges[_TAMPERED],
    )


def _answers(item: Delivery) -> bool:
    told = (item.recipient, item.person, item.delivered_at, item.granted_by, item.granted_at, item.scope.ends)
    return all(told) and 0 < item.first_number <= item.last_number


def _members(reads: Reads) -> int:
    """Count the living members: the founders stand in the state alone, no operation tells of them."""
    roster = reads.register(Roster)
    found = [reads.member(one) for one in (roster.members if roster is not None else ())]
    return sum(1 for member in found if member is not None and member.state in LIVING)


def _ledger(ledger: Readings) -> LedgerFigures:
    head = ledger.head
    tallies = ledger.index.tally()
    return LedgerFigures(
        height=head.height,
        operations=sum(tally.count for tally in tallies),
        refused_operations=sum(tally.count for tally in tallies if tally.result),
        app_hash=head.app_hash.hex(),
        log_size=head.log_size,
    )


def follower_homes(home: Home) -> list[Home]:
    """Give the homes of the demonstration's nodes beside the one with the sequencer."""
    return [Home(file.parent) for file in sorted((home.path / "nodes").glob("*/node.toml"))]


def _followers(home: Home, head: Head) -> Followers:
    hashes = []
    for one in follower_homes(home):
        with read_ledger(one) as ledger:
            hashes.append(ledger.head.app_hash)
    return Followers(count=len(hashes), app_hash_equal=all(each == head.app_hash for each in hashes))


def _cases(index: Index, kind: str) -> Iterator[CaseRow]:
    cursor: str | None = None
    while True:
        page = index.find_cases(CaseQuery(kind=kind, limit=MAX_PAGE, cursor=cursor))
        yield from page.items
        cursor = page.next
        if cursor is None:
            return
