"""A newcomer that begins with a member's snapshot, believed by a trust file, instead of executing every block."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.follower.apart import Apart, founded, wait


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    running = founded(tmp_path_factory.mktemp("snapshot"))
    yield running
    running.close()


def test_a_newcomer_begins_with_a_snapshot_and_follows_from_there(apart: Apart) -> None:
    apart.json("network", "trust", "-o", "lake.trust", "--as", "centre-officer")
    asked = apart.json(
        "node", "init", "--slug", "village", "--name", "Village Centre", "--kind", "community_centre",
        "--officer", "node", home="h3",
    )  # fmt: skip
    invited = apart.json("network", "invite", "--request", asked["request"], "--as", "centre-officer")
    for officer in ("centre-officer", "hospital-officer"):
        apart.json("network", "vote", invited["proposal"], "--as", officer)
    apart.json("network", "apply", invited["proposal"], "--as", "centre-officer")
    (apart.folder / "other.trust").write_text(
        (apart.folder / "lake.trust").read_text().replace(apart.status("h")["chain"], "00" * 32)
    )

    refused = apart.run("node", "join", invited["invitation"], "--trust", "other.trust", home="h3")
    joined = apart.json("node", "join", invited["invitation"], "--trust", "lake.trust", home="h3")
    snapshots = list((apart.folder / "h" / "ledger" / "snapshots").glob("*/manifest.cbor"))
    apart.start("h3")
    target = apart.status("h")["height"]
    wait(lambda: apart.status("h3")["height"] >= target)
    members = apart.json("network", "members", home="h3")
    checked = apart.status("h3")
    apart.stop("h3")

    assert (refused[0], "of chain" in refused[2]) == (5, True)
    assert joined["state"] == "active"
    assert len(snapshots) == 1
    assert checked["app_hash"] == apart.status("h")["app_hash"]
    assert [item["slug"] for item in members if item["slug"]] == ["village"]
    assert len(members) == 5
    assert apart.json("node", "check", home="h3")["ok"] is True
