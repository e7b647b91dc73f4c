"""How `yilian-verify` tells its report, in Chinese and English. Ids and error texts stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from yilian.client.report import Delivery, Holder, OperationShown, Report, RowShown, Step

LANGUAGES: Final = ("zh", "en")

_STEPS: Mapping[str, tuple[str, str]] = {
    "file": ("文件", "file"),
    "checkpoint": ("检查点", "checkpoint"),
    "trust": ("信任", "trust"),
    "age": ("时效", "age"),
    "state": ("状态", "state"),
    "app_hash": ("应用哈希", "app hash"),
    "operation": ("操作", "operation"),
    "envelope": ("信封", "envelope"),
    "leaf": ("日志叶", "leaf"),
    "log": ("日志", "log"),
    "signature": ("机构签名", "gateway's signature"),
    "persons": ("个人签名", "persons' signatures"),
    "parts": ("组成", "parts"),
    "subject": ("主体", "subject"),
    "changes": ("变更", "changes"),
    "exchange": ("交换", "exchange"),
    "claim": ("声明", "claim"),
    "rows": ("多余的行", "rows left over"),
}
_WORDS: Mapping[str, tuple[str, str]] = {
    "found": ("结果", "found"),
    "expected": ("预期", "expected"),
    "of": ("操作", "operation"),
    "ok": ("成立", "holds"),
    "no": ("不成立", "FAILS"),
    "verified": ("全部成立：可以采信", "everything holds: verified"),
    "failed": ("校验失败的步骤", "not verified, the failing step is"),
    "believe": ("须先从可信成员处核对并采信创世摘要", "you would have to believe genesis digest"),
    "sequencer": ("排序者", "sequencer"),
    "witness": ("见证者", "witness"),
    "operator": ("运营方", "operator"),
    "held": ("密钥存于", "key held by"),
    "split": ("未排除分叉视图：没有其他运营方见证", "split view not excluded: nobody else has witnessed"),
    "done": ("已执行", "done"),
    "refused": ("被拒绝，编号", "refused, number"),
    "signed": ("签名者", "signed by"),
    "now": ("现状态", "key now"),
    "compromised": ("称自此时起已泄露", "said to be compromised since"),
    "institution": ("由机构自动签署", "signed by the institution alone"),
    "person": ("由个人决定并签署", "decided and signed by a person"),
    "patient": ("由患者本人密钥签署", "signed with the patient's own key"),
    "custodial": ("代签：由代表患者的机构签署", "custodial: signed for the patient by the home institution"),
    "unchecked": ("未核对的个人签名（操作被拒）", "persons' signatures not checked (the operation was refused)"),
    "row": ("当前状态", "current state"),
    "patient_key": ("患者以本人密钥作主", "the patient's own key speaks"),
    "patient_home": ("由机构代表患者", "an institution speaks for the patient"),
    "absent": ("当前状态中不存在", "nothing stands in the current state under"),
    "no_case": ("账上没有案件", "there is no case"),
    "case": ("案件", "case"),
    "height": ("高度", "height"),
    "version": ("版本", "version"),
    "EXECUTED": ("已自行逐块执行", "executed every block itself"),
    "LOG": ("只见证日志只增不改", "has seen the log only"),
    "claim": ("声明", "claim"),
    "delivery": ("第{first}至{last}次交付，共允许{allowed}次", "delivery {first} to {last} of {allowed} allowed"),
    "checkpoint": ("截至高度 {height}，{time}", "as of height {height}, {time}"),
}


_HELD: Mapping[str, tuple[str, str]] = {
    "node": ("节点", "node"),
    "device": ("本人设备", "device"),
    "hardware": ("密码硬件", "hardware"),
}
"""Where a key lies; another word stays as it is."""
_CASE: Final = b"case/".hex()
_CLOCK: Final = range(10**12, 4 * 10**12)
"""Milliseconds of 2001 to 2096: a whole number of this size in a row is told as a time too."""


class Words:
    """Tells one report in one language."""

    def __init__(self, language: str) -> None:
        self._column = LANGUAGES.index(language)

    def step(self, step: Step) -> str:
        """Tell one step on one line, what was expected on a second where it failed."""
        name = _STEPS[step.name][self._column]
        where = f" ({self._word('of')} {step.place})" if step.place else ""
        line = f"{step.number:>3}. {name}{where}: {self._word('ok' if step.ok else 'no')}; {_safe(step.found)}"
        return line if step.ok else f"{line}\n     {self._word('expected')}: {_safe(step.expected)}"

    def facts(self, report: Report) -> list[str]:
        """Tell what a receipt that holds says."""
        lines = [self._word("checkpoint").format(height=report.height, time=_time(report.time))]
        if report.sequencer is not None:
            lines.append(self._holder("sequencer", report.sequencer))
        lines += [self._holder("witness", witness) for witness in report.witnesses]
        if not report.split_view_excluded:
            lines.append(self._word("split"))
        for operation in report.operations:
            lines += self._operation(operation)
        for row in report.rows:
            lines += self._row(row)
        if report.absent:
            is_case = report.absent.startswith(_CASE) and len(report.absent) == len(_CASE) + 64
            shown = report.absent.removeprefix(_CASE) if is_case else report.absent
            lines.append(f"{self._word('no_case' if is_case else 'absent')} {shown}")
        if report.claim is not None:
            lines.append(f"{self._word('claim')} {report.claim[0]}: {report.claim[1]}")
        if report.delivery is not None:
            lines.append(self._delivery(report.delivery))
        return [_safe(line) for line in lines]

    def verdict(self, report: Report) -> str:
        """Tell whether to believe the file."""
        if report.ok:
            return self._word("verified")
        line = f"{self._word('failed')}: {_STEPS[report.failed][self._column]}"
        if report.failed == "trust":
            line += f"\n{self._word('believe')} {report.chain}"
        return line

    def _holder(self, what: str, holder: Holder) -> str:
        said = f", {self._word(holder.kind)}, {_time(holder.time)}" if holder.kind else ""
        return (
            f"{self._word(what)} {holder.institution}, {self._word('operator')} {holder.operator}, "
            f"{self._word('held')} {self._held(holder.held_by)}{said}"
        )

    def _operation(self, one: OperationShown) -> list[str]:
        result = self._word("done")
        if one.result:
            result = f"{self._word('refused')} " + ", ".join(f"{workflow} {number}" for workflow, number in one.result)
        where = f"{self._word('case')} {one.case_id}, {self._word('height')} {one.height}, {_time(one.time)}"
        lines = [f"{one.command} {one.op_id}: {result}; {where}; {self._word(one.mode)}"]
        for signer in one.signers:
            held = f"{self._word('held')} {self._held(signer.held_by)}"
            said = f"  {self._word('signed')} {signer.role} {signer.key_id}, {held}"
            if signer.institution:
                said += f", {signer.institution}, {self._word('operator')} {signer.operator}"
            if signer.state not in {"", "active"}:
                said += f", {self._word('now')} {signer.state}"
            if signer.compromised_since:
                said += f", {self._word('compromised')} {_time(signer.compromised_since)}"
            lines.append(said)
        if one.unchecked_persons:
            lines.append(f"  {one.unchecked_persons} {self._word('unchecked')}")
        return lines

    def _row(self, row: RowShown) -> list[str]:
        flags = f" [{', '.join(row.flags)}]" if row.flags else ""
        line = f"{self._word('row')}: {row.word} {row.case_id or row.natural_key} {row.state}{flags}"
        if row.version:
            line += f", {self._word('version')} {row.version}, {self._word('height')} {row.changed_height}"
            line += f", {_time(row.changed_time)}"
        if row.patient:
            home = row.patient.removeprefix("home ")
            spoken = self._word("patient_key") if row.patient == "key" else f"{self._word('patient_home')} {home}"
            line += f"; {spoken}"
        return [line, *(f"  {name}: {_short(value)}" for name, value in row.fields.items())]

    def _delivery(self, delivery: Delivery) -> str:
        return self._word("delivery").format(first=delivery.first, last=delivery.last, allowed=delivery.allowed)

    def _held(self, where: str) -> str:
        return _HELD[where][self._column] if where in _HELD else where

    def _word(self, name: str) -> str:
        return _WORDS[name][self._column]


def told(language: str) -> Words:
    """Give the words of a language."""
    return Words(language)


def _safe(text: str) -> str:
    """Keep a file's text from steering the terminal, or from looking like a line of ours."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and value in _CLOCK:
        return f"{value} ({_time(value)})"
    return "-" if value is None else str(value)


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
