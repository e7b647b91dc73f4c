"""Sample values of any wire type, made from its annotations alone: valid in form, meaningless in content."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T", bound=msgspec.Struct)


def sample(kind: type[T], fixed: dict[str, Any] | None = None) -> T:
    """Make the smallest valid instance of a struct; `fixed` sets fields by name."""
    given = fixed or {}
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind.__name__} is no struct")
    values = {field.name: given[field.name] if field.name in given else _value(field.type) for field in info.fields}
    return kind(**values)


def _value(info: inspect.Type) -> Any:  # noqa: ANN401, PLR0911 - one return a kind of type
    match info:
        case inspect.UnionType(types=types):
            plain = [one for one in types if isinstance(one, inspect.NoneType)]
            return None if plain else _value(types[0])
        case inspect.IntType(ge=at_least):
            return max(at_least or 0, 0)
        case inspect.BytesType(min_length=size):
            return b"\x07" * (size or 0)
        case inspect.StrType(min_length=size):
            return "x" * max(size or 1, 1)
        case inspect.BoolType():
            return False
        case inspect.EnumType(cls=cls):
            return next(iter(cls))
        case inspect.VarTupleType(item_type=item, min_length=size):
            return tuple(_value(item) for _ in range(size or 0))
        case inspect.TupleType(item_types=items):
            return tuple(_value(item) for item in items)
        case inspect.StructType(cls=cls):
            return sample(cls)
        case inspect.LiteralType(values=values):
            return values[0]
        case _:
            raise TypeError(f"no sample for {info}")
