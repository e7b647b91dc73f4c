"""What the node keeps for its callers and its own work: API keys, remembered answers, cursors, jobs."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import sqlalchemy as sa

from yilian.storage.vault.core import SealedTable, VaultCore
from yilian.storage.vault.schema import ANSWERS, API_KEYS, CURSORS, JOBS
from yilian.values import KeyId


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's key, bound to a registered person key."""

    token_hash: bytes
    """SHA-256 of the random token; the token itself is shown once and not kept."""
    key_id: KeyId
    role: str
    label: str
    is_revoked: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered to a request with an `Idempotency-Key`."""

    key_hash: bytes
    request: bytes
    """Digest of the request: the same key with another request is a conflict."""
    status: int
    body: bytes
    expires: int
    """Milliseconds."""


class JobState(StrEnum):
    """Where a job stands."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Long work with progress. `progress` is JSON without patient data."""

    job_id: bytes
    kind: str
    state: JobState
    progress: str = "{}"
    started: int
    """Milliseconds."""
    finished: int | None = None


class Access:
    """Small tables of the node's own, in the vault because they are neither public nor rebuildable."""

    def __init__(self, vault: VaultCore) -> None:
        self._vault = vault
        self._api_keys = SealedTable(
            vault, API_KEYS, ApiKey, columns=lambda key: {"token_hash": key.token_hash, "key_id": key.key_id}
        )
        self._answers = SealedTable(
            vault, ANSWERS, Answer, columns=lambda answer: {"key_hash": answer.key_hash, "expires": answer.expires}
        )
        self._jobs = SealedTable(
            vault,
            JOBS,
            Job,
            columns=lambda job: {"job_id": job.job_id, "state": str(job.state), "started": job.started},
        )

    def put_api_key(self, key: ApiKey) -> None:
        """Keep an API key, in place of the one with its token hash."""
        self._api_keys.put([key])

    def find_api_key(self, token_hash: bytes) -> ApiKey | None:
        """Give an API key, revoked ones too, or None."""
        return self._api_keys.find(token_hash=token_hash)

    def api_keys(self) -> list[ApiKey]:
        """Give all API keys."""
        return self._api_keys.select()

    def revoke_api_key(self, token_hash: bytes) -> None:
        """Let an API key open nothing any more; NotFoundError where there is none."""
        with self._vault.transaction():
            self._api_keys.put([msgspec.structs.replace(self._api_keys.get(token_hash=token_hash), is_revoked=True)])

    def remember(self, answer: Answer) -> None:
        """Keep an answer; ConflictError where this key has one."""
        self._answers.insert([answer])

    def find_answer(self, key_hash: bytes) -> Answer | None:
        """Give the answer remembered under a key, or None."""
        return self._answers.find(key_hash=key_hash)

    def forget_expired(self, now: int) -> int:
        """Drop answers that expired before `now` (milliseconds), and give their number."""
        return self._answers.delete(ANSWERS.c.expires < now)

    def put_job(self, job: Job) -> None:
        """Keep a job as it stands now."""
        self._jobs.put([job])

    def get_job(self, job_id: bytes) -> Job:
        """Give a job; NotFoundError where there is none."""
        return self._jobs.get(job_id=job_id)

    def jobs(self, state: JobState | None = None) -> list[Job]:
        """Give the jobs, all or those that stand so, the oldest first."""
        where = [] if state is None else [JOBS.c.state == state]
        return self._jobs.select(*where, order=JOBS.c.started)

    def cursor(self, name: str) -> int:
        """Give the height up to which a reactor has worked, 0 at first."""
        with self._vault.reading() as connection:
            return connection.execute(sa.select(CURSORS.c.height).where(CURSORS.c.name == name)).scalar() or 0

    def set_cursor(self, name: str, height: int) -> None:
        """Set the height up to which a reactor has worked, in the transaction of what it wrote there."""
        with self._vault.transaction() as connection:
            connection.execute(CURSORS.insert().prefix_with("OR REPLACE"), {"name": name, "height": height})
