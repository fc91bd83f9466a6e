"""The same value in another JSON type: a number sent as text, a boolean as 0 or 1, a text that is a number.

Only what can mean nothing else is taken; everything else is left for msgspec to refuse, which names the field.
"""

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct, inspect

NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}
_LONGESTNUMBER: Final = 400
"""Characters; a longer text is no count of anything."""


class _Shape(Struct, frozen=True):
    """What a type takes."""

    anything: bool = False
    text: bool = False
    integer: bool = False
    real: bool = False
    truth: bool = False
    fields: dict[str, "_Shape"] | None = None
    items: "_Shape | None" = None


def coerced(value: Any, kind: type) -> Any:
    """Return decoded JSON with each value in a JSON type that `kind` takes, where it can only mean that."""
    return _coerced(value, _shape_of(kind))


def as_truth(value: Any) -> bool | None:
    """Return the boolean that a value stands for: itself, 0 or 1, or one of them as text; None when it is none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def as_number(value: Any) -> int | float | None:
    """Return the finite number that a value stands for: itself, or a number as text; None when it is none."""
    if isinstance(value, str):
        text = value.strip()
        match = NUMBER.fullmatch(text) if len(text) <= _LONGESTNUMBER else None
        if match is None:
            return None
        value = float(text) if match[1] or match[2] else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _coerced(value: Any, shape: _Shape) -> Any:
    if shape.anything or value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        fields = shape.fields
        return (
            {key: _coerced(it, fields[key]) if key in fields else it for key, it in value.items()} if fields else value
        )
    if isinstance(value, list):
        items = shape.items
        return [_coerced(it, items) for it in value] if items else value
    return _scalar(value, shape)


def _scalar(value: str | float, shape: _Shape) -> Any:
    if isinstance(value, str):
        if shape.text:
            return value
    elif shape.real or (shape.integer and isinstance(value, int)):
        return value
    if (shape.integer or shape.real) and (number := as_number(value)) is not None:
        if shape.real or isinstance(number, int):
            return number
        return int(number) if number.is_integer() else value
    if shape.truth and (truth := as_truth(value)) is not None:
        return truth
    return str(value) if shape.text else value


_shape_of: Final[Callable[[Any], _Shape]] = cache(lambda kind: _shape(inspect.type_info(kind)))


def _shape(info: inspect.Type) -> _Shape:
    if isinstance(info, inspect.UnionType):
        merged = _Shape()
        for member in info.types:
            one = _shape(member)
            taken = {name: getattr(one, name) for name in one.__struct_fields__ if getattr(one, name)}
            merged = msgspec.structs.replace(merged, **taken)
        return merged
    if isinstance(info, inspect.StructType):
        return _Shape(fields={field.encode_name: _shape(field.type) for field in info.fields})
    if isinstance(info, inspect.ListType):
        return _Shape(items=_shape(info.item_type))
    return _Shape(
        anything=not isinstance(
            info, inspect.StrType | inspect.IntType | inspect.FloatType | inspect.BoolType | inspect.NoneType
        ),
        text=isinstance(info, inspect.StrType),
        integer=isinstance(info, inspect.IntType),
        real=isinstance(info, inspect.FloatType),
        truth=isinstance(info, inspect.BoolType),
    )
