"""Write a new workflow: its folder, its tests, its frozen legal set and its reference pages, all green.

    python tools/new_workflow.py bloodbank

The only other edit is one line in `src/yilian/workflows/registry.py`, which is printed. Then change the table: API,
command line, documentation and refusal tests follow from it.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from string import Template

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "yilian" / "workflows"
TESTS = ROOT / "tests" / "workflows"
NAME = re.compile(r"[a-z][a-z0-9]{2,30}")

INIT = '''"""$Title: one institution asks, another answers in time; say here what for, who, and the source."""

from __future__ import annotations

from yilian.ledger.workflow import CaseType, Workflow
from yilian.workflows.$name import contract
from yilian.workflows.$name.model import PARAMETERS, TABLE, $Title, Refusal, State

WORKFLOW = Workflow(
    name="$name",
    cases=(CaseType(word="$name", fields=$Title, states=tuple(State), rows=TABLE),),
    contract=contract,
    refusals=Refusal,
    parameters=PARAMETERS,
)
'''

MODEL = '''"""States, commands and table of $name."""

from __future__ import annotations

from enum import StrEnum

from yilian.ledger.cases import Case, Command
from yilian.ledger.members import Role
from yilian.ledger.workflow import ParameterSpec, RefusalCode, anyone, moves, opens, person
from yilian.values import DAY, InstitutionId, UnixMillis, Word


class State(StrEnum):
    """Where a case stands."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class $Title(Case, frozen=True, kw_only=True):
    """What one institution asks of another."""

    requester: InstitutionId
    provider: InstitutionId
    deadline: UnixMillis
    """Lapse: until then the provider may answer."""


class Request$Title(Command, frozen=True, kw_only=True):
    """Ask a provider."""

    provider: InstitutionId


class Fulfil$Title(Command, frozen=True, kw_only=True):
    """Do what was asked."""

    result: Word


class Cancel$Title(Command, frozen=True, kw_only=True):
    """Take the request back."""

    reason: Word


class Expire$Title(Command, frozen=True, kw_only=True):
    """Make a lapse visible."""


class Refusal(RefusalCode):
    """Refusals of $name; add, never renumber."""

    NOT_A_MEMBER = 1


TABLE = (
    opens("$name.request", Request$Title, State.OPEN, who=person("requester", Role.PHYSICIAN)),
    moves(
        "$name.fulfil",
        Fulfil$Title,
        State.OPEN,
        State.DONE,
        who=person("provider", Role.PHYSICIAN, Role.TECHNICIAN),
        before="deadline",
    ),
    moves(
        "$name.cancel",
        Cancel$Title,
        State.OPEN,
        State.CANCELLED,
        who=person("requester", Role.PHYSICIAN),
        any_version=True,
        while_suspended=True,
    ),
    moves("$name.expire", Expire$Title, State.OPEN, State.EXPIRED, who=anyone(), after="deadline", any_version=True),
)

PARAMETERS = (ParameterSpec(name="$name.answer_within", number=3 * DAY, least=1, most=365 * DAY),)
'''

CONTRACT = '''"""Rules of $name: one function a command."""

from __future__ import annotations

from yilian.errors import Refused
from yilian.ledger.members import LIVING
from yilian.ledger.workflow import Call, Outcome, Reads, step
from yilian.values import unix_millis
from yilian.workflows.$name.model import (
    Cancel$Title,
    Expire$Title,
    Fulfil$Title,
    $Title,
    Refusal,
    Request$Title,
)


@step
def request(call: Call, command: Request$Title, reads: Reads) -> Outcome[$Title]:
    """Open a case.

    Refuses: NOT_A_MEMBER.
    """
    provider = reads.member(command.provider)
    if provider is None or provider.state not in LIVING:
        raise Refused(
            Refusal.NOT_A_MEMBER,
            f"{command.provider.hex()} is no member now, a living one was expected: ask another provider",
        )
    deadline = unix_millis(call.time + reads.number("$name.answer_within"))
    return Outcome($Title(requester=call.institution, provider=command.provider, deadline=deadline))


@step
def fulfil(call: Call, command: Fulfil$Title, case: $Title, reads: Reads) -> Outcome[$Title]:
    """Close a case with its result."""
    del call, command, reads
    return Outcome(case)


@step
def cancel(call: Call, command: Cancel$Title, case: $Title, reads: Reads) -> Outcome[$Title]:
    """Close a case without one."""
    del call, command, reads
    return Outcome(case)


@step
def expire(call: Call, command: Expire$Title, case: $Title, reads: Reads) -> Outcome[$Title]:
    """Make a lapse visible; the kernel has checked the time."""
    del call, command, reads
    return Outcome(case)
'''

TEXT = """# Every visible word of this workflow, 中文 and English side by side.

[workflow]
title = { zh = "$name", en = "$Title" }

[workflow.purpose]
zh = "一家机构向另一家机构提出请求，限时答复并留痕。"
en = "One institution asks another; the answer is timed and on record."

[cases]
$name = { zh = "$name 请求", en = "$Title request" }

[states.$name]
open = { zh = "待答复", en = "Open" }
done = { zh = "已完成", en = "Done" }
cancelled = { zh = "已撤销", en = "Cancelled" }
expired = { zh = "逾期失效", en = "Expired" }

[commands]
"$name.request" = { zh = "提出请求", en = "Request" }
"$name.fulfil" = { zh = "完成请求", en = "Fulfil" }
"$name.cancel" = { zh = "撤销请求", en = "Cancel" }
"$name.expire" = { zh = "登记逾期", en = "Record that time is over" }

[refusals]
NOT_A_MEMBER = { zh = "对方不是现任成员", en = "The provider is no member now" }

[parameters]
"$name.answer_within" = { zh = "答复时限（毫秒）", en = "Time to answer, milliseconds" }

[fields.$name]
requester = { zh = "请求机构", en = "Requester" }
provider = { zh = "受请求机构", en = "Provider" }
deadline = { zh = "答复期限", en = "Deadline" }
"""

TEST = '''"""Behaviour of $name."""

from __future__ import annotations

import pytest

from yilian.ledger.members import InstitutionKind, Role
from yilian.testing.consortium import Consortium
from yilian.values import DAY, institution_id
from yilian.workflows import $name, governance
from yilian.workflows.$name.model import Cancel$Title, Expire$Title, Fulfil$Title, $Title, Refusal, Request$Title, State

KINDS = {"centre": InstitutionKind.COMMUNITY_CENTRE, "hospital": InstitutionKind.HOSPITAL}


@pytest.fixture
def consortium() -> Consortium:
    return Consortium.found(KINDS, workflows=(governance.WORKFLOW, $name.WORKFLOW))


def test_a_request_is_fulfilled_by_its_provider(consortium: Consortium) -> None:
    centre, hospital = consortium["centre"], consortium["hospital"]
    opened = consortium.act(centre, Request$Title(provider=hospital.id), persons=[Role.PHYSICIAN])
    done = consortium.act(hospital, Fulfil$Title(result="done"), opened.case_id, persons=[Role.PHYSICIAN])
    found = consortium.case($Title, opened.case_id)
    assert done.ok
    assert found is not None
    assert found.state == State.DONE


def test_a_request_to_a_stranger_is_refused(consortium: Consortium) -> None:
    stranger = institution_id(b"s" * 32)
    answer = consortium.act(consortium["centre"], Request$Title(provider=stranger), persons=[Role.PHYSICIAN])
    assert answer.result == (("$name", Refusal.NOT_A_MEMBER),)


def test_a_request_is_taken_back(consortium: Consortium) -> None:
    centre = consortium["centre"]
    opened = consortium.act(centre, Request$Title(provider=consortium["hospital"].id), persons=[Role.PHYSICIAN])
    assert consortium.act(centre, Cancel$Title(reason="duplicate"), opened.case_id, persons=[Role.PHYSICIAN]).ok


def test_a_lapse_is_made_visible_by_anyone(consortium: Consortium) -> None:
    centre, hospital = consortium["centre"], consortium["hospital"]
    opened = consortium.act(centre, Request$Title(provider=hospital.id), persons=[Role.PHYSICIAN])
    consortium.advance(4 * DAY)
    assert consortium.act(hospital, Expire$Title(), opened.case_id).ok
'''


def main(arguments: list[str]) -> int:
    """Write the workflow named on the command line; 2 where the name does not do or is taken."""
    if len(arguments) != 1 or not NAME.fullmatch(arguments[0]):
        sys.stderr.write("found no usable name, expected one word of lower-case letters: new_workflow.py bloodbank\n")
        return 2
    name = arguments[0]
    if (SOURCE / name).exists() or (TESTS / name).exists():
        sys.stderr.write(f"{name} exists already in {SOURCE}: choose another name, or delete it first\n")
        return 2
    words = {"name": name, "Title": name.capitalize()}
    for path, template in (
        (SOURCE / name / "__init__.py", INIT),
        (SOURCE / name / "model.py", MODEL),
        (SOURCE / name / "contract.py", CONTRACT),
        (SOURCE / name / "text.toml", TEXT),
        (TESTS / name / f"test_{name}_requests.py", TEST),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template).substitute(words), encoding="utf-8")
    # the name decides where names sort and lines break
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, SOURCE / name, TESTS / name], check=True)
    _generate(name)
    sys.stdout.write(
        f"wrote {SOURCE / name} and its tests\n"
        "next: add the workflow to src/yilian/workflows/registry.py:\n"
        f"    from yilian.workflows import …, {name}\n"
        f"    WORKFLOWS = (…, {name}.WORKFLOW)\n"
        "then: make check\n"
    )
    return 0


def _generate(name: str) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    from freeze_legal import SPEC  # noqa: PLC0415 - beside this file, not a package
    from write_reference import write  # noqa: PLC0415 - as above

    from yilian.testing.exhaustive import CaseTypeCheck  # noqa: PLC0415 - sees the folder just written
    from yilian.workflows.registry import WORKFLOWS  # noqa: PLC0415 - as above

    workflow = importlib.import_module(f"yilian.workflows.{name}").WORKFLOW
    write(workflow)
    for case_type in workflow.cases:
        _, legal, _ = CaseTypeCheck((*WORKFLOWS, workflow), workflow, case_type).run()
        (SPEC / f"{name}.{case_type.word}.txt").write_text("\n".join(legal) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
