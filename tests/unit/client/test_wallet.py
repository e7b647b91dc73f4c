"""The wallet file: what it signs, what it finds, and what does not open it."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from yilian.client.wallet import AHEAD, Wallet, opened_case_id
from yilian.crypto.intl import hpke_wrap
from yilian.crypto.suite import framed, sha256, verify
from yilian.crypto.tags import entry_id, subject_tag
from yilian.errors import ConflictError, NotFoundError, VerificationError
from yilian.values import Digest, EntryId, InstitutionId, case_id, institution_id, op_id

PASSPHRASE = b"correct horse"
CHAIN = sha256(b"chain")
CENTRE, HOSPITAL = institution_id(sha256(b"centre")), institution_id(sha256(b"hospital"))
KEY = sha256(b"subject key")


def _sealed(wallet: Wallet, chain: Digest, custodian: InstitutionId, year: int, key: bytes) -> bytes:
    info = framed("yilian/subject-key/v1", chain, custodian, year.to_bytes(4, "big"))
    return hpke_wrap(wallet.exchange_key, key, info)


def _catalogue(*entries: EntryId) -> dict[EntryId, str]:
    return dict.fromkeys(entries, "current")


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet.create(tmp_path / "patient.wallet", PASSPHRASE)


def test_a_wallet_opens_again_with_its_passphrase_and_keeps_its_keys(wallet: Wallet, tmp_path: Path) -> None:
    wallet.add_keys(CHAIN, [(CENTRE, 2026, _sealed(wallet, CHAIN, CENTRE, 2026, KEY))])

    again = Wallet.load(tmp_path / "patient.wallet", PASSPHRASE)

    assert again.exchange_key == wallet.exchange_key
    assert again.keys == wallet.keys
    assert again.keys[0].key == KEY


def test_a_wallet_is_readable_by_its_owner_alone_and_holds_no_secret_in_the_clear(
    wallet: Wallet, tmp_path: Path
) -> None:
    wallet.add_keys(CHAIN, [(CENTRE, 2026, _sealed(wallet, CHAIN, CENTRE, 2026, KEY))])
    file = tmp_path / "patient.wallet"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert bytes(KEY) not in file.read_bytes()


def test_another_passphrase_does_not_open_it(wallet: Wallet, tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        Wallet.load(tmp_path / "patient.wallet", b"another")


def test_a_wallet_is_never_overwritten(wallet: Wallet, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="exists already"):
        Wallet.create(tmp_path / "patient.wallet", PASSPHRASE)


def test_no_file_and_another_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"something else")

    with pytest.raises(NotFoundError):
        Wallet.load(tmp_path / "absent", PASSPHRASE)
    with pytest.raises(VerificationError, match="no wallet"):
        Wallet.load(tmp_path / "other", PASSPHRASE)


def test_every_case_has_a_key_of_its_own_and_always_the_same(wallet: Wallet, tmp_path: Path) -> None:
    first, second = case_id(sha256(b"1")), case_id(sha256(b"2"))
    again = Wallet.load(tmp_path / "patient.wallet", PASSPHRASE)

    signer = wallet.case_signer(first)

    assert signer.public_key == again.case_signer(first).public_key
    assert signer.public_key != wallet.case_signer(second).public_key
    assert verify(signer.suite, signer.public_key, b"message", signer.sign(b"message"))


def test_a_subject_key_sealed_to_another_wallet_is_refused(wallet: Wallet, tmp_path: Path) -> None:
    other = Wallet.create(tmp_path / "other.wallet", PASSPHRASE)

    with pytest.raises(VerificationError):
        wallet.add_keys(CHAIN, [(CENTRE, 2026, _sealed(other, CHAIN, CENTRE, 2026, KEY))])


def test_a_subject_key_of_another_year_is_refused(wallet: Wallet) -> None:
    with pytest.raises(VerificationError):
        wallet.add_keys(CHAIN, [(CENTRE, 2025, _sealed(wallet, CHAIN, CENTRE, 2026, KEY))])


def test_the_same_key_twice_counts_once(wallet: Wallet) -> None:
    sealed = _sealed(wallet, CHAIN, CENTRE, 2026, KEY)

    assert wallet.add_keys(CHAIN, [(CENTRE, 2026, sealed)]) == 1
    assert wallet.add_keys(CHAIN, [(CENTRE, 2026, sealed)]) == 0


def test_entries_are_found_at_every_institution_and_past_gaps(wallet: Wallet) -> None:
    wallet.add_keys(
        CHAIN,
        [
            (CENTRE, 2026, _sealed(wallet, CHAIN, CENTRE, 2026, KEY)),
            (HOSPITAL, 2026, _sealed(wallet, CHAIN, HOSPITAL, 2026, sha256(b"other key"))),
        ],
    )
    centre = [entry_id(CHAIN, CENTRE, subject_tag(KEY, number)) for number in (0, 1, AHEAD, 2 * AHEAD)]
    hospital = entry_id(CHAIN, HOSPITAL, subject_tag(sha256(b"other key"), 0))
    standing = _catalogue(*centre, hospital)

    def look_up(ids: Sequence[EntryId]) -> dict[EntryId, str]:
        return {entry: standing[entry] for entry in ids if entry in standing}

    found = wallet.entries(CHAIN, look_up)

    assert sorted(item.entry for item in found) == sorted([*centre, hospital])


def test_what_lies_further_than_the_numbers_looked_ahead_is_not_found(wallet: Wallet) -> None:
    wallet.add_keys(CHAIN, [(CENTRE, 2026, _sealed(wallet, CHAIN, CENTRE, 2026, KEY))])
    far = entry_id(CHAIN, CENTRE, subject_tag(KEY, AHEAD))

    assert wallet.entries(CHAIN, lambda ids: {entry: "current" for entry in ids if entry == far}) == []


def test_keys_of_another_chain_find_nothing_here(wallet: Wallet) -> None:
    wallet.add_keys(CHAIN, [(CENTRE, 2026, _sealed(wallet, CHAIN, CENTRE, 2026, KEY))])

    assert wallet.entries(sha256(b"another chain"), lambda ids: dict.fromkeys(ids, "current")) == []


def test_the_id_of_a_case_is_known_before_it_is_opened() -> None:
    one = opened_case_id(CHAIN, CENTRE, op_id(bytes(16)))

    assert one == opened_case_id(CHAIN, CENTRE, op_id(bytes(16)))
    assert one != opened_case_id(CHAIN, HOSPITAL, op_id(bytes(16)))
