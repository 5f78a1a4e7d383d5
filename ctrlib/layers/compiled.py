"""Loops that numba compiles, where it is installed; without it the framework's operations do the same work."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


@cache
def loops(name: str) -> ModuleType | None:
    """Return the module `ctrlib.layers.NAME` of compiled loops, or None without numba."""
    return import_module(f"ctrlib.layers.{name}") if find_spec("numba") else None
