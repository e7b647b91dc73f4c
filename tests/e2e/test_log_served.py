"""The log over HTTP and on the command line: exported as tiles, audited from them alone, witnessed by policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from yilian.cli.main import main
from yilian.client.http import Client
from yilian.crypto.intl import Ed25519Signer
from yilian.errors import NotFoundError
from yilian.ledger.checkpoint import Note, parse_note, sign
from yilian.ledger.trust import Trust, believe, parse_trust
from yilian.testing.served import NETWORK, Served, serve
from yilian.values import digest

WITNESSED = msgspec.structs.replace(NETWORK, parameters={"governance.witnesses": 2})
WAIT_S = 30.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("log"), WITNESSED) as node:
        yield node


@pytest.fixture(scope="module")
def trust(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trust") / "lake.trust"
    assert _run(served, "network", "trust", "-o", str(file)) == 0
    return file


@pytest.fixture
def exported(served: Served, tmp_path: Path) -> Path:
    """Give a folder with the log exported once, with some leaves."""
    _open_inspections(served, 3)
    assert _run(served, "log", "export", str(tmp_path / "tiles")) == 0
    return tmp_path / "tiles"


def _run(served: Served, *words: str) -> int:
    return main([*words, "--as", str(served.access_file("bureau-inspector")), "--home", str(served.home.path)])


def _audit(folder: Path, trust: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Audit a folder: exit code, and what was found by name."""
    capsys.readouterr()
    code = main(["log", "audit", str(folder), "--trust", str(trust), "--json", "--lang", "en"])
    printed = capsys.readouterr()
    return code, printed.out if code == 0 else json.loads(printed.err.splitlines()[-1])["message"].split(":")[0]


def _open_inspections(served: Served, count: int) -> None:
    """Put operations into the log, and wait until the newest is witnessed."""
    scope = {"institutions": [served.node.hosts["centre"].id.hex()], "period_from": 20_000, "period_to": 20_010}
    with served.client("bureau-inspector") as client:
        for _ in range(count):
            client.act("audit", "inspection.open", scope | {"legal_basis": "law", "question": "00" * 32})
    assert served.node.checkpoints.wait_covers(served.node.engine.head().height, WAIT_S)


def _signed_anew(served: Served, file: Path, change: Callable[[Note], Note]) -> None:
    """Let the sequencer lie: change the checkpoint and sign it with its key and those of its institutions."""
    changed = change(parse_note(file.read_bytes()))
    hosts = {host.id.hex(): host for host in served.node.hosts.values()}
    checkpoints = served.node.checkpoints
    lines = [sign(changed.checkpoint, checkpoints.secret(checkpoints.signers.sequencer()))]
    from yilian.ledger.checkpoint import SignatureKind, cosign  # noqa: PLC0415

    lines += [
        cosign(
            changed.checkpoint,
            SignatureKind.EXECUTED,
            checkpoints.secret(hosts[line.name].id),
            institution=hosts[line.name].id,
            now=served.node.clock(),
        )
        for line in changed.lines[1:]
    ]
    file.write_bytes(Note(changed.checkpoint, tuple(lines)).encode())


def test_the_trust_file_names_who_must_sign(served: Served, trust: Path) -> None:
    found = parse_trust(trust.read_bytes())
    hosts = served.node.hosts
    assert (found.chain, found.needed) == (served.node.chain.hex(), 2)
    assert {one.institution for one in found.witnesses} == {hosts["hospital"].id.hex(), hosts["bureau"].id.hex()}
    assert {one.institution for one in found.sequencer} == {hosts["centre"].id.hex()}


def test_the_newest_checkpoint_carries_exactly_the_policys_lines(served: Served, trust: Path) -> None:
    _open_inspections(served, 1)
    found = parse_trust(trust.read_bytes())
    note = served.node.checkpoints.newest()
    assert len(note.lines) == 3
    assert note.checkpoint.height == served.node.engine.head().height
    assert len(believe(note, found, executed=True).cosigners) == 2


def test_an_export_audits_and_grows(
    served: Served, trust: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, printed = _audit(exported, trust, capsys)
    before = json.loads(printed)
    _open_inspections(served, 300)
    assert _run(served, "log", "export", str(exported)) == 0
    second, printed = _audit(exported, trust, capsys)
    after = json.loads(printed)
    assert (first, second) == (0, 0)
    assert (before["before"], after["before"]) == (None, before["log_size"])
    assert after["log_size"] == before["log_size"] + 300 == served.node.engine.head().log_size
    assert after["root"] == served.node.engine.head().log_root.hex()
    assert (after["signed"], len(after["witnesses"])) == (True, 2)
    assert (exported / "tile" / "entries" / "000").is_file()


def test_an_audit_without_trust_says_that_no_signature_was_checked(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "audit", str(exported), "--lang", "en"]) == 0
    assert "no signature was checked" in capsys.readouterr().err


def test_missing_leaves_are_a_truncated_log(exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(exported / "tile" / "entries")
    assert _audit(exported, trust, capsys) == (5, "TRUNCATED_LOG")


def test_a_shortened_bundle_is_a_truncated_log(exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = max((path for path in (exported / "tile" / "entries").rglob("*") if path.is_file()), key=str)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert _audit(exported, trust, capsys) == (5, "TRUNCATED_LOG")


def test_an_older_checkpoint_is_a_rollback(
    served: Served, exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = (exported / "checkpoint").read_bytes()
    _open_inspections(served, 2)
    assert _run(served, "log", "export", str(exported)) == 0
    assert _audit(exported, trust, capsys)[0] == 0
    (exported / "checkpoint").write_bytes(older)
    assert _audit(exported, trust, capsys) == (5, "ROLLBACK")


def test_another_root_under_the_sequencers_own_signature_is_named(
    served: Served, exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(note: Note) -> Note:
        return Note(msgspec.structs.replace(note.checkpoint, log_root=digest(bytes(32))), note.lines)

    _signed_anew(served, exported / "checkpoint", change)
    assert _audit(exported, trust, capsys) == (5, "WRONG_ROOT")


def test_a_log_that_begins_otherwise_than_before_is_a_split_view(
    served: Served, exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(note: Note) -> Note:
        return Note(msgspec.structs.replace(note.checkpoint, log_root=digest(bytes(32))), note.lines)

    seen = exported.with_name("tiles.audited")
    shutil.copy(exported / "checkpoint", seen)
    _signed_anew(served, seen, change)
    assert _audit(exported, trust, capsys) == (5, "SPLIT_VIEW")


def test_a_flipped_leaf_or_hash_is_found(exported: Path, trust: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(path for path in (exported / "tile" / "0").rglob("*") if path.is_file())
    tile = files[-1]
    whole = tile.read_bytes()
    tile.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert _audit(exported, trust, capsys) == (5, "WRONG_TILE")


def test_a_checkpoint_of_a_stranger_is_not_believed(
    exported: Path, trust: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = parse_trust(trust.read_bytes())
    stranger = msgspec.structs.replace(found.sequencer[0], public_key=Ed25519Signer.generate().public_key.hex())
    other = tmp_path / "other.trust"
    other.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, sequencer=(stranger,))))
    assert _audit(exported, other, capsys) == (5, "BAD_CHECKPOINT")


@pytest.fixture
def inspector(served: Served) -> Iterator[Client]:
    with served.client("bureau-inspector") as client:
        yield client


@pytest.mark.parametrize(
    "path", ["0/1", "0/x000/001", "9/000", "entries/000.p/256", "0/999", "nothing", "entries/x999/x999/999"]
)
def test_a_tile_that_there_is_not_is_not_found(inspector: Client, path: str) -> None:
    with pytest.raises(NotFoundError):
        inspector.content(f"/v1/log/tile/{path}")


def test_alerts_are_listed_with_their_notes(
    served: Served, inspector: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspector.get("/v1/alerts") == []
    checkpoints = served.node.checkpoints
    _open_inspections(served, 1)
    known = checkpoints.newest()
    forged = msgspec.structs.replace(known.checkpoint, log_root=digest(bytes(32)))
    note = Note(forged, (sign(forged, checkpoints.secret(checkpoints.signers.sequencer())),))
    checkpoints.receive_note(served.node.hosts["hospital"].id, note)
    (alert,) = inspector.get("/v1/alerts")
    assert alert["kind"] == "SPLIT_VIEW"
    assert [parse_note(one.encode()).checkpoint for one in alert["evidence"]] == [known.checkpoint, forged]
    capsys.readouterr()
    assert _run(served, "log", "alerts", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [alert]


def test_the_trust_over_http_is_the_file(inspector: Client, trust: Path) -> None:
    assert msgspec.json.decode(inspector.content("/v1/trust"), type=Trust) == parse_trust(trust.read_bytes())
