"""Move an institution out of a home that hosts several, into a home and onto a machine of its own.

Its keys, vault, blobs and access files go; the ledger comes to the new home from the sequencer. The home that hosted it
must not run. Where it is cut short the institution is active in neither home, and the same move finishes it: never do
two nodes act for one institution.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from yilian.errors import ConflictError
from yilian.ledger.block import Genesis, member_id
from yilian.ledger.sequencer import sequencer_of
from yilian.node.genesis import load_founding
from yilian.node.home import INSTITUTION, Home, Institution, read_institution, store_private
from yilian.node.network import read_access
from yilian.node.settings import Settings, to_toml
from yilian.storage.disk import Disk, disk_errors
from yilian.storage.lmdb import LmdbState
from yilian.values import InstitutionId

_UNDER_WAY = ".moving-"


def move_out(home: Home, slug: str, target: Home, settings: Settings) -> Institution:
    """Move an institution to a new home, which then runs as a follower.

    Args:
        home: the home that hosts it; its node is stopped.
        slug: its short name there.
        target: a home without an institution of another name.
        settings: of the new home; names the sequencer's door where that is not announced yet.

    Raises:
        ConflictError: the home runs, it orders the chain's blocks for this institution, or the target hosts others.
        NotFoundError: no such institution, or no network here.
    """
    with home.locked():
        founding = load_founding(home)
        leaving = home.path / f"{_UNDER_WAY}{slug}"
        institution = read_institution(leaving / INSTITUTION) if leaving.is_dir() else home.institution(slug)
        if institution.id == _sequencer(home, founding.genesis):
            raise ConflictError(f"{slug} orders the blocks of this chain: let the members replace the sequencer first")
        others = [item.slug for item in target.institutions() if item.slug != slug]
        if others:
            raise ConflictError(f"{target.path} hosts {', '.join(others)} already, expected a new home: name another")
        target.make()
        store_private(target.settings_file, to_toml(settings).encode())
        store_private(target.genesis_file, founding.content)
        for ca_der in home.stored_cas():
            target.store_ca(ca_der)
        with disk_errors(f"institution {slug}"):
            for access in _access_files(home, slug):
                store_private(target.clients / access.name, access.read_bytes())
                access.unlink()
            for key in sorted(home.people.glob(f"{slug}-*.key")):  # made here for a device, not handed over yet
                store_private(target.people / key.name, key.read_bytes())
                key.unlink()
            _move_folder(home.folder(slug), leaving, target.folder(slug), target.path / leaving.name)
    return target.institution(slug)


def _sequencer(home: Home, genesis: Genesis) -> InstitutionId:
    if not (home.state / "data.mdb").is_file():
        return member_id(genesis.founders[0].member.ca_fingerprint)
    state = LmdbState.reading(home.state)
    try:
        return sequencer_of(state)
    finally:
        state.close()


def _access_files(home: Home, slug: str) -> list[Path]:
    found = [*home.clients.glob("*.toml"), *home.people.glob("*.toml")]
    return [file for file in sorted(found) if read_access(file).institution == slug]


def _move_folder(folder: Path, leaving: Path, placed: Path, arriving: Path) -> None:
    """Take a folder out of use, copy it whole and durable, put the copy to use, then remove what was left."""
    disk = Disk()
    if not leaving.is_dir():
        folder.rename(leaving)
        disk.sync_folder(folder.parent)
        disk.sync_folder(leaving.parent)
    if not placed.is_dir():
        shutil.rmtree(arriving, ignore_errors=True)
        shutil.copytree(leaving, arriving)
        for place in (arriving, *(path for path in arriving.rglob("*") if path.is_dir())):
            for file in place.iterdir():
                if file.is_file():
                    with file.open("rb") as opened:
                        disk.sync(opened.fileno())
            disk.sync_folder(place)
        disk.make_folder(placed.parent)
        arriving.rename(placed)
        disk.sync_folder(placed.parent)
    shutil.rmtree(leaving)
    disk.sync_folder(leaving.parent)
