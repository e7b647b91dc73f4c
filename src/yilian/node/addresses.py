"""Where the doors of other members are: what invitations and announcements said, kept in `ledger/peers.cbor`.

An address is only where to knock: who answers there is judged by the CA that the ledger names for the institution.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from yilian import canonical
from yilian.errors import VerificationError
from yilian.node import pki
from yilian.storage.disk import Disk, disk_errors
from yilian.values import InstitutionId
from yilian.workflows.governance.interface import institution_id_of

MOST_PEERS = 1024


class Peer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """Where a member's door is."""

    institution: InstitutionId
    ca: Annotated[bytes, Meta(max_length=8192)]
    address: Annotated[str, Meta(max_length=256)]


class Peers(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """A list of doors, as nodes tell each other and as a home keeps it."""

    peers: Annotated[tuple[Peer, ...], Meta(max_length=MOST_PEERS)]


class Addresses:
    """The doors that a node knows of; thread-safe. VerificationError where the file does not read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._peers: dict[InstitutionId, Peer] = {}
        if file.is_file():
            with disk_errors(f"file {file}"):
                content = file.read_bytes()
            self._peers = {peer.institution: peer for peer in canonical.decode(content, Peers).peers}

    def find(self, institution: InstitutionId) -> str:
        """Give where the door of an institution is, such as `https://127.0.0.1:8471`, "" where unknown."""
        found = self._peers.get(institution)
        return "" if found is None else found.address

    def all(self) -> tuple[Peer, ...]:
        """Give every door known."""
        with self._lock:
            return tuple(self._peers.values())

    def learn(self, peers: Iterable[Peer]) -> bool:
        """Keep doors, durably; say whether any was new or has moved.

        Raises:
            VerificationError: a door is no https address, its CA is not that of its institution, or they are too many.
        """
        with self._lock:
            known = dict(self._peers)
            for peer in peers:
                check_peer(peer)
                known[peer.institution] = peer
            if known == self._peers:
                return False
            if len(known) > MOST_PEERS:
                raise VerificationError(f"{len(known)} doors, expected at most {MOST_PEERS}: refuse them")
            with disk_errors(f"file {self._file}"):
                Disk().make_folder(self._file.parent)
                Disk().store(self._file, canonical.encode(Peers(peers=tuple(known.values()))))
            self._peers = known
            return True


def check_peer(peer: Peer) -> None:
    """Check that a door is an https address, and that its CA is the one of its institution; VerificationError."""
    rest = peer.address.removeprefix("https://")
    if rest == peer.address or not rest or not all(char.isalnum() or char in ".-:[]_" for char in rest):
        raise VerificationError(
            f"the door of {peer.institution.hex()} is said to be at {peer.address[:64]!r}, expected https://HOST:PORT: "
            "ask its operator"
        )
    if institution_id_of(pki.fingerprint(peer.ca)) != peer.institution:
        raise VerificationError(f"the door of {peer.institution.hex()} comes with the CA of another: ask its operator")
