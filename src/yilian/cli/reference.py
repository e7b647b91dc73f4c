"""The reference page of a workflow, from its table and texts: states, steps, signers, refusals, parameters."""

from __future__ import annotations

from collections.abc import Sequence

from yilian.ledger.workflow import ANY, Alternative, CaseType, Row, Workflow
from yilian.web.kit.text import Language, words

_SAID = {
    "zh": {
        "states": "状态",
        "table": "步骤",
        "columns": ("起始状态", "命令", "到达状态", "签署方", "条件"),
        "refusals": "拒绝",
        "parameters": "参数",
        "refusal_columns": ("编号", "名称", "含义"),
        "parameter_columns": ("名称", "默认值", "含义"),
        "terminal": "终态",
        "none": "—",
        "same": "不变",
        "after": "须晚于",
        "before": "不得晚于",
        "due": "应在此前完成",
        "any_version": "不要求当前版本",
        "while_suspended": "停权期间也可",
        "refs": "引用",
        "case": "本案机构",
        "any": "任一成员",
        "patient": "患者（本人密钥，或由保管纸质件的机构代签）",
        "witness": "见证",
        "consequence": "仅作为后果，来自",
        "and": "与",
    },
    "en": {
        "states": "States",
        "table": "Steps",
        "columns": ("From", "Command", "To", "Who signs", "Conditions"),
        "refusals": "Refusals",
        "parameters": "Parameters",
        "refusal_columns": ("Number", "Name", "Meaning"),
        "parameter_columns": ("Name", "Default", "Meaning"),
        "terminal": "terminal",
        "none": "—",
        "same": "same",
        "after": "only after",
        "before": "not after",
        "due": "due by",
        "any_version": "any version",
        "while_suspended": "while suspended too",
        "refs": "refs",
        "case": "the institution itself",
        "any": "any member",
        "patient": "patient (own key, or the home that holds the paper)",
        "witness": "witness",
        "consequence": "only as a consequence of",
        "and": "with",
    },
}


def page(workflow: Workflow, language: Language) -> str:
    """Write the reference page of a workflow as Markdown."""
    package = f"yilian.workflows.{workflow.name}"
    said = _SAID[language]
    lines = [
        f"# {workflow.name} · {words(package, language, 'workflow', 'title')}",
        "",
        words(package, language, "workflow", "purpose"),
        "",
    ]
    for case_type in workflow.cases:
        lines += _case_type(case_type, package, language)
    lines += [f"## {said['refusals']}", "", *_head(said["refusal_columns"])]
    lines += [
        f"| {refusal.value} | `{refusal.name}` | {words(package, language, 'refusals', refusal.name)} |"
        for refusal in workflow.refusals
    ]
    if workflow.parameters:
        lines += ["", f"## {said['parameters']}", "", *_head(said["parameter_columns"])]
        lines += [
            f"| `{spec.name}` | {_short(spec.words) if spec.words else spec.number} | "
            f"{words(package, language, 'parameters', spec.name)} |"
            for spec in workflow.parameters
        ]
    return "\n".join(lines) + "\n"


def _case_type(case_type: CaseType, package: str, language: Language) -> list[str]:
    said = _SAID[language]
    lines = [f"## {case_type.word} · {words(package, language, 'cases', case_type.word)}", "", f"{said['states']}:", ""]
    for state in case_type.states:
        end = f" ({said['terminal']})" if state in case_type.terminal else ""
        lines.append(f"- `{state}` {words(package, language, 'states', case_type.word, str(state))}{end}")
    lines += ["", f"{said['table']}:", "", *_head(said["columns"])]
    for row in case_type.rows:
        start = ", ".join(row.from_states) or said["none"]
        stop = " / ".join(row.to_states) or said["same"]
        command = f"`{row.name}` {words(package, language, 'commands', row.name)}"
        who = "; ".join(_who(one, language) for one in row.who.alternatives)
        lines.append(f"| {start} | {command} | {stop} | {who} | {_conditions(row, language)} |")
    return [*lines, ""]


def _who(one: Alternative, language: Language) -> str:
    said = _SAID[language]
    if one.kind == "workflow":
        return f"{said['consequence']} `{one.caller}`"
    if one.kind == "patient":
        witness = f", {said['witness']} {', '.join(one.witnesses)}" if one.witnesses else ""
        return f"{said['patient']}{witness}"
    parts = []
    for signer in one.signers:
        where = {ANY: said["any"], "@case": said["case"]}.get(signer.position, signer.position)
        parts.append(f"{where}: {', '.join(signer.roles)}")
    return f" {said['and']} ".join(parts)


def _conditions(row: Row, language: Language) -> str:
    said = _SAID[language]
    parts = [f"{said[name]} `{getattr(row, name)}`" for name in ("after", "before", "due") if getattr(row, name)]
    parts += [str(said[name]) for name in ("any_version", "while_suspended") if getattr(row, name)]
    for ref in row.refs:
        states = f" ({', '.join(ref.states)})" if ref.states else ""
        parts.append(f"{said['refs']}: {ref.at_least}-{ref.at_most} {ref.case_type}{states}")
    return "; ".join(parts)


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def _short(items: tuple[str, ...]) -> str:
    return ", ".join(items) if len(items) <= 8 else f"{', '.join(items[:8])} … ({len(items)})"
