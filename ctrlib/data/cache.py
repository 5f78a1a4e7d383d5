"""Encoded arrays on disk, so that a data set is read and encoded once.

A cache file is written whole or not at all, and its content is checked against its fingerprint when it is
read. A damaged one is thrown away and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlib.data.dataset import SPLITS, CTRDataset, Split, fingerprint
from ctrlib.data.schema import Field, Schema
from ctrlib.paths import cache_dir

ENCODER = 1  # raise by hand when the same files and settings give other arrays or notes


def cache_path(
    name: str,
    settings: Mapping[str, Any],
    fields: tuple[Field, ...],
    label: str,
    checksums: Mapping[str, str],
) -> Path:
    """Return the cache file that belongs to these source files under these settings."""
    key = json.dumps(
        [ENCODER, name, dict(settings), [asdict(field) for field in fields], label, dict(checksums)],
        sort_keys=True,
    )
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_dir() / "encoded" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{digest}.npz"


def save(data: CTRDataset, settings: Mapping[str, Any], path: Path) -> None:
    """Write the data set to `path`. A full or read-only disk gives a warning: the data is in memory."""
    about = {
        "schema": data.schema.to_dict(),
        "fingerprint": data.fingerprint,
        "notes": data.notes,
        "name": data.name,
        "settings": dict(settings),
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
    for split in SPLITS:
        part: Split = getattr(data, split)
        arrays |= {f"{split}_ids": part.ids.numpy(), f"{split}_labels": part.labels.numpy()}
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(scratch, path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        warnings.warn(f"{path} could not be written ({error}); the data is used and not kept.", stacklevel=2)


def load(path: Path) -> CTRDataset | None:
    """Read a cache file; None when there is none, or when it was damaged and is now removed."""
    if not path.is_file():
        return None
    try:
        return _read(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        warnings.warn(f"{path} is damaged ({error}) and is made again.", stacklevel=2)
        with suppress(OSError):
            path.unlink()
        return None


def stored_fingerprint(path: Path) -> str | None:
    """Return the fingerprint that a cache file, or the folder of a large data set in its place, says it has."""
    about = path.with_suffix("") / "about.json"
    try:
        if about.is_file():
            return str(json.loads(about.read_text(encoding="utf8"))["fingerprint"])
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return str(json.loads(str(stored["about"]))["fingerprint"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _read(path: Path) -> CTRDataset:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        arrays = {split: (stored[f"{split}_ids"], stored[f"{split}_labels"]) for split in SPLITS}
    schema = Schema.from_dict(about["schema"])
    if fingerprint(about["name"], about["settings"], schema, arrays) != about["fingerprint"]:
        raise ValueError("the arrays do not have the fingerprint that they were written with")
    splits = {split: Split(torch.from_numpy(ids), torch.from_numpy(labels)) for split, (ids, labels) in arrays.items()}
    return CTRDataset(about["name"], schema, **splits, fingerprint=about["fingerprint"], notes=about["notes"])
