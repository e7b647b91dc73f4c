"""Where doors are: kept, told apart from nonsense, and found again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from yilian.errors import VerificationError
from yilian.node import pki
from yilian.node.addresses import Addresses, Peer
from yilian.values import institution_id
from yilian.workflows.governance.interface import institution_id_of

CA = pki.make_ca("Lake Community Centre")[1]
CENTRE = institution_id_of(pki.fingerprint(CA))
DOOR = Peer(institution=CENTRE, ca=CA, address="https://10.0.0.7:8471")
MOVED = Peer(institution=CENTRE, ca=CA, address="https://[fd00::7]:8471")


def test_a_door_is_kept_and_found_after_a_restart(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path / "ledger" / "peers.cbor")

    learnt = [addresses.learn([DOOR]), addresses.learn([DOOR]), addresses.learn([MOVED])]
    again = Addresses(tmp_path / "ledger" / "peers.cbor")

    assert learnt == [True, False, True]
    assert (again.find(CENTRE), again.all()) == (MOVED.address, (MOVED,))
    assert again.find(institution_id(bytes(32))) == ""


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        pytest.param(Peer(institution=CENTRE, ca=CA, address="http://10.0.0.7:1"), "expected https", id="no-tls"),
        pytest.param(Peer(institution=CENTRE, ca=CA, address="https://"), "expected https", id="no-host"),
        pytest.param(Peer(institution=CENTRE, ca=CA, address="https://a/b?c"), "expected https", id="a-path"),
        pytest.param(
            Peer(institution=institution_id(bytes(32)), ca=CA, address=DOOR.address), "CA of another", id="another-ca"
        ),
    ],
)
def test_what_is_no_door_is_refused_and_nothing_is_kept(tmp_path: Path, peer: Peer, said: str) -> None:
    addresses = Addresses(tmp_path / "peers.cbor")

    with pytest.raises(VerificationError, match=said):
        addresses.learn([DOOR, peer])

    assert addresses.all() == ()
