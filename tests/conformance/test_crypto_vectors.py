"""Vectors of the standards behind the international suite."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from yilian import canonical, values
from yilian.crypto import cose, intl, merkle, suite
from yilian.crypto.suite import SuiteId


def unhex(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


# RFC 8032 section 7.1, tests 1, 2, 3 and "SHA(abc)": seed, public key, message, signature.
RFC_8032 = [
    pytest.param(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        id="empty",
    ),
    pytest.param(
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        id="one-byte",
    ),
    pytest.param(
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        id="two-bytes",
    ),
    pytest.param(
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        id="sha-abc",
    ),
]


@pytest.mark.parametrize(("seed", "public_key", "message", "signature"), RFC_8032)
def test_ed25519_signs_and_verifies_as_rfc_8032(seed: str, public_key: str, message: str, signature: str) -> None:
    signer = intl.Ed25519Signer.from_seed(unhex(seed))

    made = signer.sign(unhex(message))

    assert (signer.public_key.hex(), made.hex()) == (public_key, signature)
    assert suite.verify(SuiteId.INTL, unhex(public_key), unhex(message), made)


# ed25519-speccheck (Chalkias, Garillot, Nikolaenko 2020, Taming the many EdDSAs), cases 0 to 2: small-order key or R.
# OpenSSL accepts all three: a node that verified with it would stop the chain.
SPECCHECK = [
    pytest.param(
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a" + "00" * 32,
        id="0",
    ),
    pytest.param(
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        id="1",
    ),
    pytest.param(
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        id="2",
    ),
]


@pytest.mark.parametrize(("message", "public_key", "signature"), SPECCHECK)
def test_speccheck_signatures_with_small_order_points_are_refused(
    message: str, public_key: str, signature: str
) -> None:
    assert not suite.verify(SuiteId.INTL, unhex(public_key), unhex(message), unhex(signature))


# The eight points of small order, and encodings that are not canonical (libsodium, `ge25519_has_small_order`).
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("public_key", SMALL_ORDER)
def test_small_order_and_non_canonical_keys_are_weak(public_key: str) -> None:
    assert suite.is_weak(SuiteId.INTL, unhex(public_key))


# certificate-transparency, `merkle_tree_test.cc`: eight leaves, the roots of the first 1 to 8 of them, and proofs.
CT_LEAVES = [
    merkle.leaf_hash(unhex(leaf))
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"


@pytest.mark.parametrize("size", range(9))
def test_roots_equal_those_of_certificate_transparency(size: int) -> None:
    assert merkle.root(CT_LEAVES[:size]).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        pytest.param(0, 1, (), id="only-leaf"),
        pytest.param(0, 8, (A, B, C), id="first-of-8"),
        pytest.param(5, 8, (D, E, CT_ROOTS[4]), id="sixth-of-8"),
        pytest.param(2, 3, (CT_ROOTS[2],), id="third-of-3"),
    ],
)
def test_inclusion_proofs_equal_those_of_certificate_transparency(
    index: int, size: int, proof: tuple[str, ...]
) -> None:
    made = merkle.inclusion_proof(CT_LEAVES[:size], index)

    assert tuple(step.hex() for step in made) == proof
    assert merkle.verify_inclusion(CT_LEAVES[index], index, size, made, unhex(CT_ROOTS[size]))


@pytest.mark.parametrize(
    ("first", "second", "proof"),
    [
        pytest.param(1, 1, (), id="same"),
        pytest.param(1, 8, (A, B, C), id="1-in-8"),
        pytest.param(6, 8, (F, E, CT_ROOTS[4]), id="6-in-8"),
        pytest.param(2, 5, (B, D), id="2-in-5"),
    ],
)
def test_consistency_proofs_equal_those_of_certificate_transparency(
    first: int, second: int, proof: tuple[str, ...]
) -> None:
    made = merkle.consistency_proof(CT_LEAVES[:second], first)

    assert tuple(step.hex() for step in made) == proof
    assert merkle.verify_consistency(first, second, made, unhex(CT_ROOTS[first]), unhex(CT_ROOTS[second]))


@pytest.mark.parametrize(
    ("secret", "okm"),
    [
        # RFC 5869 appendix A.3: SHA-256, no salt, no info; the first 32 of its 42 bytes.
        pytest.param(b"\x0b" * 22, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d", id="A.3"),
    ],
)
def test_derived_keys_equal_rfc_5869(secret: bytes, okm: str) -> None:
    assert suite.derive_key(secret, b"").hex() == okm


def test_derived_keys_equal_those_of_another_library() -> None:
    other = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"place").derive(b"s" * 32)

    assert suite.derive_key(b"s" * 32, b"place") == other


def hpke_schedule(private_key: bytes, enc: bytes, info: bytes, aead: int, key_size: int) -> tuple[bytes, bytes, bytes]:
    """RFC 9180 sections 4.1 and 5.1, base mode, written a second time from primitives."""

    def extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite_id + label + ikm, "sha256")

    def expand(suite_id: bytes, prk: bytes, label: bytes, context: bytes, size: int) -> bytes:
        message = size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + context + b"\x01"
        return hmac.digest(prk, message, "sha256")[:size]

    key = X25519PrivateKey.from_private_bytes(private_key)
    kem, whole = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01" + aead.to_bytes(2, "big")
    agreed = key.exchange(X25519PublicKey.from_public_bytes(enc))
    kem_context = enc + key.public_key().public_bytes_raw()
    shared = expand(kem, extract(kem, b"", b"eae_prk", agreed), b"shared_secret", kem_context, 32)
    context = b"\x00" + extract(whole, b"", b"psk_id_hash", b"") + extract(whole, b"", b"info_hash", info)
    secret = extract(whole, shared, b"secret", b"")
    return shared, expand(whole, secret, b"key", context, key_size), expand(whole, secret, b"base_nonce", context, 12)


def test_the_second_hpke_equals_rfc_9180_appendix_a_1() -> None:
    shared, key, nonce = hpke_schedule(
        unhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"),
        unhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"),
        unhex("4f6465206f6e2061204772656369616e2055726e"),
        aead=1,
        key_size=16,
    )

    assert (shared.hex(), key.hex(), nonce.hex()) == (
        "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
        "4531685d41d65f03dc48f6b8302c05b0",
        "56d890e5accaaf011cff4b7d",
    )


def test_a_wrapped_key_opens_with_the_second_hpke() -> None:
    pair = intl.generate_x25519()
    wrapped = intl.hpke_wrap(pair.public_key, b"k" * 32, b"place")

    _, key, nonce = hpke_schedule(pair.private_key, wrapped[:32], b"place", aead=2, key_size=32)

    assert AESGCM(key).decrypt(nonce, wrapped[32:], None) == b"k" * 32


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_signed_bytes_equal_the_sig_structure_of_rfc_9052(size: int) -> None:
    made = cose.to_be_signed(b"\xa1\x01\x27", bytes(size), b"yilian/tx/v1")

    assert made == canonical.encode(["Signature1", b"\xa1\x01\x27", b"yilian/tx/v1", bytes(size)])


def test_the_protected_header_is_eddsa_of_rfc_9053() -> None:
    assert canonical.decode_builtins(cose.PROTECTED[SuiteId.INTL]) == {1: -8}


def test_key_ids_hash_tag_suite_and_key() -> None:
    public_key = values.public_key(bytes(range(32)))

    assert suite.key_id_of(SuiteId.INTL, public_key) == sha256(b"yilian/key/v1\x01" + public_key).digest()
