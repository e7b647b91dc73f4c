"""`yilian workflow`: what the workflows of this release are, printed from their tables."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from yilian.cli.reference import page
from yilian.errors import NotFoundError
from yilian.web.kit.text import Language, words
from yilian.workflows.registry import WORKFLOWS

app = typer.Typer(no_args_is_help=True, help="The workflows: states, who may do what, refusals 工作流")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
In = Annotated[str, typer.Option("--in", help="Language of the page: zh or en.")]


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the workflows.

    Example: yilian workflow list
    """
    rows = [
        {
            "name": workflow.name,
            "zh": words(f"yilian.workflows.{workflow.name}", "zh", "workflow", "title"),
            "en": words(f"yilian.workflows.{workflow.name}", "en", "workflow", "title"),
            "cases": [case.word for case in workflow.cases],
        }
        for workflow in WORKFLOWS
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['name']:<12} {row['zh']} · {row['en']}")


@app.command()
def show(name: str, *, language: In = "en") -> None:
    """Print the page of one workflow.

    Example: yilian workflow show referral
    """
    found = [workflow for workflow in WORKFLOWS if workflow.name == name]
    if not found:
        known = ", ".join(workflow.name for workflow in WORKFLOWS)
        raise NotFoundError(f"no workflow is called {name}: choose one of {known}")
    chosen: Language = "zh" if language == "zh" else "en"
    typer.echo(page(found[0], chosen), nl=False)
