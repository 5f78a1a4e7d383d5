r"""How faithfully a student copies its teacher: a study whose truth is known, and maps over seeds.

The polynomial study (DS-MLP paper, 4.3.3 and Figure 3). Three categorical fields; the truth is a GDCN with random
weights, the labels are clicks drawn from its probability. All combinations of the three fields are scored, so an error
is exact. The paper gives neither vocabulary nor samples nor weights nor how a part of the teacher predicts
alone: these are choices of ours. A part of the teacher predicts with what it adds to the logit and the teacher's bias.

V combinations of the fields, B rows, F fields, D embedding width.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ctrlib import seeds
from ctrlib.data import CTRDataset, Field, Schema, Split
from ctrlib.ds_mlp import DSMLP
from ctrlib.errors import RecordError, unknown
from ctrlib.lab.dual_stream import TWO_TRAINED
from ctrlib.lab.interactions import interaction_map, likeness
from ctrlib.lab.runner import commit, environment
from ctrlib.lab.stats import summary
from ctrlib.lab.streams import Measured, stored
from ctrlib.models import CTRModel, build_model
from ctrlib.models.dcn import CrossModel
from ctrlib.paths import jobs_at_once, measurements_dir, written_whole
from ctrlib.train import Protocol, fit

NAME = "polynomial"  # the study's data set
TOKENS, DIM = 12, 8
SCHEMA = Schema(tuple(Field(f"x{k}") for k in (1, 2, 3)), (TOKENS + 2,) * 3)
LOGIT_STD = 1.5  # of the truth over all combinations
NETWORK: dict[str, Any] = {"embedding_dim": DIM, "dropout": 0.0}
GDCN: dict[str, Any] = {**NETWORK, "hidden_units": (32, 32, 32), "cross_layers": 3}
PROTOCOL = Protocol.named("bars", learning_rate=1e-2, batch_size=256, embedding_dim=DIM)
OTHER_ROWS = 20_000  # of the validation and of the test split: many, so that training ends by little chance

Place = tuple[str, str, str]  # experiment, label, and stream of a measured run


@dataclass(frozen=True)
class Cell:
    """rows: clicks to train on. width: of each layer of both MLPs. changes: of DS-MLP's other settings.

    exact: the teacher is the truth itself. student_only: nothing is trained after distillation.
    """

    rows: int = 8000
    width: int = 32
    changes: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False
    student_only: bool = False


# As section 3.5 has it: a squared error of probabilities, with a weight at which the loss of the clicks hardly counts.
EXACT: dict[str, Any] = {"distillation": "squared", "distill_on": "probabilities", "distill_streams": "alone"}
EXACT["distill_weight"] = 100.0
WIDTH_CELLS = {8: "width=8", 16: "width=16", 32: "reference", 64: "width=64", 128: "width=128"}
ROW_CELLS = {2000: "rows=2000", 4000: "rows=4000", 8000: "reference", 16000: "rows=16000", 32000: "rows=32000"}
ALIGNED_CELLS = {rows: f"aligned, rows={rows}" for rows in ROW_CELLS}
EXACT_CELLS = {rows: f"exact, rows={rows}" for rows in ROW_CELLS}
CELLS = {
    **{name: Cell(width=width) for width, name in WIDTH_CELLS.items()},
    **{name: Cell(rows=rows) for rows, name in ROW_CELLS.items()},
    **{name: Cell(rows, changes={"mode": "aligned"}, student_only=True) for rows, name in ALIGNED_CELLS.items()},
    **{name: Cell(rows, changes=EXACT, exact=True, student_only=True) for rows, name in EXACT_CELLS.items()},
    "aligned": Cell(changes={"mode": "aligned"}),
    "released": Cell(changes={"mode": "released"}),
    "no teacher": Cell(changes={"distill_weight": 0.0}),
}
SLOPES = {"as written": ROW_CELLS, "alone": ALIGNED_CELLS, "exact teacher": EXACT_CELLS}


# --- the truth and its clicks ------------------------------------------------------------------------------


def combinations() -> Tensor:
    """Return the ids of all combinations of the three fields, (V, 3); padding and unknown tokens are in none."""
    return torch.cartesian_prod(*(torch.arange(1, TOKENS + 1) + offset for offset in SCHEMA.offsets)).int()


@torch.no_grad()
def truth(seed: int) -> CTRModel:
    """Return a random GDCN whose logit has mean 0 and standard deviation `LOGIT_STD` over all combinations."""
    law = build_model("GDCN", SCHEMA, seed=seed, **GDCN).eval()
    assert isinstance(law, CrossModel)
    law.embedding.weight.normal_(generator=seeds.stream(seed, "truth"))
    law.head.weight.mul_(LOGIT_STD / law(combinations()).std())
    law.head.bias.sub_(law(combinations()).mean())
    return law


def clicks(law: CTRModel, seed: int, rows: int) -> CTRDataset:
    """Return clicks drawn from the law's probability, every combination being as likely as any other."""
    sizes = {"train": rows, "valid": OTHER_ROWS, "test": OTHER_ROWS}
    splits = {name: _drawn(law, seeds.stream(seed, "clicks", name), count) for name, count in sizes.items()}
    return CTRDataset(NAME, SCHEMA, **splits, fingerprint=f"{NAME}-{seed}-{rows}", notes={})


@torch.no_grad()
def _drawn(law: CTRModel, generator: torch.Generator, rows: int) -> Split:
    ids = combinations()[torch.randint(TOKENS**3, (rows,), generator=generator)]
    return Split(ids, (torch.rand(rows, generator=generator) < torch.sigmoid(law(ids))).float())


def best_sum(values_V: Tensor) -> Tensor:
    """Return the sum of functions of single fields that is nearest to values over all combinations, (V,)."""
    cube = values_V.reshape((TOKENS,) * 3)
    mean = cube.mean()
    parts = [cube.mean(dim=[k for k in range(3) if k != f], keepdim=True) - mean for f in range(3)]
    return (mean + parts[0] + parts[1] + parts[2]).expand_as(cube).flatten()


# --- one cell of the study ---------------------------------------------------------------------------------


def train_cell(seed: int, cell: Cell, **changes: Any) -> dict[str, CTRModel]:
    """Train the networks of a cell: "truth", "teacher", "distilled" and, unless only a student is wanted, "aligned".

    With it come two that learn from the clicks alone: an "MLP" as wide as the student and a gated "cross network".
    changes: of the protocol.
    """
    protocol = PROTOCOL.replace(**changes)
    law, data, teacher, cross = _teachers(seed, cell.rows, protocol)
    taught_by = law if cell.exact else teacher()
    settings = {**NETWORK, "hidden_units": (cell.width,) * 3, "parallel_units": (cell.width,) * 3, "batch_norm": False}
    settings |= cell.changes
    told = {"teacher": "GDCN", "teacher_settings": GDCN}
    distilled = build_model("DS-MLP", SCHEMA, seed=seed, stage="distill", **settings, **told)
    distilled.start_from(taught_by.origin())
    networks = {"truth": law, "teacher": taught_by, "distilled": _fitted(distilled, data, protocol, seed)}
    if cell.student_only:
        return networks
    aligned = build_model("DS-MLP", SCHEMA, seed=seed, stage="align", **settings)
    aligned.start_from(distilled.origin())
    mlp = build_model("DNN", SCHEMA, seed=seed, **NETWORK, hidden_units=(cell.width,) * 3)
    networks |= {"aligned": _fitted(aligned, data, protocol, seed), "MLP": _fitted(mlp, data, protocol, seed)}
    return networks | {"cross network": cross()}


@lru_cache(maxsize=8)
def _teachers(
    seed: int, rows: int, protocol: Protocol
) -> tuple[CTRModel, CTRDataset, Callable[[], CTRModel], Callable[[], CTRModel]]:
    """Return the truth, its clicks, and functions that train the teacher and the cross network once."""
    law = truth(seed)
    data = clicks(law, seed, rows)

    @lru_cache(maxsize=1)
    def teacher() -> CTRModel:
        return _fitted(build_model("GDCN", SCHEMA, seed=seed, **GDCN), data, protocol, seed)

    @lru_cache(maxsize=1)
    def cross() -> CTRModel:
        alone = build_model("GDCN", SCHEMA, seed=seed, **{**GDCN, "hidden_units": ()})
        return _fitted(alone, data, protocol, seed)

    return law, data, teacher, cross


def _fitted(model: CTRModel, data: CTRDataset, protocol: Protocol, seed: int) -> CTRModel:
    fit(model, data, protocol, seed=seed)
    return model.eval()


@torch.no_grad()
def stream_logits(networks: Mapping[str, CTRModel]) -> dict[str, Tensor]:
    """Return the logits (V,) of the truth and of every stream of a cell's networks over all combinations.

    "best sum" is the sum of functions of single fields nearest to the true logit; "cross part" and "MLP part" are the
    teacher's; "student" is the main stream after distillation, "main" after alignment.
    """
    ids = combinations()
    found = {"truth": networks["truth"](ids), "teacher": networks["teacher"](ids)}
    distilled = networks["distilled"]
    assert isinstance(distilled, DSMLP)
    found["student"] = distilled.stream_logits(ids)[0]
    if "aligned" not in networks:
        return found
    teacher, aligned = networks["teacher"], networks["aligned"]
    assert isinstance(teacher, CrossModel) and isinstance(aligned, DSMLP)
    parts = teacher.stream_logits(teacher.embedding(ids)) + teacher.head.bias
    streams = aligned.stream_logits(ids)
    found |= {"cross part": parts[0], "MLP part": parts[1], "main": streams[0], "parallel": streams[1]}
    found |= {"whole": aligned(ids), "MLP": networks["MLP"](ids), "cross network": networks["cross network"](ids)}
    return found | {"best sum": best_sum(found["truth"])}


def scores(logits: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return for each stream its mean squared error over all combinations.

    mse, logit_mse: of probability and of logit against the truth. teacher_mse, teacher_logit_mse: against the teacher.
    correlation: of the logit with the true one. scale: its slope on the teacher's logit, 1 for a copy.
    """
    true, teacher = logits["truth"].double(), logits["teacher"].double()
    found = {}
    for name, value in logits.items():
        if name == "truth":
            continue
        z = value.double()
        found[name] = {
            "mse": _squared(torch.sigmoid(z), torch.sigmoid(true)),
            "logit_mse": _squared(z, true),
            "teacher_mse": _squared(torch.sigmoid(z), torch.sigmoid(teacher)),
            "teacher_logit_mse": _squared(z, teacher),
            "correlation": float(torch.corrcoef(torch.stack([z, true]))[0, 1]),
            "scale": float(torch.cov(torch.stack([z, teacher]))[0, 1] / teacher.var()),
        }
    return found


def _squared(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def measure_cell(seed: int, name: str, **changes: Any) -> dict[str, dict[str, float]]:
    """Return the scores of a cell's streams. Raises `SettingError` for an unknown cell."""
    if name not in CELLS:
        raise unknown("cell", name, CELLS)
    return scores(stream_logits(train_cell(seed, CELLS[name], **changes)))


# --- the recorded study ------------------------------------------------------------------------------------


def fidelity_path() -> Path:
    """Return where the study is kept."""
    return measurements_dir() / "fidelity.json"


def stored_study() -> dict[int, Measured]:
    """Return what is measured: seed -> commit, environment and the scores of its cells; empty without any."""
    path = fidelity_path()
    if not path.exists():
        return {}
    try:
        return {int(seed): one for seed, one in json.loads(path.read_text(encoding="utf8"))["seeds"].items()}
    except (ValueError, KeyError) as error:
        raise RecordError(f"The measurements {path} cannot be read ({error}). Move the file away.") from error


def measure_fidelity(numbers: Iterable[int], *, jobs: int | None = None) -> None:
    """Measure all cells for those seeds that are not measured yet; write data/measurements/fidelity.json.

    jobs: seeds side by side, by default one for each core. The file is written whenever so many are done.
    """
    from joblib import Parallel, delayed

    found = stored_study()
    todo = [number for number in numbers if number not in found]
    jobs = jobs or max(1, min(len(todo), jobs_at_once()))
    for start in range(0, len(todo), jobs):
        part = todo[start : start + jobs]
        measured = Parallel(n_jobs=jobs)(delayed(_measure_seed)(number) for number in part)
        found |= dict(zip(part, measured, strict=True))
        _write(found)


def _measure_seed(seed: int) -> Measured:
    torch.set_num_threads(1)  # the networks are too small to share
    cells = {name: measure_cell(seed, name) for name in CELLS}
    return {"commit": commit(), "environment": environment("cpu", 1), "cells": cells}


def _write(found: Mapping[int, Measured]) -> None:
    path = fidelity_path()
    seeds_ = ",\n".join(f'  "{seed}": {json.dumps(_rounded(one))}' for seed, one in sorted(found.items()))
    about = {"tokens": TOKENS, "logit_std": LOGIT_STD, "network": GDCN, "protocol": PROTOCOL.to_dict()}
    with written_whole(path) as partial:
        partial.write_text(f'{json.dumps(about)[:-1]}, "seeds": {{\n{seeds_}\n}}}}\n', encoding="utf8")


def _rounded(value: Any) -> Any:
    """Return the values with six digits that count."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def study_runs(cells_of_seed: Mapping[int, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> pd.DataFrame:
    """Return one row for each seed, cell and stream, as claims read it; the label is "STREAM, CELL".

    cells_of_seed: seed -> cell -> stream -> scores, as `measure_cell` gives them.
    """
    rows = []
    for seed, cells in cells_of_seed.items():
        for name, streams in cells.items():
            cell = CELLS[name]
            told = {"experiment": "fidelity", "dataset": NAME, "seed": seed, "status": "completed"}
            told |= {"cell": name, "rows": cell.rows, "width": cell.width}
            rows += [
                {**told, "label": f"{stream}, {name}", "stream": stream, **found} for stream, found in streams.items()
            ]
    return pd.DataFrame(rows)


def slopes(runs: pd.DataFrame) -> pd.DataFrame:
    r"""Return for each seed how the student's error falls with the rows $n$: the slope of its logarithm over $\log n$.

    The error is the mean squared distance to the teacher's probability (Eq. 11); a row for each of `SLOPES`, labelled
    "slope, NAME", and `slope_truth` for the distance to the truth. Seeds without all numbers of rows are left out.
    """
    rows = []
    for name, cells in SLOPES.items():
        labels = {f"student, {cell}": math.log(count) for count, cell in cells.items()}
        part = runs[runs["label"].isin(labels)] if not runs.empty else runs
        for seed, of_seed in part.groupby("seed") if not part.empty else ():
            if len(of_seed) < len(cells):
                continue
            x = of_seed["label"].map(labels).to_numpy(dtype=np.float64)
            row = {"experiment": "fidelity", "dataset": NAME, "seed": seed, "status": "completed"}
            row |= {"label": f"slope, {name}"}
            for column, metric in (("slope", "teacher_mse"), ("slope_truth", "mse")):
                y = np.log(of_seed[metric].to_numpy(dtype=np.float64))
                row[column] = float(np.polyfit(x, y, 1)[0])
            rows.append(row)
    return pd.DataFrame(rows)


# --- interaction in the study's networks --------------------------------------------------------------------


def on_vectors(model: CTRModel) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return a model of the study as a function of field vectors, and those of all combinations, (V, F, D), in float64.

    Of a DS-MLP it is the main stream.
    """
    exact = copy.deepcopy(model).double().eval()
    function = exact.main if isinstance(exact, DSMLP) else exact.interact
    assert function is not None
    return function, exact.embedding(combinations()).detach()


def second_differences(model: CTRModel) -> Tensor:
    """Return the interaction map (F, F) of a model of the study (`ctrlib.lab.interactions`).

    Of a DS-MLP it is the main stream's.
    """

    def outputs(ids: Tensor) -> Tensor:
        return model.stream_logits(ids)[:1] if isinstance(model, DSMLP) else model(ids)[None]

    return interaction_map(outputs, combinations(), SCHEMA)[0]


# --- what was measured on real data ------------------------------------------------------------------------


PLACES: dict[str, Place] = {
    "distilled": ("distil", "distilled", "main"),
    "no teacher": ("distil", "no-teacher", "main"),
    "MLP": ("teachers", "MLP", "main"),
    "two trained MLPs": ("align", TWO_TRAINED, "whole"),
    "DS-MLP": ("align", "DS-MLP", "whole"),
    "DS-MLP, main": ("align", "DS-MLP", "main"),
    "DS-MLP, parallel": ("align", "DS-MLP", "parallel"),
}
OTHERS = {
    "distilled, other teachers": "student, to the teachers of other seeds",
    "two trained MLPs, other teachers": "two trained MLPs, to the teachers of other seeds",
}


def judged_study() -> pd.DataFrame:
    """Return the runs of the recorded study with its slopes, as claims read them; empty where it is not measured."""
    study = study_runs({seed: one["cells"] for seed, one in stored_study().items()})
    return study if study.empty else pd.concat([study, slopes(study)])


def measured_runs(name: str) -> pd.DataFrame:
    """Return what was measured of interactions on a data set, as claims read it: `PLACES` and `OTHERS`."""
    others = [likeness_to_others(name, PLACES[label.split(",")[0]], label) for label in OTHERS]
    return pd.concat([of_streams(name, "fidelity", PLACES), *others], ignore_index=True)


def of_streams(name: str, experiment: str, wanted: Mapping[str, Place]) -> pd.DataFrame:
    """Return what `ctrlib.lab.streams` measured beside a GDCN, one row for each seed and label of `wanted`.

    wanted: label -> experiment, cell and stream: "main", "parallel", "whole" or "teacher". Columns: dataset, label,
    seed, status; auc, logloss, and the teacher's; correlation, squared, logit_mean, logit_root with the teacher;
    risk_gap, the distance of the two loglosses (Eq. 14); likeness of the interaction maps and strength, the mean of the
    stream's map over that of the teacher's. Of confident errors: kept, wrong and mended as fractions of the teacher's,
    new as a fraction of all rows, confident as the fraction of rows on which the stream errs, and unshared, the
    fraction of these on which the teacher does not.
    """
    rows = []
    for path, one in stored(name).items():
        if not one["teacher_run"].startswith(f"teachers/{name}/GDCN-"):
            continue
        for label, (source, cell, stream) in wanted.items():
            if (path.split("/")[0], one["label"]) == (source, cell) and (
                stream in one["errors"] or stream == "teacher"
            ):
                row = {"experiment": experiment, "dataset": name, "label": label, "seed": one["seed"]}
                rows.append(
                    row | {"status": "completed"} | (_teacher(one) if stream == "teacher" else _of(one, stream))
                )
    return pd.DataFrame(rows)


def _teacher(one: Measured) -> dict[str, float]:
    errors = one["errors"]["whole"]
    return {**one["teacher"], "kept": 1.0, "wrong": 1.0, "confident": errors["confident"] / errors["rows"]}


def _of(one: Measured, stream: str) -> dict[str, float]:
    own = one["whole"] if stream == "whole" else one["streams"][stream]
    counts, maps = one["errors"][stream], one["interactions"]["maps"]
    errors, made = max(1, counts["confident"]), counts["kept"] + counts["new"]
    return {
        **own,
        **{f"teacher_{metric}": value for metric, value in one["teacher"].items()},
        **one["agreement"][stream],
        "risk_gap": abs(own["logloss"] - one["teacher"]["logloss"]),
        "likeness": one["interactions"]["likeness"][stream],
        "strength": float(np.sum(maps[stream]) / np.sum(maps["teacher"])),
        **{kind: counts[kind] / errors for kind in ("kept", "wrong", "mended")},
        "new": counts["new"] / counts["rows"],
        "confident": made / counts["rows"],
        "unshared": counts["new"] / made if made else math.nan,
    }


def maps_of(name: str, place: Place) -> dict[int, Tensor]:
    """Return the measured interaction maps (F, F) of a stream, by seed; the stream "teacher" gives the teacher's."""
    source, cell, stream = place
    return {
        one["seed"]: torch.tensor(one["interactions"]["maps"][stream], dtype=torch.float64)
        for path, one in stored(name).items()
        if (path.split("/")[0], one["label"]) == (source, cell) and stream in one["interactions"]["maps"]
    }


def fields_of(name: str) -> list[str]:
    """Return the names of the fields of the measured maps."""
    return next((list(one["interactions"]["fields"]) for one in stored(name).values()), [])


def likeness_to_others(name: str, place: Place, label: str) -> pd.DataFrame:
    """Return for each seed the mean likeness of a stream's map to the maps of the other seeds' teachers.

    One row for each seed, as claims read it; empty with fewer than two seeds.
    """
    own, teachers = maps_of(name, place), maps_of(name, (*place[:2], "teacher"))
    rows = []
    for seed, one in own.items():
        others = [likeness(one, other) for number, other in teachers.items() if number != seed]
        if others:
            row = {"experiment": "fidelity", "dataset": name, "label": label, "seed": seed, "status": "completed"}
            rows.append(row | {"likeness": float(np.mean(others))})
    return pd.DataFrame(rows)


def over_seeds(runs: pd.DataFrame, labels: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row for each label that has runs: seeds, and of each metric the mean and METRIC_low, METRIC_high."""
    rows = []
    for label in labels:
        part = runs[runs["label"] == label] if not runs.empty else runs
        if part.empty:
            continue
        row: dict[str, Any] = {"label": label, "seeds": len(part)}
        for metric in metrics:
            found = summary(pd.to_numeric(part[metric]))
            row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)
