"""Errors that say what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class CtrlibError(Exception):
    """Base of every error that ctrlib raises on purpose."""


class DataError(CtrlibError):
    """A data file, a column or a value cannot be used."""


class InputError(DataError, ValueError):
    """What an estimator was given as X or y cannot be used. A ValueError, as scikit-learn's conventions want it."""


class SettingError(CtrlibError, ValueError):
    """A name or a setting is unknown or out of range."""


class RecordError(CtrlibError):
    """A run record is damaged, stale or could not be written."""


class DeviceError(CtrlibError):
    """The device asked for is absent or out of memory."""


def nearest(name: object, names: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `names`, or "" when none is close."""
    lowered = {n.lower(): n for n in names}
    found = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean '{lowered[found[0]]}'?" if found else ""


def unknown(kind: str, name: object, names: Iterable[str]) -> SettingError:
    """Return the error for a `kind` (model, setting, profile, ...) called `name` that is none of `names`."""
    known = sorted(names)
    return SettingError(f"Unknown {kind} '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")


def advice(error: OSError) -> str:
    """Return why a file could not be written and what to do: "No space left on device. Free some space."."""
    known = {
        errno.ENOSPC: "Free some space.",
        errno.EISDIR: "Name a file, not a folder.",
        errno.ENOTDIR: "A part of the path is a file; name another folder.",
        errno.EEXIST: "A part of the path is a file; name another folder.",
    }
    return f"{error.strerror or error}. {known.get(error.errno or 0, 'Name a folder that can be written.')}"
