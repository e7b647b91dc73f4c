"""`yilian proof`: receipts of what stands on the ledger, one small file each that anybody checks without a network."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from yilian.cli.access import As, HomeOption
from yilian.cli.output import is_json, note, say, show
from yilian.cli.steps import HOME, CaseArgument, Who
from yilian.errors import SettingsError, UnavailableError

app = typer.Typer(
    no_args_is_help=True,
    help=say("证明：账上事实的证明文件，可离线核验。", "Receipts of what stands on the ledger, to be checked offline."),
)

Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        help=say("证明文件；不给则以类别和编号命名。", "The file; named by kind and id where not given."),
    ),
]
Operation = Annotated[
    str,
    typer.Argument(
        help=say("操作编号（32 位十六进制），或其日志序号。", "Id of an operation, 32 hex digits; or its leaf.")
    ),
]
OPERATION_DIGITS, CASE_DIGITS = 32, 64


class _Proof(NamedTuple):
    """One receipt: which, of what, and what it says in the user's language."""

    kind: str
    subject: str
    says: str
    query: Mapping[str, str] = {}
    suffix: str = ".yilian-proof"


@app.command(
    help=say(
        "证明一项操作已执行：何时、结果如何、谁签的。",
        "Prove that an operation was executed: when, with which result, signed by whom.",
    )
    + "\n\nExample: yilian proof operation 0 -o first.yilian-proof --as centre-physician --home h"
)
def operation(
    operation: Operation,
    *,
    out: Out = None,
    cose: Annotated[
        bool,
        typer.Option("--cose", help=say("导出为 COSE 收据（RFC 9942）。", "As COSE receipt (RFC 9942).")),
    ] = False,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Prove an operation."""
    _check_operation(operation)
    says = say(f"操作 {operation} 已执行", f"operation {operation} was executed")
    if cose:
        said = say("（COSE 收据，仅证明其在日志中）", " (COSE receipt: that it stands in the log)")
        proof = _Proof("operation", operation, says + said, {"format": "cose"}, ".cose")
    else:
        proof = _Proof("operation", operation, says)
    _save(Who(as_, home), proof, out)


@app.command(
    help=say(
        "证明一个案件当前的状态，例如授权有效或已撤销。",
        "Prove a case as it stands, such as a consent in force or revoked.",
    )
    + "\n\nExample: yilian proof state CONSENT --as centre-physician --home h"
)
def state(case: CaseArgument, *, out: Out = None, as_: As = "", home: HomeOption = HOME) -> None:
    """Prove the state of a case."""
    who = Who(as_, home)
    target = _resolve(who, case)
    _save(who, _Proof("state", target, say(f"案件 {target} 的当前状态", f"case {target} as it stands")), out)


@app.command(
    help=say("证明账上没有这个编号的案件。", "Prove that there is no case of an id.")
    + "\n\nExample: yilian proof absence "
    + "00" * 32
    + " --as centre-physician --home h"
)
def absence(
    case: Annotated[str, typer.Argument(help=say("完整编号，64 位十六进制。", "The whole id, 64 hex digits."))],
    *,
    out: Out = None,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Prove that a case is absent."""
    _check_hex(case, CASE_DIGITS)
    _save(Who(as_, home), _Proof("absence", case, say(f"没有案件 {case}", f"there is no case {case}")), out)


@app.command(
    name="case",
    help=say("证明一个案件的全部经过。", "Prove the whole course of a case: every operation that changed it.")
    + "\n\nExample: yilian proof case REFERRAL --as hospital-physician --home h",
)
def whole_case(case: CaseArgument, *, out: Out = None, as_: As = "", home: HomeOption = HOME) -> None:
    """Prove the course of a case."""
    who = Who(as_, home)
    target = _resolve(who, case)
    says = say(f"案件 {target} 的全部操作", f"every operation that changed case {target}")
    _save(who, _Proof("case", target, says), out)


@app.command(
    help=say(
        "证明一次病历交付：授权、第几次使用、双方登记。",
        "Prove one exchange of records: the grant, which delivery it was, both sides on record.",
    )
    + "\n\nExample: yilian proof exchange USE --as hospital-physician --home h"
)
def exchange(use: CaseArgument, *, out: Out = None, as_: As = "", home: HomeOption = HOME) -> None:
    """Prove an exchange."""
    who = Who(as_, home)
    target = _resolve(who, use)
    says = say(f"交付 {target} 及其授权和双方登记", f"delivery {target}, its grant and both disclosures")
    _save(who, _Proof("exchange", target, says), out)


@app.command(
    help=say(
        "只证明一项操作的一条声明，不透露其余声明。",
        "Prove one claim of an operation without its others; only the institution that made it can.",
    )
    + "\n\nExample: yilian proof claim OPERATION --name batch --as bureau-inspector --home h"
)
def claim(
    operation: Operation,
    *,
    name: Annotated[str, typer.Option(help=say("声明的名称。", "Name of the claim."))],
    out: Out = None,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Prove a claim."""
    _check_hex(operation, OPERATION_DIGITS)
    says = say(f"操作 {operation} 的声明 {name}", f"claim {name} of operation {operation}")
    _save(Who(as_, home), _Proof("claim", operation, says, {"name": name}), out)


def _save(who: Who, proof: _Proof, out: Path | None) -> None:
    with who.client() as client:
        content = client.content(f"/v1/proofs/{proof.kind}/{proof.subject}", **proof.query)
    file = Path(f"{proof.kind}-{proof.subject[:16]}{proof.suffix}") if out is None else out
    write_whole(file, content)
    figures: dict[str, Any] = {"file": str(file), "bytes": len(content), "kind": proof.kind, "subject": proof.subject}
    size = say(f"{len(content)} 字节", f"{len(content)} bytes")
    show(figures, f"{file}  {size}  {say('证明：', 'proves: ')}{proof.says}")
    if not is_json() and proof.suffix != ".cose":
        trust = who.home / "trust"
        named = str(trust) if trust.is_file() else "TRUST"
        note(say("下一步：", "next: ") + f"yilian-verify {shlex.quote(str(file))} --trust {shlex.quote(named)}")


def write_whole(file: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, in place of what bore its name.

    Raises:
        SettingsError: there is no such folder, or it may not be written to.
        UnavailableError: the disk is full or broken.
    """
    if file.is_dir():
        raise SettingsError(f"{file} is a folder, expected a file to write: name one with -o")
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
        temporary = ""
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise SettingsError(f"{file}: {error.strerror}, expected a file to write: name another with -o") from error
    except OSError as error:
        raise UnavailableError(f"{file}: {error.strerror}: free the disk, then ask again") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _resolve(who: Who, case: str) -> str:
    with who.client() as client:
        return client.resolve(case)


def _check_operation(given: str) -> None:
    if not given.isdecimal() or len(given) == OPERATION_DIGITS:
        _check_hex(given, OPERATION_DIGITS)


def _check_hex(given: str, digits: int) -> None:
    if len(given) != digits or given.strip("0123456789abcdef"):
        raise SettingsError(f"{given!r} is no id, expected {digits} lower-case hex digits: copy it whole")
