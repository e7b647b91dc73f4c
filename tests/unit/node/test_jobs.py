"""Jobs: they run, report, fail without staying RUNNING, and stop with the node."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from yilian.errors import ConflictError, NotFoundError, UnavailableError
from yilian.node.host import Host
from yilian.node.jobs import Jobs, Progress
from yilian.storage.vault import Vault
from yilian.storage.vault.access import Job, JobState


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    vault = Vault(tmp_path / "vault.db", bytes(32))
    yield cast("Host", SimpleNamespace(slug="centre", vault=vault))
    vault.close()


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()


def _figures(job: Job) -> dict[str, object]:
    return msgspec.json.decode(job.progress, type=dict[str, object])


def test_what_work_returns_is_the_last_progress_of_its_job(host: Host, jobs: Jobs) -> None:
    def work(progress: Progress) -> Mapping[str, object]:
        progress.report({"records": 1})
        return {"records": 7}

    done = jobs.wait(host, jobs.start(host, "import", work), 10)
    assert (done.state, _figures(done), done.finished is not None) == (JobState.DONE, {"records": 7}, True)


def test_an_error_of_ours_ends_the_job_as_failed_with_its_message(host: Host, jobs: Jobs) -> None:
    def work(_progress: Progress) -> Mapping[str, object]:
        raise NotFoundError("there is no folder: name one")

    failed = jobs.wait(host, jobs.start(host, "import", work), 10)
    assert failed.state == JobState.FAILED
    assert _figures(failed) == {"error": "NotFoundError", "message": "there is no folder: name one"}


def test_a_fault_ends_the_job_as_failed_without_its_words(host: Host, jobs: Jobs) -> None:
    def work(_progress: Progress) -> Mapping[str, object]:
        raise RuntimeError("a name")

    failed = jobs.wait(host, jobs.start(host, "import", work), 10)
    assert (failed.state, _figures(failed)) == (JobState.FAILED, {"error": "RuntimeError"})


def test_one_job_of_a_kind_runs_at_an_institution_at_a_time(host: Host, jobs: Jobs) -> None:
    go_on = threading.Event()

    def work(_progress: Progress) -> Mapping[str, object]:
        go_on.wait(10)
        return {}

    first = jobs.start(host, "import", work)
    with pytest.raises(ConflictError, match="already"):
        jobs.start(host, "import", work)
    with pytest.raises(UnavailableError, match="longer than"):
        jobs.wait(host, first, 0)
    go_on.set()
    assert jobs.wait(host, first, 10).state == JobState.DONE


def test_a_running_job_stops_at_its_next_report_when_the_node_stops(host: Host) -> None:
    jobs, reported = Jobs(), threading.Event()

    def work(progress: Progress) -> Mapping[str, object]:
        while True:
            progress.report({})
            reported.set()

    job_id = jobs.start(host, "import", work)
    assert reported.wait(10)
    jobs.close()
    stopped = jobs.get(host, job_id)
    with pytest.raises(UnavailableError, match="stops"):
        jobs.start(host, "import", work)
    assert (stopped.state, _figures(stopped)["error"]) == (JobState.FAILED, "Stopped")


def test_what_a_killed_process_left_running_is_failed_at_the_next_start(host: Host, jobs: Jobs) -> None:
    host.vault.access.put_job(Job(job_id=b"1", kind="import", state=JobState.RUNNING, started=1))
    jobs.close_interrupted(host)
    assert _figures(jobs.get(host, b"1")) == {"error": "INTERRUPTED"}
