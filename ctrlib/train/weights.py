"""A trained model's weights in one file, from which a later stage starts.

The file is a safetensors file. Its header holds the model's name, settings and schema, the fingerprint of the data, and
a digest of the weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctrlib.data import CTRDataset, Schema
from ctrlib.errors import RecordError, SettingError, advice
from ctrlib.models import MODELS, CTRModel, build_model
from ctrlib.models.base import Origin
from ctrlib.paths import written_whole

KEY = "ctrlib"
ENCODER = "encoder"  # of the header: the vocabularies, where a model was trained on a table of one's own


def save_weights(path: Path, model: CTRModel, data: CTRDataset, **about: Any) -> None:
    """Write the weights of a model that `build_model` made, whole or not at all; a file of that name is replaced.

    about: what else the header shall tell, for example scores. Raises `RecordError` when it cannot be written.
    """
    header = {
        "model": model.name,
        "settings": dataclasses.asdict(model.settings),
        "schema": model.schema.to_dict(),
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        **about,
    }
    write_tensors(path, model.state_dict(), header)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a header that JSON can hold, whole or not at all. Raises `RecordError` when it cannot be."""
    from safetensors.torch import save

    # Clones, since safetensors refuses two names for one tensor, such as a table that a teacher shares.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    text = json.dumps({**header, "digest": _digest(copies)})
    path = Path(path)
    try:
        with written_whole(path) as partial:
            partial.write_bytes(save(copies, {KEY: text}))
    except OSError as error:
        raise RecordError(f"Could not write the weights {path}: {advice(error)}") from error


def read_weights(path: Path, data: CTRDataset) -> Origin:
    """Return the weights in a file. Raises `RecordError` for a file that is missing, damaged or of other data."""
    header, tensors = read_tensors(Path(path))
    if "classifier" in header:
        raise RecordError(f"{path} holds a classifier: read it with CTRClassifier.load. Name the weights of a model.")
    if absent := sorted({"model", "settings", "schema", "dataset", "fingerprint"} - header.keys()):
        raise RecordError(f"{path} does not tell its {', '.join(absent)}. Train again.")
    if header["fingerprint"] != data.fingerprint:
        raise RecordError(
            f"{path} was trained on {header['dataset']} with fingerprint {header['fingerprint']}, not on "
            f"{data.name} with fingerprint {data.fingerprint}. Train it again on this data."
        )
    return Origin(header["model"], header["settings"], Schema.from_dict(header["schema"]), tensors, label=str(path))


def start_from(model: CTRModel, path: Path, data: CTRDataset) -> None:
    """Let the model take over the weights in a file; see `CTRModel.start_from` for what must fit."""
    model.start_from(read_weights(path, data))


def load_model(path: Path, data: CTRDataset) -> CTRModel:
    """Return the model in a file, in evaluation mode."""
    origin = read_weights(path, data)
    if origin.model not in MODELS:
        raise SettingError(f"{path} holds a model called '{origin.model}', which this version does not have.")
    model = build_model(origin.model, data.schema, **origin.settings)
    model.load_state_dict(origin.tensors)
    return model.eval()


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and tensors of a file. Raises `RecordError` for one that is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise RecordError(f"There are no weights at {path}. Train the stage before first.")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
            if not isinstance(header, dict) or "digest" not in header:
                raise ValueError("its header lacks a digest")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise RecordError(
            f"{path} cannot be read as weights ({error}). It is damaged, or ctrlib did not write it: name another, or "
            "train again."
        ) from error
    if _digest(tensors) != header["digest"]:
        raise RecordError(f"The weights {path} are damaged: their digest differs. Train again.")
    return header, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return a digest of names and values, independent of their order."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
