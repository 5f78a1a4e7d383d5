"""A run's state on disk, written after every epoch, so that a run cut off goes on with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ctrlib.errors import RecordError, advice
from ctrlib.paths import written_whole


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` whole or not at all; on failure the previous checkpoint stays."""
    try:
        with written_whole(path) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        why = advice(error) if isinstance(error, OSError) else f"{error}. Free some space."
        raise RecordError(
            f"Could not write the checkpoint {path}: {why} Then start again; the run goes on from the last complete "
            "epoch."
        ) from error


def load(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state for the run called `identity`, or None when there is none that can be used.

    A checkpoint of other settings, and a damaged one, is not used: the run starts afresh.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return None
    return state if isinstance(state, dict) and state.get("identity") == identity else None
