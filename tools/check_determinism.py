"""Refuse what could make two nodes compute different results from the same block.

Looks at the modules inside consensus: `values.py`, `canonical.py`, `ledger/`, `workflows/registry.py` and, of each
workflow, every module but `service.py`, `routes.py` and `__init__.py`.
What it refuses: floats and true division, sets whose order could be seen, `hash()`, `id()` and other builtins that
differ between processes, broad `except`, and imports that are not on the list below.

    python tools/check_determinism.py [folder of the package, src/yilian by default]

Prints `file:line: what, and what to do instead`, then exits 1; exits 0 where nothing was found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "yilian"
PURE = ("model.py", "contract.py", "interface.py")

# Nothing here has a clock, chance, disk, network, thread or floating point.
ALLOWED_IMPORTS = frozenset(
    {
        "__future__", "abc", "base64", "binascii", "bisect", "cbor2", "collections", "contextlib", "copy",
        "dataclasses", "enum", "functools", "hashlib", "heapq", "hmac", "itertools", "msgspec", "operator", "re",
        "string", "struct", "types", "typing", "typing_extensions", "yilian",
    }
)  # fmt: skip
ALLOWED_FROM = {"math": frozenset({"comb", "factorial", "gcd", "isqrt", "lcm", "perm", "prod"})}

UNSTABLE_CALLS = {
    "hash": "it differs from process to process: use hashlib over canonical bytes",
    "id": "it is a memory address: use an id of the ledger",
    "open": "consensus has no disk: take the bytes as an argument",
    "input": "consensus has no terminal: take the value as an argument",
    "eval": "say in code what is to be computed",
    "exec": "say in code what is to be computed",
    "__import__": "import at the top of the module",
}
FLOAT_NAMES = frozenset({"float", "complex"})
SET_NAMES = frozenset({"set", "frozenset"})
# Calls over a set whose result does not depend on its order.
ORDER_FREE_CALLS = frozenset({"all", "any", "bool", "len", "sorted"})
SET_OPERATORS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)
VIEWS = frozenset({"keys", "items"})
BROAD = frozenset({"Exception", "BaseException"})

USE_INTEGERS = "use integers with a named unit (fen, milliseconds, per mille)"
USE_TUPLE = "its order differs from process to process: use a tuple, sorted(...) or dict.fromkeys(...)"


class Finding(NamedTuple):
    """One place that could make nodes disagree; `line` counts from 1."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def modules_inside_consensus(package: Path) -> tuple[Path, ...]:
    """List the modules under the package's folder that every node must compute alike, sorted.

    Of a workflow's folder these are model, contract, interface, and what they import from beside them.
    """
    found = [package / name for name in ("values.py", "canonical.py", "workflows/registry.py")]
    found += (package / "ledger").rglob("*.py")
    for folder in sorted((package / "workflows").glob("*/")):
        waiting = [folder / name for name in PURE]
        while waiting:
            module = waiting.pop()
            if module in found or not module.is_file():
                continue
            found.append(module)
            waiting += (folder / f"{name}.py" for name in _imported_siblings(module))
    return tuple(sorted(module for module in found if module.is_file()))


def _imported_siblings(module: Path) -> tuple[str, ...]:
    own = f"yilian.workflows.{module.parent.name}"
    names: list[str] = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names += (alias.name for alias in node.names if node.module == own)
            names.append(node.module.removeprefix(own + "."))
        elif isinstance(node, ast.Import):
            names += (alias.name.removeprefix(own + ".") for alias in node.names)
    return tuple(names)


def check_package(package: Path) -> tuple[Finding, ...]:
    """Check every module inside consensus, in order of path and line.

    Raises:
        FileNotFoundError: there is no ledger in this folder, so a wrong path cannot pass as a clean one.
    """
    if not (package / "ledger").is_dir():
        raise FileNotFoundError(f"{package} has no folder ledger: give the folder of the package, such as src/yilian")
    return tuple(
        finding
        for module in modules_inside_consensus(package)
        for finding in check_source(module.read_text(encoding="utf-8"), module)
    )


def check_source(source: str, path: Path) -> tuple[Finding, ...]:
    """Check the text of one module; `path` only names it in the findings."""
    tree = ast.parse(source, str(path))
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    found = {
        Finding(path, getattr(node, "lineno", 1), text)
        for node in ast.walk(tree)
        for text in _objections(node, parents)
    }
    return tuple(sorted(found))


def main(arguments: list[str]) -> int:
    """Check the package named by the first argument, else our own; give the exit code."""
    package = Path(arguments[0]) if arguments else PACKAGE
    findings = check_package(package)
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} places could make two nodes disagree", file=sys.stderr)
    return 1 if findings else 0


def _objections(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[str]:
    match node:
        case ast.Constant(value=float() | complex()):
            yield f"the float {node.value!r}: {USE_INTEGERS}"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            yield f"true division gives a float: use // and say how it rounds; {USE_INTEGERS}"
        case ast.Name(id=name) if name in FLOAT_NAMES:
            yield f"{name} is not exact: {USE_INTEGERS}"
        case ast.Set() | ast.SetComp() if not _order_is_free(node, parents):
            yield f"a set: {USE_TUPLE}"
        case ast.Call(func=ast.Name(id=name)) if name in SET_NAMES and not _order_is_free(node, parents):
            yield f"{name}(): {USE_TUPLE}"
        case ast.BinOp(op=operator, left=left, right=right) if isinstance(operator, SET_OPERATORS):
            if (_is_view(left) or _is_view(right)) and not _order_is_free(node, parents):
                yield f"an operator on keys() or items() gives a set: {USE_TUPLE}"
        case ast.Call(func=ast.Name(id=name)) if name in UNSTABLE_CALLS:
            yield f"{name}(): {UNSTABLE_CALLS[name]}"
        case ast.ExceptHandler(type=caught) if _is_broad(caught):
            yield "a broad except would turn a fault of one node into another result: catch the narrowest type"
        case ast.Import(names=names):
            yield from (_foreign(alias.name) for alias in names if not _may_import(alias.name))
        case ast.ImportFrom(module=str(module), names=names, level=0) if not _may_import(module):
            yield from (
                _foreign(f"{module}.{alias.name}")
                for alias in names
                if alias.name not in ALLOWED_FROM.get(module, frozenset())
            )


def _order_is_free(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether nobody can see the order of this set: it is compared, counted or sorted where it stands."""
    parent = parents.get(node)
    match parent:
        case ast.Compare():
            return True
        case ast.Call(func=ast.Name(id=name)) if name in ORDER_FREE_CALLS:
            return True
        case ast.Call(func=ast.Name(id=name)) if name in SET_NAMES:
            return _order_is_free(parent, parents)
        case ast.BinOp(op=operator) if isinstance(operator, SET_OPERATORS):
            return _order_is_free(parent, parents)
        case _:
            return False


def _is_view(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VIEWS


def _is_broad(caught: ast.expr | None) -> bool:
    match caught:
        case None:
            return True
        case ast.Name(id=name):
            return name in BROAD
        case ast.Tuple(elts=elements):
            return any(_is_broad(element) for element in elements)
        case _:
            return False


def _may_import(module: str) -> bool:
    return module.partition(".")[0] in ALLOWED_IMPORTS


def _foreign(name: str) -> str:
    return (
        f"import of {name}: consensus has no clock, chance, disk, network or thread; take what it gives as an argument "
        "or, where it has none of these, add it to ALLOWED_IMPORTS in tools/check_determinism.py"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
