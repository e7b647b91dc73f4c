"""The vault's tables: what stands unsealed is a public id, a blind index, a time or a state word."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.schema import SchemaItem

SCHEMA = MetaData()


def _sealed(name: str, *parts: SchemaItem) -> Table:
    return Table(name, SCHEMA, *parts, Column("sealed", LargeBinary, nullable=False))


def _key(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, primary_key=True)


def _blob(name: str, *, indexed: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=True, index=indexed)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False)


def _word(name: str) -> Column[str]:
    return Column(name, String, nullable=False, index=True)


def _time(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, index=True)


META = Table("meta", SCHEMA, Column("name", String, primary_key=True), Column("value", LargeBinary, nullable=False))

RECORDS = _sealed(
    "records",
    _key("entry_id"),
    _blob("subject", indexed=True),
    _blob("encounter", indexed=True),
    _word("status"),
)
SUBJECTS = _sealed("subjects", _key("subject"))
IDENTIFIERS = _sealed("identifiers", _key("identifier"), _key("subject"), Index("identifiers_subject", "subject"))
SUBJECT_KEYS = _sealed("subject_keys", _key("subject"), _number("year"))
RECEIVED_FILES = _sealed("received_files", _key("digest"))
SUMMARIES = _sealed("summaries", _key("subject"))

MESSAGES_MADE = _sealed("messages_made", _key("h_m"))
ONE_TIME_KEYS = _sealed(
    "one_time_keys", _key("public"), _blob("use_id", indexed=True), _word("status"), _time("erase_after")
)
RECEIVED_COPIES = _sealed("received_copies", _key("entry_id"), _key("use_id"))

NOTES = _sealed("notes", _key("about"), Column("kind", String, primary_key=True, index=True))

AUDIT_EVENTS = _sealed("audit_events", _number("seq"), _blob("use_id", indexed=True))
EDGE_REFUSALS = _sealed("edge_refusals", _number("seq"), _time("time"), _word("kind"))

CLAIMS = _sealed("claims", _key("op_id"))

INTEGRITY_PASSES = Table(
    "integrity_passes",
    SCHEMA,
    Column("name", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
INTEGRITY_FINDINGS = _sealed("integrity_findings", _key("root"))

API_KEYS = _sealed("api_keys", _key("token_hash"), _blob("key_id", indexed=True))
ANSWERS = _sealed("answers", _key("key_hash"), _time("expires"))
JOBS = _sealed("jobs", _key("job_id"), _word("state"), _time("started"))
CURSORS = Table(
    "cursors", SCHEMA, Column("name", String, primary_key=True), Column("height", BigInteger, nullable=False)
)
