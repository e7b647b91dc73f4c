"""Pages that list what the code has say exactly that, in both languages."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from yilian.ledger.workflow import Workflow
from yilian.web.kit.text import Language, words
from yilian.workflows.registry import WORKFLOWS

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
NAMES = [
    f"{name}{end}"
    for name in ("glossary", "operate/settings", "audit/refusals", "use/commands", "develop/http")
    for end in (".md", ".zh.md")
]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "tools" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tool: ModuleType) -> dict[str, str]:
    found: dict[str, str] = tool.pages()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_page_lists_what_the_code_has(pages: dict[str, str], name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages[name], "run tools/write_docs.py"


def test_every_written_page_is_tested(pages: dict[str, str]) -> None:
    assert sorted(pages) == sorted(NAMES)


def test_every_term_of_the_glossary_stands_in_the_code() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    table = tomllib.loads((DOCS / "glossary.toml").read_text(encoding="utf-8"))
    terms = [term["code"] for term in table["term"]]
    assert [term for term in terms if term not in code] == []
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_every_refusal_of_a_workflow_has_words(workflow: Workflow, language: Language) -> None:
    names = [refusal.name for refusal in workflow.refusals]
    said = [words(f"yilian.workflows.{workflow.name}", language, "refusals", name) for name in names]
    assert [name for name, text in zip(names, said, strict=True) if text == name] == []
