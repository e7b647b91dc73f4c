"""What a chain begins with: the constitution of the design, and every workflow's parameters."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest
from msgspec.structs import replace

from yilian.ledger.members import Parameter, Parameters
from yilian.ledger.registry import Registry
from yilian.values import DAY
from yilian.workflows import governance
from yilian.workflows.governance.founding import default_constitution, default_parameters
from yilian.workflows.governance.model import PARAMETERS
from yilian.workflows.governance.records import Action


def test_the_default_constitution_is_the_table_of_the_design() -> None:
    rows = [
        (rule.action, rule.numerator, rule.denominator, rule.strict, rule.delay // DAY)
        for rule in default_constitution().rules
    ]
    assert rows == [
        ("member.admit", 2, 3, False, 3),
        ("member.reinstate", 1, 2, True, 0),
        ("member.remove", 2, 3, False, 7),
        ("member.suspend", 2, 3, False, 0),
        ("parameter.change", 1, 2, True, 1),
        ("rule.change", 2, 3, False, 14),
        ("sequencer.replace", 2, 3, False, 0),
        ("witness_policy.change", 2, 3, False, 14),
    ]
    assert {rule.proposers for rule in default_constitution().rules} == {()}


def test_every_action_has_a_rule() -> None:
    tags = {kind.__struct_config__.tag for kind in Action.__args__}
    assert tags == {rule.action for rule in default_constitution().rules}


def test_a_demo_admits_at_once() -> None:
    admit = default_constitution(admit_delay=0, voting_period=DAY).rules[0]
    assert (admit.delay, admit.voting_period) == (0, DAY)


def test_parameters_are_collected_sorted_by_name() -> None:
    other = replace(governance.WORKFLOW, parameters=(replace(PARAMETERS[0], name="another.one"),))
    parameters = default_parameters([governance.WORKFLOW, other])
    specs = sorted((*PARAMETERS, *other.parameters), key=lambda spec: spec.name)
    assert parameters == Parameters(
        items=tuple(Parameter(name=spec.name, number=spec.number, words=spec.words) for spec in specs)
    )


def test_a_parameter_declared_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        default_parameters([governance.WORKFLOW, governance.WORKFLOW])


def test_every_state_command_refusal_and_parameter_has_words_in_both_languages() -> None:
    text = tomllib.loads(resources.files(governance).joinpath("text.toml").read_text(encoding="utf-8"))
    workflow = governance.WORKFLOW
    wanted = {
        "cases": {case.word for case in workflow.cases},
        "commands": {row.name for case in workflow.cases for row in case.rows},
        "refusals": {refusal.name for refusal in workflow.refusals},
        "parameters": {spec.name for spec in workflow.parameters},
        "actions": {rule.action for rule in default_constitution().rules},
    } | {f"states.{case.word}": {str(state) for state in case.states} for case in workflow.cases}
    tables = text | {f"states.{word}": table for word, table in text["states"].items()}
    assert {name: set(tables[name]) for name in wanted} == wanted
    entries = [entry for name in wanted for entry in tables[name].values()]
    assert all(set(entry) == {"zh", "en"} and all(entry.values()) for entry in entries)


def test_the_workflow_binds_to_the_kernel() -> None:
    assert len(Registry([governance.WORKFLOW]).commands) == 21
