"""The enabled workflows of a chain, bound and looked up: commands, case types, registers, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from yilian.ledger.cases import Case, Command, Register
from yilian.ledger.members import Role
from yilian.ledger.workflow import Call, CaseType, Outcome, ParameterSpec, Row, Workflow
from yilian.values import CaseId


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A command with all that the kernel needs to judge and run it."""

    word: str
    workflow: Workflow
    case_type: CaseType
    command: type[Command]
    function: Callable[..., Outcome[Any]]
    opening: tuple[Row, ...]
    moving: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows of the command."""
        return self.opening + self.moving

    def opened_id(self, call: Call, command: Command) -> CaseId:
        """Derive the id of the case that the command opens: from its fields where the row says so, else of the call."""
        derive = self.opening[0].id_of if self.opening else None
        return call.new_id() if derive is None else derive(call, command)


class Registry:
    """Workflows in the order that consensus fixes.

    Raises:
        TypeError: a command word, command type, case type or register stands twice, a function is missing or left
            over, or a workflow asks one that is not there before it.
    """

    def __init__(self, workflows: Sequence[Workflow]) -> None:
        self.workflows = tuple(workflows)
        self.commands: dict[tuple[str, str], Bound] = {}
        self.by_type: dict[type[Command], Bound] = {}
        self._by_word: dict[str, Bound] = {}
        self.case_types: dict[str, tuple[Workflow, CaseType]] = {}
        self.fields: dict[str, type[Case]] = {}
        self.owner: dict[type[Case | Register], str] = {}
        self.case_words: dict[type[Case], str] = {}
        for item in self.workflows:
            self._add(item)
        self.command_types: Mapping[tuple[str, str], type[Command]] = {
            names: bound.command for names, bound in self.commands.items()
        }
        self.for_newcomers = tuple(
            bound.word
            for bound in self.commands.values()
            for row in bound.rows
            for one in row.who.alternatives
            for signer in one.signers
            if Role.NEWCOMER in signer.roles
        )
        self.visible: Mapping[str, tuple[str, ...]] = {item.name: (item.name, *item.asks) for item in self.workflows}

    def parameters(self) -> tuple[ParameterSpec, ...]:
        """Parameters of all workflows, sorted by name."""
        return tuple(sorted((spec for item in self.workflows for spec in item.parameters), key=lambda spec: spec.name))

    def parameter(self, name: str) -> ParameterSpec | None:
        """Find a parameter by its name."""
        return next((spec for item in self.workflows for spec in item.parameters if spec.name == name), None)

    def command(self, word: str) -> Bound:
        """Get a command by its word; KeyError where no workflow has it."""
        return self._by_word[word]

    def _add(self, item: Workflow) -> None:
        known = [one.name for one in self.workflows[: self.workflows.index(item)]]
        unknown_workflows = [name for name in item.asks if name not in known]
        if unknown_workflows:
            raise TypeError(f"{item.name} asks {unknown_workflows}, which stand not before it")
        functions = item.functions()
        for case_type in item.cases:
            self._unique(case_type.word in self.case_types, f"case type {case_type.word}")
            self.case_types[case_type.word] = (item, case_type)
            self.fields[case_type.word] = case_type.fields
            self.owner[case_type.fields] = item.name
            self.case_words[case_type.fields] = case_type.word
            for word in dict.fromkeys(row.name for row in case_type.rows):
                self._bind(item, case_type, word, functions[word])
        for register in item.registers:
            self._unique(register in self.owner, f"register {register.word}")
            self.owner[register] = item.name

    def _bind(self, item: Workflow, case_type: CaseType, word: str, function: Callable[..., Outcome[Any]]) -> None:
        rows = tuple(row for row in case_type.rows if row.name == word)
        command = rows[0].command
        self._unique(word in self._by_word, f"command {word}")
        self._unique(command in self.by_type, f"command type {command.__name__}")
        self._unique(any(row.command is not command for row in rows), f"second command type of {word}")
        states = [state for row in rows for state in row.from_states + row.to_states]
        self._unique(any(state not in case_type.states for state in states), f"a state of {word}")
        bound = Bound(
            word=word,
            workflow=item,
            case_type=case_type,
            command=command,
            function=function,
            opening=tuple(row for row in rows if row.opens),
            moving=tuple(row for row in rows if not row.opens),
        )
        self.commands[item.name, word] = bound
        self._by_word[word] = bound
        self.by_type[command] = bound

    @staticmethod
    def _unique(wrong: bool, what: str) -> None:  # noqa: FBT001 - a claim to refute
        if wrong:
            raise TypeError(f"registry: {what} is declared twice or is unknown: give each its own")
