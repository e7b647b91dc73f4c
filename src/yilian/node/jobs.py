"""Long work with progress: runs in threads, stands in the vault of its institution, survives being asked about."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import msgspec
import structlog

from yilian.errors import ConflictError, UnavailableError, YilianError
from yilian.node.host import Host
from yilian.storage.vault.access import Job, JobState

WORKERS = 2
SLOW = frozenset({"integrity"})
"""Kinds that run for hours at a bounded rate: one after the other, on a thread that nothing else waits for."""
REPORT_EVERY_S = 0.5
_LOG = structlog.get_logger("yilian.jobs")


class Stopped(UnavailableError):  # noqa: N818 - what happened to the work
    """The node stops: the job ends as FAILED and may be started again."""


class Progress:
    """What a job reports while it works; numbers and codes only, no patient data."""

    def __init__(self, host: Host, job: Job, stopping: threading.Event) -> None:
        self._host = host
        self._job = job
        self._stopping = stopping
        self._next = 0.0

    def report(self, figures: Mapping[str, int | float | str]) -> None:
        """Say how far it is; written twice a second at most.

        Raises:
            Stopped: the node stops; let it pass.
        """
        if self._stopping.is_set():
            raise Stopped("the node stops, expected it to run on: start the job again")
        now = time.monotonic()
        if now >= self._next:
            self._next = now + REPORT_EVERY_S
            text = msgspec.json.encode(figures).decode()
            self._host.vault.access.put_job(msgspec.structs.replace(self._job, progress=text))


Work = Callable[[Progress], Mapping[str, object]]


class Jobs:
    """The jobs of all institutions of a process; one of a kind at a time for each institution."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="job")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow-job")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[bytes, tuple[str, str, Future[None]]] = {}

    def start(self, host: Host, kind: str, work: Work) -> bytes:
        """Start work and give its job id; what the work returns becomes the last progress.

        Raises:
            ConflictError: a job of this kind runs at this institution.
            UnavailableError: the node stops.
        """
        job = Job(job_id=secrets.token_bytes(16), kind=kind, state=JobState.RUNNING, started=_now())
        with self._lock:
            if self._stopping.is_set():
                raise UnavailableError("the node stops: start the job again once it runs")
            if any(names[:2] == (host.slug, kind) for names in self._running.values()):
                raise ConflictError(f"a job {kind} runs at {host.slug} already: wait until it is done")
            host.vault.access.put_job(job)
            future = (self._slow if kind in SLOW else self._pool).submit(self._run, host, job, work)
            self._running[job.job_id] = (host.slug, kind, future)
        future.add_done_callback(lambda _: self._running.pop(job.job_id, None))
        return job.job_id

    def get(self, host: Host, job_id: bytes) -> Job:
        """Give a job as it stands; NotFoundError where the institution has none of this id."""
        return host.vault.access.get_job(job_id)

    def wait(self, host: Host, job_id: bytes, timeout_s: float) -> Job:
        """Wait for a job to end, and give it; UnavailableError where it has not by then."""
        running = self._running.get(job_id)
        if running is not None:
            try:
                running[2].result(timeout_s)
            except TimeoutError as error:
                raise UnavailableError(f"job {job_id.hex()} runs longer than {timeout_s} s: ask again") from error
        return self.get(host, job_id)

    def close_interrupted(self, host: Host) -> None:
        """Mark what an earlier process left running as FAILED."""
        for job in host.vault.access.jobs(JobState.RUNNING):
            if job.job_id not in self._running:
                _finish(host, job, JobState.FAILED, {"error": "INTERRUPTED"})

    def close(self) -> None:
        """Let running jobs stop at their next report, and wait for them."""
        with self._lock:
            self._stopping.set()
        for pool in (self._pool, self._slow):
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, host: Host, job: Job, work: Work) -> None:
        progress = Progress(host, job, self._stopping)
        try:
            result = work(progress)
        except YilianError as error:
            _finish(host, job, JobState.FAILED, {"error": type(error).__name__, "message": str(error)})
            _LOG.warning("job failed", job=job.job_id.hex(), kind=job.kind, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a worker: the job must not stay RUNNING
            with suppress(YilianError):
                _finish(host, job, JobState.FAILED, {"error": type(error).__name__})
            _LOG.exception("job broke", job=job.job_id.hex(), kind=job.kind, error=type(error).__name__)
        else:
            _finish(host, job, JobState.DONE, result)


def _finish(host: Host, job: Job, state: JobState, figures: Mapping[str, object]) -> None:
    text = msgspec.json.encode(figures).decode()
    host.vault.access.put_job(msgspec.structs.replace(job, state=state, progress=text, finished=_now()))


def _now() -> int:
    return time.time_ns() // 1_000_000
