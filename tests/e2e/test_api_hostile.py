"""What a caller of the API must not get: by a key that fell, by a path of the machine, by streams without end."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from yilian.client.http import Client
from yilian.errors import NoGrantError, YilianError
from yilian.testing.served import SETTINGS, Served, serve
from yilian.web.app import stream


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("incoming")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Iterator[Served]:
    imports = msgspec.structs.replace(SETTINGS.imports, folders=f"{folders}/{{institution}}")
    settings = msgspec.structs.replace(SETTINGS, imports=imports)
    for slug in ("centre", "hospital"):
        (folders / slug).mkdir()
    with serve(tmp_path_factory.mktemp("hostile"), settings=settings) as node:
        yield node


def _import(client: Client, path: Path) -> dict[str, object]:
    job: dict[str, object] = client.post("/v1/imports", {"path": str(path)})
    return job


def test_an_import_reads_nothing_outside_the_folders_of_the_callers_institution(served: Served, folders: Path) -> None:
    (folders / "hospital" / "theirs.json").write_text("{}")
    (folders / "centre" / "link.json").symlink_to(folders / "hospital" / "theirs.json")
    with served.client("centre-data-officer") as officer:
        for path in (
            folders / "hospital",
            folders / "centre" / ".." / "hospital" / "theirs.json",
            folders / "centre" / "link.json",
            served.home.path,
            Path("/etc"),
        ):
            with pytest.raises(NoGrantError, match="path of the import"):
                _import(officer, path)
        figures = officer.wait_for_job(str(_import(officer, folders / "centre")["job_id"]))["progress"]
    assert figures["files"] == 0


def test_a_path_that_is_not_allowed_does_not_say_whether_something_lies_there(served: Served, folders: Path) -> None:
    with served.client("centre-data-officer") as officer:
        for name in ("theirs.json", "nothing.json"):
            with pytest.raises(NoGrantError, match="outside the folders"):
                _import(officer, folders / "hospital" / name)


def test_an_api_key_falls_with_the_persons_key_on_the_ledger(served: Served) -> None:
    with served.client("hospital-physician") as physician, served.client("hospital-officer") as officer:
        me = physician.me()
        asked = {"command": {"reason": "lost", "compromised_since": 0}, "case_id": me["key_id"]}
        officer.post("/v1/workflows/governance/key.revoke", asked)
        time.sleep(1.1)  # a key once found is known for a second
        with pytest.raises(YilianError, match="API key is unknown or revoked"):
            physician.get("/v1/records/received")


def test_only_so_many_streams_are_open_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 3)
    token = "Bearer " + tomllib.loads(served.access_file("centre-physician").read_text())["token"]
    headers, following = {"authorization": token}, []
    with ExitStack() as opened:
        client = opened.enter_context(httpx.Client(base_url=served.url, headers=headers, timeout=20))
        for _ in range(3):
            lines = opened.enter_context(client.stream("GET", "/v1/events")).iter_lines()
            assert next(lines)
            following.append(lines)
        with client.stream("GET", "/v1/events") as answer:
            assert answer.status_code == 503
    with served.client("centre-physician") as physician:
        assert physician.me()["slug"] == "centre"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/records/fetch", b"[" * 500_000, id="nested-too-deep"),
        pytest.param("/v1/submit", b'{"core":"80","persons":[{"valid_until":' + b"9" * 30 + b"}]}", id="over-64-bits"),
        pytest.param("/v1/entries?first_month=99999999999999999999", None, id="month-over-64-bits"),
        pytest.param("/v1/operations?first=99999999999999999999&last=1", None, id="height-over-64-bits"),
    ],
)
def test_what_makes_no_sense_is_the_callers_fault(served: Served, path: str, body: bytes | None) -> None:
    token = tomllib.loads(served.access_file("centre-physician").read_text())["token"]
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answer = httpx.request("GET" if body is None else "POST", served.url + path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "SettingsError")


def test_ids_are_found_by_any_beginning(served: Served) -> None:
    with served.client("centre-data-officer") as officer, served.client("centre-physician") as physician:
        key = physician.me()["key_id"]
        founders = [one["id"] for one in officer.get("/v1/network/members")]
        assert officer.get(f"/v1/ids/{founders[0][:7]}")["ids"] == [founders[0]]
        assert officer.get(f"/v1/ids/{'0' * 63}")["ids"] == []
        assert officer.get(f"/v1/ids/{key}")["ids"] == [key]
