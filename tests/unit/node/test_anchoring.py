"""Outside timestamps: asked for, checked against root, nonce and text, kept, and missed when they are too old."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.authority import Authority
from yilian.errors import NotFoundError, SettingsError, UnavailableError, VerificationError
from yilian.ledger.checkpoint import Checkpoint, Note
from yilian.node import anchoring
from yilian.node.anchoring import Anchoring, age_ms, get_anchor, is_too_old, stamped_text
from yilian.node.settings import AnchoringSettings, Settings, load, to_toml
from yilian.node.timestamping import MAX_ANSWER, check_stamp, load_roots, request_stamp
from yilian.storage.anchors import AnchorStore
from yilian.values import UnixMillis, digest, unix_millis

TEXT = b"yilian/00\n1\n"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def note_at(height: int) -> Note:
    return Note(
        Checkpoint(
            chain=digest(bytes(32)),
            log_size=height * 3,
            log_root=digest(bytes([height]) * 32),
            app_hash=digest(bytes(32)),
            height=height,
            time=unix_millis(1_800_000_000_000 + height),
        ),
        (),
    )


class Place:
    """What anchoring needs of a node: settings, a clock that can be set, a store."""

    def __init__(self, path: Path, settings: AnchoringSettings) -> None:
        self.settings = msgspec.structs.replace(Settings(), anchoring=settings)
        self.path = path
        self.anchors = AnchorStore(path)
        self.ahead = 0

    def clock(self) -> UnixMillis:
        return unix_millis(now_ms() + self.ahead)


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority() as running:
        yield running


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client


def ask(authority: Authority, http: httpx.Client, *, of: Authority | None = None, now: int = 0) -> int:
    return request_stamp(http, authority.url, TEXT, [(of or authority).root], now=now or now_ms()).time


def roots_of(folder: Path, *authorities: Authority) -> str:
    file = folder / "roots.pem"
    file.write_bytes(b"".join(one.root_pem for one in authorities))
    return str(file)


def place(folder: Path, *authorities: Authority, max_age: int = 0, every: int = 3600) -> Place:
    settings = AnchoringSettings(
        authorities=tuple(one.url for one in authorities),
        roots=roots_of(folder, *authorities),
        max_age=max_age,
        every=every,
    )
    return Place(folder / "anchors.db", settings)


# ------------------------------------------------------------------------------------------------------------ one stamp


def test_a_right_answer_holds_and_tells_the_authoritys_time(authority: Authority, http: httpx.Client) -> None:
    assert abs(ask(authority, http) - now_ms()) < 10_000
    assert check_stamp(authority.last, TEXT, [authority.root]) > 0


def test_an_answer_under_another_root_is_refused(authority: Authority, http: httpx.Client) -> None:
    with pytest.raises(VerificationError, match=r"does not hold.*anchoring\.roots"):
        ask(authority, http, of=Authority())


def test_an_answer_without_the_nonce_is_refused(authority: Authority, http: httpx.Client) -> None:
    authority.drops_nonce = True
    with pytest.raises(VerificationError, match="Nonce mismatch"):
        ask(authority, http)


def test_an_earlier_answer_given_again_is_refused(authority: Authority, http: httpx.Client) -> None:
    ask(authority, http)
    authority.canned = authority.last
    with pytest.raises(VerificationError, match="Nonce mismatch"):
        ask(authority, http)


def test_an_answer_about_another_text_does_not_hold(authority: Authority, http: httpx.Client) -> None:
    ask(authority, http)
    with pytest.raises(VerificationError, match="Mismatch between messages"):
        check_stamp(authority.last, TEXT + b" ", [authority.root])


def test_a_certificate_that_is_not_for_timestamps_is_refused(http: httpx.Client) -> None:
    with (
        Authority(usage=ExtendedKeyUsageOID.SERVER_AUTH) as wrong,
        pytest.raises(VerificationError, match="does not hold"),
    ):
        ask(wrong, http)


@pytest.mark.parametrize("minutes", [-6, 6], ids=["late", "early"])
def test_a_time_far_off_the_own_clock_is_refused(authority: Authority, http: httpx.Client, minutes: int) -> None:
    authority.clock = lambda: datetime.now(UTC) + timedelta(minutes=minutes)
    with pytest.raises(VerificationError, match="set the clock that is off"):
        ask(authority, http)


def test_a_rejection_names_its_status(authority: Authority, http: httpx.Client) -> None:
    authority.refuses = True
    with pytest.raises(UnavailableError, match="PKIStatus 2"):
        ask(authority, http)


def test_an_authority_that_is_away_or_does_not_listen_is_unavailable(authority: Authority, http: httpx.Client) -> None:
    authority.is_away = True
    with pytest.raises(UnavailableError, match="status 503"):
        ask(authority, http)
    with pytest.raises(UnavailableError, match="does not answer"):
        request_stamp(http, "http://127.0.0.1:1/", TEXT, [authority.root], now=now_ms())


def test_every_flipped_byte_of_an_answer_is_refused_or_changes_nothing(
    authority: Authority, http: httpx.Client
) -> None:
    """No byte makes an exception of another kind; what still holds says the same time."""
    said = ask(authority, http)
    answer = authority.last
    held = 0
    for at in range(len(answer)):
        changed = answer[:at] + bytes([answer[at] ^ 0x01]) + answer[at + 1 :]
        try:
            assert check_stamp(changed, TEXT, [authority.root]) == said
            held += 1
        except (VerificationError, UnavailableError):
            pass
    assert held < len(answer) // 4  # signatures cover the token; certificates beside the signer's are not


@pytest.mark.parametrize("answer", [b"", b"x" * 100, bytes(MAX_ANSWER + 1)], ids=["empty", "noise", "endless"])
def test_what_is_no_timestamp_is_refused(authority: Authority, http: httpx.Client, answer: bytes) -> None:
    authority.canned = answer
    with pytest.raises(VerificationError):
        ask(authority, http)


# ------------------------------------------------------------------------------------------------------------- anchors


def test_the_newest_checkpoint_is_stamped_and_the_token_outlives_the_process(
    authority: Authority, tmp_path: Path
) -> None:
    node = place(tmp_path, authority)
    made = Anchoring(node, lambda: note_at(7)).anchor_now()  # type: ignore[arg-type]
    node.anchors.close()
    kept = AnchorStore(node.path)
    assert kept.newest() == made == kept.at(7) == kept.at(3)
    assert kept.at(8) is None
    assert check_stamp(made.response, note_at(7).checkpoint.text().encode(), [authority.root]) == made.time
    kept.close()


def test_openssl_accepts_what_is_kept(authority: Authority, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: install it to check timestamps with a second implementation")
    node = place(tmp_path, authority)
    made = Anchoring(node, lambda: note_at(7)).anchor_now()  # type: ignore[arg-type]
    (tmp_path / "a.tsr").write_bytes(made.response)
    (tmp_path / "a.txt").write_bytes(stamped_text(made.note))
    command = [openssl, "ts", "-verify", "-in", "a.tsr", "-data", "a.txt", "-CAfile", "roots.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Verification: OK" in done.stdout
    node.anchors.close()


def test_authorities_stand_in_for_each_other(tmp_path: Path) -> None:
    with Authority() as first, Authority() as second:
        node = place(tmp_path, first, second)
        thread = Anchoring(node, lambda: note_at(1))  # type: ignore[arg-type]
        assert thread.anchor_now().authority == first.url
        first.is_away = True
        assert thread.anchor_now().authority == second.url
        assert thread.anchor_now().authority == second.url
        assert first.asked == 2, "who failed last is not asked first again"
        first.is_away, second.is_away = False, True
        assert thread.anchor_now().authority == first.url
        node.anchors.close()


def test_none_that_answers_is_said_with_every_reason(tmp_path: Path) -> None:
    with Authority() as first, Authority() as second:
        node = place(tmp_path, first, second)
        first.is_away = second.refuses = True
        with pytest.raises(UnavailableError, match=r"503.*PKIStatus 2"):
            Anchoring(node, lambda: note_at(1)).anchor_now()  # type: ignore[arg-type]
        assert node.anchors.newest() is None
        node.anchors.close()


def test_the_thread_tries_again_until_the_authority_is_back(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchoring, "FIRST_DELAY_S", 0.01)
    authority.is_away = True
    node = place(tmp_path, authority)
    thread = Anchoring(node, lambda: note_at(2))  # type: ignore[arg-type]
    with ExitStack() as stack:
        stack.callback(node.anchors.close)
        stack.callback(thread.stop)
        thread.start()
        assert until(lambda: authority.asked >= 3)
        assert node.anchors.newest() is None
        authority.is_away = False
        assert until(lambda: node.anchors.newest() is not None)


def test_with_an_age_no_exchange_begins_without_a_fresh_timestamp(authority: Authority, tmp_path: Path) -> None:
    node = place(tmp_path, authority, max_age=60)
    assert age_ms(node) is None  # type: ignore[arg-type]
    assert "no timestamp" in is_too_old(node)  # type: ignore[arg-type]
    thread = Anchoring(node, lambda: note_at(2))  # type: ignore[arg-type]
    thread.anchor_now()
    assert is_too_old(node) == ""  # type: ignore[arg-type]
    node.ahead = 62_000
    assert "anchoring.max_age" in is_too_old(node)  # type: ignore[arg-type]
    thread.anchor_now()
    node.ahead = 0
    assert is_too_old(node) == ""  # type: ignore[arg-type]
    node.anchors.close()


def test_without_an_age_nothing_is_too_old(tmp_path: Path) -> None:
    node = Place(tmp_path / "anchors.db", AnchoringSettings())
    assert is_too_old(node) == ""  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="height 1"):
        get_anchor(node, 1)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match=r"set anchoring\.authorities"):
        Anchoring(node, lambda: note_at(1)).anchor_now()  # type: ignore[arg-type]
    node.anchors.close()


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (AnchoringSettings(authorities=("ftp://x",), roots="r"), "expected http"),
        (AnchoringSettings(authorities=("http://x",)), "anchoring.roots is not"),
        (AnchoringSettings(authorities=("http://x",), roots="/nowhere.pem"), "no certificates in PEM"),
        (AnchoringSettings(max_age=5), "max_age is set without"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(tmp_path: Path, settings: AnchoringSettings, said: str) -> None:
    node = Place(tmp_path / "anchors.db", settings)
    with pytest.raises(SettingsError, match=said):
        Anchoring(node, lambda: note_at(1))  # type: ignore[arg-type]
    node.anchors.close()


def test_a_file_without_certificates_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "r.pem").write_text("nothing")
    with pytest.raises(SettingsError, match="no certificates in PEM"):
        load_roots(str(tmp_path / "r.pem"))


def test_authorities_are_a_list_in_the_file_and_words_in_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    wanted = load(None, {"YILIAN_ANCHORING__AUTHORITIES": "https://a https://b"})
    assert wanted.anchoring.authorities == ("https://a", "https://b")
    file.write_text(to_toml(wanted))
    assert load(file, {}) == wanted


def until(condition: object, timeout_s: float = 10.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
