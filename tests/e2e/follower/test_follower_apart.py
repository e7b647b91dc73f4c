"""A member on a node of its own: it joins, follows, exchanges with members elsewhere, and reads on while alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.follower.apart import Apart, founded, wait
from yilian.client.http import Client
from yilian.demo.residents import DemoOrganisation, generate
from yilian.standards.fhir.organisations import ProviderKind

CENTRE = DemoOrganisation(identifier="91320400000000001X", name="Lake Community Centre", kind=ProviderKind.COMMUNITY)
TOWNSHIP = DemoOrganisation(identifier="91320400000000003X", name="Township Centre", kind=ProviderKind.COMMUNITY)
HOSPITAL = DemoOrganisation(identifier="91320400000000002X", name="City Hospital", kind=ProviderKind.HOSPITAL)
RESIDENTS = 24


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    _write_input(folder, "centre", CENTRE, 7)
    _write_input(folder, "township", TOWNSHIP, 8)
    (folder / "secret.txt").write_text("correct horse\n")
    running = founded(folder)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _wallet_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YILIAN_WALLET_PASSPHRASE_FILE", "secret.txt")


def _write_input(folder: Path, slug: str, organisation: DemoOrganisation, seed: int) -> None:
    (folder / slug).mkdir()
    for name, content in generate(RESIDENTS, seed, (organisation, HOSPITAL)):
        (folder / slug / name).write_bytes(content)
    (folder / f"{slug}.toml").write_text(f'[organisations]\n"{organisation.identifier}" = "{slug}"\n')


def _granted(apart: Apart, slug: str, home: str, to: str) -> Any:  # noqa: ANN401 - what the command line prints
    """Let a centre import, its first patient consent by wallet, and the centre grant an entry to somebody."""
    apart.json(
        "record",
        "import",
        slug,
        "--mapping",
        f"{slug}.toml",
        "--only-mapped",
        "--as",
        f"{slug}-data-officer",
        home=home,
    )
    apart.json("screen", "--north", "--urban", "--as", f"{slug}-physician", home=home)
    wait(lambda: bool(apart.json("screen", "list", "--limit", "1", "--as", f"{slug}-physician", home=home)))
    listed = apart.json("screen", "list", "--limit", "1", "--as", f"{slug}-physician", home=home)
    wallet = f"{slug}.wallet"
    assert apart.plain("wallet", "new", wallet)[0] == 0
    apart.json("wallet", "register", wallet, "--subject", listed[0]["subject"], "--as", f"{slug}-physician", home=home)
    entries = apart.json("wallet", "entries", wallet, "--as", f"{slug}-physician", home=home)
    acting = ("--wallet", wallet, "--as", f"{slug}-physician")
    consent = apart.json("consent", "propose", "--to", to, "--depth", "1", *acting, home=home)["case_id"]
    apart.json("consent", "sign", consent, *acting, home=home)
    return apart.json(
        "grant", "issue", "--consent", consent, "--to", to, "--entry", entries[0]["entry"], "--deliveries", "2",
        "--as", f"{slug}-data-officer", home=home,
    )["case_id"]  # fmt: skip


def test_a_newcomer_joins_with_two_commands_and_one_file_and_stands_where_the_sequencer_stands(apart: Apart) -> None:
    height = apart.wait_level()
    follower, sequencer = apart.status("h2"), apart.status("h")

    assert (apart.early[0], "join after that" in apart.early[2]) == (4, True)
    assert apart.joined["state"] == "active"
    assert (follower["engine"], sequencer["engine"]) == ("follower", "sequencer")
    assert follower["height"] == height
    assert follower["app_hash"] == sequencer["app_hash"]
    assert [(item["slug"], item["state"]) for item in follower["institutions"]] == [("township", "active")]
    assert (follower["failure"], follower["sequencer"]) == ("", sequencer["sequencer"])


def test_members_on_two_nodes_fetch_from_each_other(apart: Apart) -> None:
    for label in ("physician", "data-officer"):
        apart.json(
            "network", "key", "register", "--label", label, "--role", label.replace("-", "_"),
            "--as", "township-officer", home="h2",
        )  # fmt: skip

    outward = _granted(apart, "township", "h2", "City Hospital")
    inward = _granted(apart, "centre", "h", "Township Centre")
    apart.wait_level()
    fetched = apart.json("record", "fetch", outward, "--as", "hospital-physician")
    received = apart.json("record", "fetch", inward, "--as", "township-physician", home="h2")
    apart.wait_level()

    assert (fetched["verified"], received["verified"]) == (True, True)
    assert apart.status("h2")["app_hash"] == apart.status("h")["app_hash"]


def test_a_follower_reads_alone_and_goes_on_when_the_sequencer_is_back(apart: Apart) -> None:
    level = apart.wait_level()
    apart.kill("h")
    words = ("network", "key", "register", "--label", "nurse", "--role", "nurse", "--as", "township-officer")

    members = apart.json("network", "members", home="h2")
    code, _, said = apart.run(*words, home="h2")
    wait(lambda: bool(apart.status("h2")["away"]))
    alone = apart.status("h2")
    apart.start("h")
    wait(lambda: not apart.status("h2")["away"])
    registered = apart.json(*words, home="h2")
    apart.wait_level()

    assert [item["slug"] for item in members if item["slug"]] == ["township"]
    assert "City Hospital" in [item["name"] for item in members if not item["slug"]]
    assert (code, "reads go on" in said) == (7, True)
    assert alone["height"] == level
    assert registered["key_id"]
    assert apart.status("h2")["app_hash"] == apart.status("h")["app_hash"]


def test_a_follower_that_was_off_catches_up_with_what_it_missed(apart: Apart) -> None:
    apart.stop("h2")
    before = apart.status("h")["log_size"]
    for number in range(3):
        folder = f"many{number}"
        (apart.folder / folder).mkdir()
        for name, content in generate(120, 100 + number, (CENTRE, HOSPITAL)):
            (apart.folder / folder / name).write_bytes(content)
        apart.json(
            "record", "import", folder, "--mapping", "centre.toml", "--only-mapped", "--as", "centre-data-officer"
        )
    missed = apart.status("h")["log_size"] - before

    started = time.monotonic()
    apart.start("h2")
    apart.wait_level()

    assert missed > 1_000
    assert time.monotonic() - started < 60
    assert apart.status("h2")["app_hash"] == apart.status("h")["app_hash"]
    with Client.from_file(apart.folder / "h2.people" / "township-officer.toml", language="en") as client:
        assert client.me()["institution"]
