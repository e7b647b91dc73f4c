"""`yilian-verify`: check a receipt file without a network, with nothing but what its reader trusts.

Exit codes: 0 everything holds, 5 something does not, 2 wrong use of the command.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from yilian.client.report import Report
from yilian.client.verify import verify_receipt
from yilian.client.verify_words import LANGUAGES, Words, told
from yilian.errors import SettingsError, VerificationError
from yilian.ledger.receipt import MAX_RECEIPT
from yilian.ledger.trust import Trust, parse_trust
from yilian.values import DAY, HOUR, MINUTE, SECOND, unix_millis

_AGE = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end with its exit code."""
    try:
        sys.exit(_run(parser().parse_args(arguments)))
    except SettingsError as error:
        sys.stderr.write(f"yilian-verify: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(VerificationError.exit_code)


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="yilian-verify",
        description="Check a receipt of a yilian network offline. 离线校验医链的凭证文件。",
        epilog="example: yilian-verify consent.yilian-proof --trust trust.json --max-age 1h",
    )
    made.add_argument("file", metavar="FILE", type=Path, help="the receipt (.yilian-proof) 凭证文件")
    made.add_argument(
        "--trust", metavar="FILE", type=Path, help="whom to believe, from `yilian network trust` 信任文件"
    )
    made.add_argument("--max-age", metavar="AGE", type=age_of, help="refuse older checkpoints: 90s, 30m, 1h, 7d")
    made.add_argument("--json", action="store_true", help="print the report as JSON 输出 JSON")
    made.add_argument("--lang", choices=LANGUAGES, help="language of the report 语言")
    return made


def age_of(text: str) -> int:
    """Read an age such as `90s`, `30m`, `1h` or `7d` as milliseconds.

    Raises:
        argparse.ArgumentTypeError: another form.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"age {text!r}, expected a number with s, m, h or d: such as 1h")
    return int(found[1]) * _UNITS[found[2]]


def _run(options: argparse.Namespace) -> int:
    data = _read(options.file, MAX_RECEIPT + 1)
    trust = _trust(options.trust)
    now = unix_millis(time.time_ns() // 1_000_000)
    report = verify_receipt(data, trust, now=now, max_age=options.max_age)
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
    else:
        text = _text(report, told(options.lang or _language()))
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0 if report.ok else VerificationError.exit_code


def _text(report: Report, words: Words) -> str:
    lines = [words.step(step) for step in report.steps]
    lines += words.facts(report) if report.ok else []
    lines.append(words.verdict(report))
    return "\n".join(lines) + "\n"


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): name a file") from error


def _trust(path: Path | None) -> Trust | None:
    if path is None:
        return None
    try:
        return parse_trust(_read(path, 1 << 20))
    except VerificationError as error:
        raise SettingsError(f"{path}: {error}") from error


def _language() -> str:
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if name.startswith("zh") else "en"


if __name__ == "__main__":
    main()
