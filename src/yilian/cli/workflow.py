"""`yilian workflow`: what the workflows of this release are, printed from their tables."""

from __future__ import annotations

from typing import Annotated

import typer

from yilian.cli import output
from yilian.cli.output import is_json, say, table
from yilian.cli.reference import page
from yilian.errors import NotFoundError
from yilian.web.kit.text import Language, words
from yilian.workflows.registry import WORKFLOWS

app = typer.Typer(
    no_args_is_help=True,
    help=say("工作流：状态、谁可以做什么、拒绝。", "The workflows: states, who may do what, refusals."),
)

In = Annotated[
    str,
    typer.Option("--in", help=say("页面语言：zh 或 en，默认同 --lang。", "Language of the page: zh or en; as --lang.")),
]


@app.command("list", help=say("列出各工作流。", "List the workflows.") + "\n\nExample: yilian workflow list")
def list_() -> None:
    """List the workflows."""
    rows = [
        {
            "name": workflow.name,
            "zh": words(f"yilian.workflows.{workflow.name}", "zh", "workflow", "title"),
            "en": words(f"yilian.workflows.{workflow.name}", "en", "workflow", "title"),
            "cases": [case.word for case in workflow.cases],
        }
        for workflow in WORKFLOWS
    ]
    if is_json():
        table(rows, ())
        return
    for row in rows:
        typer.echo(f"{row['name']:<12} {row['zh']} · {row['en']}")


@app.command(
    help=say("输出一个工作流的说明页。", "Print the page of one workflow.")
    + "\n\nExample: yilian workflow show referral"
)
def show(name: str, *, language: In = "") -> None:
    """Print the page of one workflow."""
    found = [workflow for workflow in WORKFLOWS if workflow.name == name]
    if not found:
        known = ", ".join(workflow.name for workflow in WORKFLOWS)
        raise NotFoundError(f"no workflow is called {name}: choose one of {known}")
    chosen: Language = "zh" if (language or say("zh", "en")) == "zh" else "en"
    text = page(found[0], chosen)
    if is_json():
        output.show({"name": name, "language": chosen, "page": text})
        return
    typer.echo(text, nl=False)
