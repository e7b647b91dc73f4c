"""One JSON form for ledger types: structs are objects, bytes are lower-case hex, codes are their words.

On the wire of the ledger a struct is an array and bytes are bytes. For JSON, `twin` makes of every such type one with
the same field names whose JSON schema a client can read; `to_json` and `from_json` go between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar, Union, cast

import msgspec
from msgspec import Meta, inspect

from yilian.errors import SettingsError

T = TypeVar("T")


def to_json(value: object) -> Any:  # noqa: ANN401 - what JSON holds
    """Give what JSON can hold of a ledger value; a struct with a tag says it as `type`."""
    match value:
        case bytes():
            return value.hex()
        case Enum():
            return value.value
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            head = {} if tag is None else {"type": tag}
            return head | {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
        case tuple() | list():
            return [to_json(item) for item in value]
        case Mapping():
            return {str(name): to_json(item) for name, item in value.items()}
        case _:
            return value


def from_json(value: object, kind: type[T]) -> T:
    """Make a ledger value of a `twin`, or of objects of plain JSON; fields that may be absent become null.

    Raises:
        SettingsError: a field is missing, unknown, or outside its bounds.
    """
    plain = msgspec.to_builtins(value)
    try:
        return msgspec.convert(_wire(inspect.type_info(kind), plain, "$"), kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise SettingsError(f"{getattr(kind, '__name__', kind)}: {error}: correct that field") from error


@cache
def twin(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Make the JSON form of a ledger struct: same fields, hex for bytes, null where a value may be absent."""
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind} is no struct: give one")
    return _twin_struct(info)


@cache
def _named_twin(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    return _twin_struct(cast("inspect.StructType", inspect.type_info(kind)))


def _twin_struct(info: inspect.StructType) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for field in info.fields:
        annotation = _twin(field.type)
        may_be_absent = isinstance(field.type, inspect.UnionType) and field.type.includes_none
        fields.append((field.name, annotation, None) if may_be_absent else (field.name, annotation))
    tag = info.cls.__struct_config__.tag
    return msgspec.defstruct(
        info.cls.__name__,
        fields,
        namespace={"__doc__": info.cls.__doc__},
        module=info.cls.__module__,
        tag=tag,
        tag_field="type" if tag is not None else None,
        forbid_unknown_fields=True,
        frozen=True,
        kw_only=True,
    )


def _twin(info: inspect.Type) -> Any:  # noqa: ANN401, PLR0911 - an annotation; one return a kind of type
    match info:
        case inspect.Metadata():
            return _twin(info.type)
        case inspect.BytesType():
            return Annotated[str, _hex_bounds(info)]
        case inspect.StrType():
            return Annotated[str, Meta(min_length=info.min_length, max_length=info.max_length, pattern=info.pattern)]
        case inspect.IntType():
            return Annotated[int, Meta(ge=info.ge, le=info.le)]
        case inspect.BoolType():
            return bool
        case inspect.NoneType():
            return None
        case inspect.EnumType():
            return info.cls
        case inspect.VarTupleType():
            inner = tuple[_twin(info.item_type), ...]  # type: ignore[misc, valid-type]  # built at run time
            return Annotated[inner, Meta(min_length=info.min_length, max_length=info.max_length)]
        case inspect.UnionType():
            return Union[tuple(_twin(one) for one in info.types)]  # noqa: UP007 - built at run time
        case inspect.StructType():
            return _named_twin(info.cls)
        case _:
            raise TypeError(f"{info} has no JSON form: use bytes, text, integers, codes, tuples and structs")


def _hex_bounds(info: inspect.BytesType) -> Meta:
    least, most = info.min_length, info.max_length
    if least is not None and least == most:
        return Meta(pattern=f"^[0-9a-f]{{{2 * least}}}$", description=f"{least} bytes, hex")
    return Meta(
        pattern="^([0-9a-f]{2})*$",
        min_length=None if least is None else 2 * least,
        max_length=None if most is None else 2 * most,
        description="bytes, hex",
    )


def _wire(info: inspect.Type, value: Any, path: str) -> Any:  # noqa: ANN401 - what JSON holds
    match info:
        case inspect.Metadata():
            return _wire(info.type, value, path)
        case inspect.BytesType() if isinstance(value, str):
            try:
                return bytes.fromhex(value)
            except ValueError:
                raise ValueError(f"{path} is no hex") from None
        case inspect.VarTupleType() if isinstance(value, list | tuple):
            return [_wire(info.item_type, item, f"{path}[{index}]") for index, item in enumerate(value)]
        case inspect.UnionType() if value is not None:
            return _wire(_chosen(info, value, path), value, path)
        case inspect.StructType():
            return _wire_struct(info, value, path)
        case _:
            return value


def _chosen(info: inspect.UnionType, value: Any, path: str) -> inspect.Type:  # noqa: ANN401 - what JSON holds
    some = [one for one in info.types if not isinstance(one, inspect.NoneType)]
    if len(some) == 1:
        return some[0]
    wanted = value.get("type") if isinstance(value, dict) else None
    for one in some:
        if isinstance(one, inspect.StructType) and one.tag == wanted:
            return one
    raise ValueError(f"{path}.type is {wanted!r}, which is none of the choices")


def _wire_struct(info: inspect.StructType, value: Any, path: str) -> list[Any]:  # noqa: ANN401 - what JSON holds
    if not isinstance(value, dict):
        raise TypeError(f"{path} is no object")
    given = {name: item for name, item in value.items() if name != "type" or info.tag is None}
    unknown = sorted(set(given) - {field.name for field in info.fields})
    if unknown:
        raise ValueError(f"{path} has no field {unknown[0]}")
    items: list[Any] = [] if info.tag is None else [info.tag]
    for field in info.fields:
        absent = field.name not in given
        if absent and not (isinstance(field.type, inspect.UnionType) and field.type.includes_none):
            raise ValueError(f"{path}.{field.name} is missing")
        items.append(None if absent else _wire(field.type, given[field.name], f"{path}.{field.name}"))
    return items
