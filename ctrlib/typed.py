"""Whether the values of a settings object have the types that its fields are annotated with.

The settings of models and protocols are dataclasses. Their values come from keywords, from a command line, and from
records, so a value of another type gets an error that names the setting.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ctrlib.errors import SettingError

WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def typed(owner: str, settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of known fields of a dataclass with numpy's numbers as Python's own.

    owner: what an error calls the settings, such as "model DNN". Raises `SettingError` for a value of another type than
    the field's, and for one that is not a number (NaN). A whole number is good where a number is asked for.
    """
    hints = _hints(settings)
    plain = {name: _plain(value) for name, value in values.items()}
    for name, value in plain.items():
        kinds = _kinds(hints[name])
        if kinds and not any(_is(value, kind) for kind in kinds):
            wanted = " or ".join(WORDS.get(kind, "None") for kind in kinds)
            raise SettingError(f"Setting {name} of {owner} is {value!r}; it must be {wanted}.")
    return plain


@cache
def _hints(settings: type) -> dict[str, Any]:
    return get_type_hints(settings)


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the types that a hint allows, none for one that is not looked into, such as a list: its model does so."""
    if get_origin(hint) in (Union, types.UnionType):
        found = [_kinds(part) for part in get_args(hint)]
        return tuple(kind for kinds in found for kind in kinds) if all(found) else ()
    kind = get_origin(hint) or hint
    return (kind,) if kind in (*WORDS, types.NoneType) else ()


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _plain(value: Any) -> Any:
    """Return numpy's numbers and arrays, inner ones too, as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
