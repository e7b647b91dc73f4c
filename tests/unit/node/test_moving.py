"""An institution moves to a home of its own: whole, never active in two."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.errors import ConflictError, NotFoundError
from yilian.ledger.members import InstitutionKind
from yilian.node.compose import now
from yilian.node.genesis import load_founding
from yilian.node.home import Home, InstitutionSpec
from yilian.node.moving import move_out
from yilian.node.network import NetworkSpec, default_people, found_demo
from yilian.node.settings import ApiSettings, Settings, load

SPEC = NetworkSpec(
    name="moving",
    institutions=tuple(
        InstitutionSpec(slug=slug, name=slug.title(), kind=kind, people=default_people(kind))
        for slug, kind in (("centre", InstitutionKind.COMMUNITY_CENTRE), ("hospital", InstitutionKind.HOSPITAL))
    ),
    tree_depth=8,
)


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Home, Home, Settings]:
    home, target = Home(tmp_path / "h"), Home(tmp_path / "own")
    found_demo(home, Settings(), SPEC, now())
    return home, target, Settings(passphrase_file=str(tmp_path / "h.passphrase"), api=ApiSettings(port=0))


def test_everything_of_an_institution_goes_to_its_own_home(homes: tuple[Home, Home, Settings]) -> None:
    home, target, settings = homes
    before = {path.name for path in home.folder("hospital").rglob("*") if path.is_file()}

    home.people.mkdir(exist_ok=True)
    (home.people / "hospital-physician.key").write_bytes(b"sealed")

    moved = move_out(home, "hospital", target, settings)

    assert (target.people / "hospital-physician.key").read_bytes() == b"sealed"
    assert [item.slug for item in home.institutions()] == ["centre"]
    assert target.institutions() == [moved]
    assert {path.name for path in target.folder("hospital").rglob("*") if path.is_file()} == before
    assert load_founding(target).genesis.chain == load_founding(home).genesis.chain
    assert load(target.settings_file, {}) == settings
    assert not list(home.clients.glob("hospital-*"))
    assert list(target.clients.glob("hospital-*"))
    assert target.keystore("hospital", target.passphrase(settings)).names()


def test_the_sequencer_does_not_move(homes: tuple[Home, Home, Settings]) -> None:
    home, target, settings = homes
    with pytest.raises(ConflictError, match="centre orders the blocks"):
        move_out(home, "centre", target, settings)
    assert not target.institutions()


def test_a_move_that_was_cut_is_finished_by_the_same_move(homes: tuple[Home, Home, Settings]) -> None:
    home, target, settings = homes
    home.folder("hospital").rename(home.path / ".moving-hospital")
    (target.path / ".moving-hospital").mkdir(parents=True)

    moved = move_out(home, "hospital", target, settings)

    assert target.institutions() == [moved]
    assert not (home.path / ".moving-hospital").exists()
    assert not (target.path / ".moving-hospital").exists()


def test_a_home_that_runs_keeps_its_institutions(homes: tuple[Home, Home, Settings]) -> None:
    home, target, settings = homes
    with home.locked(), pytest.raises(ConflictError):
        move_out(home, "hospital", target, settings)
    assert len(home.institutions()) == 2


def test_a_home_that_hosts_others_takes_none(homes: tuple[Home, Home, Settings], tmp_path: Path) -> None:
    home, _, settings = homes
    other = Home(tmp_path / "other")
    found_demo(other, Settings(), SPEC, now())
    with pytest.raises(ConflictError, match="hosts centre"):
        move_out(home, "hospital", other, settings)
    assert len(home.institutions()) == 2


def test_what_is_not_here_does_not_move(homes: tuple[Home, Home, Settings]) -> None:
    home, target, settings = homes
    with pytest.raises(NotFoundError, match="no institution clinic"):
        move_out(home, "clinic", target, settings)
