"""The act of evidence: one receipt of each kind, and the trust file, beside the home's data; each checked offline.

The files lie in `<home>/proofs`, what a reader trusts in `<home>/trust`. The regulator's node, a follower, makes them;
`yilian-verify` checks them in a process of its own, without a network where the machine allows to take it away.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yilian.client.verify import verify_receipt
from yilian.demo.consortium import LAKESIDE, REGULATOR, SECOND
from yilian.demo.faces import Face, ids
from yilian.demo.stage import Stage
from yilian.demo.telling import short
from yilian.errors import NotFoundError, VerificationError
from yilian.ledger.receipt import SUFFIX
from yilian.ledger.trust import parse_trust
from yilian.node.compose import now
from yilian.node.home import Home, store_private
from yilian.values import institution_id
from yilian.workflows.catalog.model import ChallengeOpen, ChallengeState

CLAIMED = {"occasion": "quarterly sample", "sample": "1 of 1"}
_ALONE = ("unshare", "--map-root-user", "--net")
"""Runs a command without any network, where the machine lets its users do so."""


def prove(stage: Stage) -> None:
    """Make the files of this run anew, and check each."""
    stage.tell.chapter("proving")
    stage.catch_up(REGULATOR)
    inspector = stage.face(REGULATOR, "inspector")
    folder = proofs_of(stage.home)
    store_private(trust_of(stage.home), inspector.content("/v1/trust"))
    made: dict[str, float] = {}
    apart = _ALONE if _can_be_alone() else ()
    for name, (face, path, query) in _asked(stage, inspector).items():
        began = time.perf_counter()
        content = face.content(path, **query)
        file = folder / f"{name.replace('_', '-')}{SUFFIX}"
        made[file.name.removesuffix(SUFFIX)] = round((time.perf_counter() - began) * 1e3, 2)
        store_private(file, content)
        _check(file, trust_of(stage.home), apart)
        stage.tell.say("proved", name=stage.tell.words("proofs", name), file=file.name, bytes=len(content))
    stage.done.proofs = made
    stage.save()
    stage.tell.say("provable", folder=folder, trust=trust_of(stage.home))


def proofs_of(home: Home) -> Path:
    """Give the folder of the receipts."""
    return home.path / "proofs"


def trust_of(home: Home) -> Path:
    """Give the trust file."""
    return home.path / "trust"


def measure(home: Home, made: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Weigh and check the receipts that lie in a home; `made`: milliseconds that making each took.

    Raises:
        VerificationError: one does not hold.
    """
    figures: dict[str, dict[str, float]] = {}
    for file in sorted(proofs_of(home).glob(f"*{SUFFIX}")):
        content, trust = file.read_bytes(), parse_trust(trust_of(home).read_bytes())
        name = file.name.removesuffix(SUFFIX)
        began = time.perf_counter()
        report = verify_receipt(content, trust, now=now())
        seconds = time.perf_counter() - began
        if not report.ok:
            raise VerificationError(f"{file} fails at {report.failed}, expected a receipt that holds: make it again")
        figures[name] = {
            "bytes": len(content),
            "make_ms": made.get(name, 0.0),
            "verify_ms": round(seconds * 1e3, 2),
        }
    return figures


_Asked = dict[str, tuple[Face, str, dict[str, Any]]]


def _asked(stage: Stage, inspector: Face) -> _Asked:
    """Say which receipts are asked for, of whom: (who asks, route, query)."""
    use = _first(stage, "use", "confirmed")
    revoked = _first(stage, "consent", "revoked")
    claiming, operation = _claim(stage)
    asked: _Asked = {
        "operation": (inspector, f"/v1/proofs/operation/{operation}", {}),
        "consent_revoked": (inspector, f"/v1/proofs/state/{revoked}", {}),
        "absence": (inspector, f"/v1/proofs/absence/{secrets.token_hex(32)}", {}),
        "exchange": (inspector, f"/v1/proofs/exchange/{use}", {}),
        "claim": (claiming, f"/v1/proofs/claim/{operation}", {"name": "occasion"}),
    }
    if "referral" in stage.done.shown:
        asked["referral"] = (inspector, f"/v1/proofs/case/{stage.done.shown['referral']}", {})
    return asked


def _claim(stage: Stage) -> tuple[Face, str]:
    """Let a hospital take a sample of another's records, with claims of which one is shown later."""
    hospital = stage.face(SECOND, "data-officer")
    operation = stage.done.shown.get("claimed")
    if operation is None:
        (entry,) = (row["case_id"] for row in _rows(stage, "entry", "current", custodian=stage.id(LAKESIDE)))
        custodian = institution_id(bytes.fromhex(stage.id(LAKESIDE)))
        command = ChallengeOpen(custodian=custodian, entries=ids([entry]))
        operation = secrets.token_hex(16)
        challenge = hospital.take(command, op_id=operation, claims=CLAIMED)["case_id"]
        stage.show(claimed=operation)
        stage.tell.say("claimed", name=stage.name(SECOND), operation=short(operation))
        hospital.wait_for(challenge, ChallengeState.PASSED)
        stage.catch_up(REGULATOR)
    return hospital, operation


def _rows(stage: Stage, kind: str, state: str, *, custodian: str = "") -> list[dict[str, Any]]:
    where = {"institution": custodian, "position": "custodian"} if custodian else {}
    auditor = stage.face(REGULATOR, "auditor")
    rows: list[dict[str, Any]] = auditor.get("/v1/cases", kind=kind, state=[state], limit=1, **where)["items"]
    return rows


def _first(stage: Stage, kind: str, state: str) -> str:
    rows = _rows(stage, kind, state)
    if not rows:
        raise NotFoundError(f"the story left no {kind} that is {state}: play it to its end")
    return str(rows[0]["case_id"])


def _check(file: Path, trust: Path, apart: Sequence[str]) -> None:
    """Let `yilian-verify` check a file, started by the words of `apart`; VerificationError where it does not hold."""
    command = [*apart, sys.executable, "-m", "yilian.client.verify_cli", str(file), "--trust", str(trust), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise VerificationError(f"{file} was refused by yilian-verify: {done.stdout[-300:]}{done.stderr[-300:]}")


def _can_be_alone() -> bool:
    if shutil.which(_ALONE[0]) is None:
        return False
    return not subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode  # noqa: S603 - as above
