"""Timestamps and the check of sealed bytes over HTTP and on the command line of a running node."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.authority import Authority
from yilian.cli.main import main
from yilian.errors import ConflictError, NoGrantError, NotFoundError
from yilian.ledger.checkpoint import parse_note
from yilian.node.anchoring import stamped_text
from yilian.node.control import NodeControl
from yilian.node.settings import AnchoringSettings, IntegritySettings
from yilian.node.timestamping import check_stamp
from yilian.node.upkeep import Upkeep, UpkeepApi
from yilian.storage.vault.access import JobState
from yilian.storage.vault.subjects import Subject, new_subject_ref
from yilian.testing.served import SETTINGS, Served, serve
from yilian.values import EntryId, day_of, month_of
from yilian.workflows.catalog.service import NewRecord, publish_records


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("upkeep")
    roots = folder / "roots.pem"
    roots.write_bytes(authority.root_pem)
    settings = msgspec.structs.replace(
        SETTINGS,
        anchoring=AnchoringSettings(authorities=(authority.url,), roots=str(roots)),
        integrity=IntegritySettings(rate=10**10),
    )
    with serve(folder, settings=settings) as node:
        yield node


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def publish(served: Served, *payloads: bytes) -> tuple[EntryId, ...]:
    host = served.node.hosts["centre"]
    subject = new_subject_ref()
    host.vault.subjects.put([Subject(subject_ref=subject, identity=b"{}", identifiers=(f"urn:x|{subject.hex()}",))])
    month = month_of(day_of(served.node.clock()))
    records = [
        NewRecord(subject_ref=subject, kind="C0002", level=3, month=month, payload=payload) for payload in payloads
    ]
    return tuple(publish_records(host, records))


def blob_of(served: Served, entry: EntryId) -> Path:
    host = served.node.hosts["centre"]
    root = host.vault.records.get(entry).root.hex()
    return host.folder / "blobs" / root[:2] / root[2:]


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out))


# ---------------------------------------------------------------------------------------------------------- timestamps


def test_the_newest_checkpoint_is_stamped_by_itself_and_given_out_with_its_token(
    served: Served, authority: Authority
) -> None:
    until(lambda: served.node.anchors.newest() is not None)
    with served.client("bureau-inspector") as client:
        listed = client.get("/v1/anchors")
        newest = listed["items"][0]
        whole = client.get(f"/v1/anchors/{newest['height']}")
        with pytest.raises(NotFoundError, match="wait for the next one"):
            client.get("/v1/anchors/1000000")
    assert (listed["max_age_s"], listed["authorities"]) == (0, [authority.url])
    assert 0 <= listed["age_s"] < 60
    note = parse_note(whole["note"].encode())
    assert (note.checkpoint.chain, note.checkpoint.height) == (served.node.chain, whole["height"])
    assert note.lines, "it is signed by the sequencer"
    text = stamped_text(whole["note"].encode())
    assert text == note.checkpoint.text().encode()
    assert check_stamp(base64.b64decode(whole["response"]), text, [authority.root]) == whole["time"]


def test_the_status_of_the_node_says_how_old_the_newest_timestamp_is(served: Served) -> None:
    until(lambda: served.node.anchors.newest() is not None)
    control = NodeControl(served.home)
    status = control.status()
    control.close()
    assert 0 <= status["anchor_age_s"] < 60
    assert 0 <= status["anchor_height"] <= status["height"]


def test_a_timestamp_is_listed_and_taken_away_on_the_command_line(
    served: Served, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: served.node.anchors.newest() is not None)
    access = ["--as", str(served.access_file("centre-officer")), "--home", str(served.home.path)]
    assert main(["log", "anchors", *access]) == 0
    assert authority.url in capsys.readouterr().out
    out = tmp_path / "a.tsr"
    assert main(["log", "anchor", "0", "-o", str(tmp_path / "a.txt"), *access]) == 2
    assert main(["log", "anchor", "1000000", "-o", str(out), *access]) == 3
    assert main(["log", "anchor", "0", "-o", str(out), *access]) == 0
    assert check_stamp(out.read_bytes(), (tmp_path / "a.txt").read_bytes(), [authority.root]) > 0
    assert parse_note((tmp_path / "a.note").read_bytes()).lines


# ----------------------------------------------------------------------------------------------------------- integrity


def test_a_whole_store_passes_and_a_flipped_byte_ends_with_exit_code_5(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, hurt = publish(served, b"kept", b"hurt")
    access = ["--as", str(served.access_file("centre-data-officer")), "--home", str(served.home.path), "--json"]
    assert main(["record", "verify-all", *access]) == 0
    assert (said(capsys)["findings"], blob_of(served, kept).is_file()) == ([], True)

    whole = blob_of(served, hurt).read_bytes()
    blob_of(served, hurt).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["record", "verify-all", "--repair", *access]) == 5
    (finding,) = list(said(capsys)["findings"])  # type: ignore[call-overload]
    assert (finding["entry"], finding["kind"], finding["wrong"]) == (hurt.hex(), "record", "changed")
    assert main(["record", "integrity", *access]) == 5
    assert main(["record", "integrity", *access[:-1], "--lang", "zh"]) == 5
    assert "被改动" in capsys.readouterr().out

    blob_of(served, hurt).write_bytes(whole)
    assert main(["record", "verify-all", *access]) == 0
    assert main(["record", "integrity", *access]) == 0
    served.node.hosts["centre"].blobs.put(served.node.hosts["centre"].vault.records.get(hurt).root, whole)


def test_only_who_keeps_the_records_may_begin_a_check(served: Served) -> None:
    with served.client("centre-physician") as client, pytest.raises(NoGrantError):
        client.post("/v1/integrity", {})
    with served.client("bureau-inspector") as client:
        assert client.get("/v1/integrity")["findings"] == []
        with pytest.raises(NoGrantError):
            client.post("/v1/integrity", {})


def test_a_check_that_runs_is_cancelled_and_goes_on_when_asked(served: Served) -> None:
    publish(served, *(bytes([number]) * 1000 for number in range(5)))
    settings = served.node.settings
    served.node.settings = msgspec.structs.replace(settings, integrity=IntegritySettings(rate=500))
    try:
        with served.client("centre-data-officer") as client:
            job = client.post("/v1/integrity", {})
            with pytest.raises(ConflictError, match="runs at centre already"):
                client.post("/v1/integrity", {})
            until(lambda: "total" in client.get(f"/v1/jobs/{job['job_id']}")["progress"])
            client.delete(f"/v1/jobs/{job['job_id']}")
            until(lambda: client.get(f"/v1/jobs/{job['job_id']}")["state"] == "FAILED")
            paused = client.get("/v1/integrity")
            assert paused["finished"] is None
            served.node.settings = settings
            again = client.post("/v1/integrity", {})
            client.wait_for_job(again["job_id"])
            done = client.get("/v1/integrity")
    finally:
        served.node.settings = settings
    assert (done["started"], done["findings"]) == (paused["started"], [])
    assert done["done"] == done["total"] >= 5


def test_a_check_begins_when_it_is_due_and_one_that_a_stop_cut_off_at_once(served: Served) -> None:
    host = served.node.hosts["centre"]
    publish(served, b"due")
    begun: list[str] = []

    def start(one: object, kind: str, work: object) -> bytes:
        assert getattr(one, "slug", "") in served.node.hosts
        begun.append(f"{getattr(one, 'slug', '')} {kind}")
        return bytes(16)

    settings = served.node.settings
    upkeep = Upkeep(served.node, UpkeepApi(served.node, start))
    run = host.vault.integrity.find_pass()
    try:
        served.node.settings = msgspec.structs.replace(settings, integrity=IntegritySettings(every=86_400))
        with served.client("centre-data-officer") as client:
            client.wait_for_job(client.post("/v1/integrity", {})["job_id"])
        run = host.vault.integrity.find_pass()
        assert run is not None
        assert upkeep.begin_due() == 0, "the network is younger than a day"
        host.vault.integrity.save(msgspec.structs.replace(run, started=run.started - 86_400_000))
        assert upkeep.begin_due() == 1
        host.vault.integrity.save(msgspec.structs.replace(run, finished=None))
        assert upkeep.begin_due() == 1
        host.vault.integrity.save(msgspec.structs.replace(run, finished=None, is_paused=True))
        assert upkeep.begin_due() == 0
    finally:
        served.node.settings = settings
        if run is not None:
            host.vault.integrity.save(run)
    assert begun == ["centre integrity"] * 2
    assert not host.vault.access.jobs(JobState.RUNNING)
