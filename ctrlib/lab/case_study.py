"""Single rows of the test split: what teacher, student, streams and controls say of them (DS-MLP paper, Figure 4)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ctrlib import seeds
from ctrlib.data import CTRDataset
from ctrlib.ds_mlp import DSMLP
from ctrlib.errors import RecordError
from ctrlib.lab.dual_stream import TWO_TRAINED
from ctrlib.lab.fidelity import Place, of_streams
from ctrlib.lab.grid import ensure_weights
from ctrlib.lab.run import Run
from ctrlib.lab.runner import commit, dataset, weights_path
from ctrlib.lab.streams import CONFIDENT, inherited
from ctrlib.models import CTRModel, build_model
from ctrlib.paths import measured_dir, written_whole
from ctrlib.train import fit, load_model, predict

TEACHER, STUDENT = "teacher", "student"
GROUPS = ("the teacher errs", "any row")
PLACES: dict[str, Place] = {
    "teacher": ("distil", "distilled", "teacher"),
    "student": ("distil", "distilled", "main"),
    "DS-MLP": ("align", "DS-MLP", "whole"),
    "DS-MLP, main": ("align", "DS-MLP", "main"),
    "DS-MLP, parallel": ("align", "DS-MLP", "parallel"),
    "no distillation": ("align", "no-distillation", "whole"),
    "two trained MLPs": ("align", TWO_TRAINED, "whole"),
    "MLP": ("teachers", "MLP", "main"),
}


def measured_runs(name: str) -> pd.DataFrame:
    """Return the errors counted on a data set, as claims read them: a row for each seed and label of `PLACES`."""
    return of_streams(name, "case-study", PLACES)


@dataclass(frozen=True)
class Predicted:
    """labels: (N,) of the test rows. logits: name of a model or stream -> (N,), the teacher's among them."""

    labels: Tensor
    logits: dict[str, Tensor]

    def cases(self, count: int = 24, seed: int = 0) -> pd.DataFrame:
        """Return what every model says about `count` rows on which the teacher errs most, and as many drawn at random.

        Half of the first are clicks, half are not. Columns: group, sample (from 1 in each group), row, clicked, model,
        probability; the label itself stands among the models.
        """
        wrong = torch.sigmoid(torch.where(self.labels > 0.5, -self.logits[TEACHER], self.logits[TEACHER]))
        clicked = self.labels > 0.5
        worst = [torch.where(one, wrong, -1.0).argsort(descending=True)[: count // 2] for one in (clicked, ~clicked)]
        drawn = torch.randperm(len(wrong), generator=seeds.stream(seed, "cases"))[:count]
        rows = []
        for group, picked in zip(GROUPS, (torch.cat(worst).sort().values, drawn.sort().values), strict=True):
            for sample, row in enumerate(picked.tolist(), start=1):
                told = {"group": group, "sample": sample, "row": row, "clicked": bool(clicked[row])}
                rows.append(told | {"model": "label", "probability": float(clicked[row])})
                for name, logits in self.logits.items():
                    rows.append(told | {"model": name, "probability": round(float(torch.sigmoid(logits[row])), 4)})
        return pd.DataFrame(rows)

    def errors(self) -> pd.DataFrame:
        """Return one row for each model: of the teacher's confident errors those kept, wrong, mended; its new ones."""
        teacher = self.logits[TEACHER]
        return pd.DataFrame(
            [
                {"model": name, **inherited(z, teacher, self.labels)}
                for name, z in self.logits.items()
                if name != TEACHER
            ]
        )


def predicted(models: Mapping[str, CTRModel], data: CTRDataset) -> Predicted:
    """Return the test rows' logits of each model by its name.

    A DS-MLP called "student" gives its main stream alone; any other gives its prediction and, as "NAME, main" and
    "NAME, parallel", its streams.
    """
    found: dict[str, Tensor] = {}
    for name, model in models.items():
        if not isinstance(model, DSMLP):
            found[name] = predict(model, data.test)
            continue
        model.eval()
        with torch.no_grad():
            streams_SN = model.stream_logits(data.test.ids)
        if name == STUDENT:
            found[name] = streams_SN[0]
            continue
        found[name] = predict(model, data.test)
        if len(streams_SN) == 2:
            found |= {f"{name}, main": streams_SN[0], f"{name}, parallel": streams_SN[1]}
    return Predicted(data.test.labels, found)


def train_in_memory(
    runs: Iterable[Run], *, rows: int | None = None, device: str = "cpu", **changes: Any
) -> tuple[dict[Path, CTRModel], CTRDataset]:
    """Train some runs and all that they go back to, smaller than they are recorded; keep nothing on disk.

    rows: training rows to keep. changes: of every stage's protocol. Returns the models by their run's path, and the
    data.
    """
    models: dict[Path, CTRModel] = {}
    data: CTRDataset | None = None
    for run in (one for last in runs for one in last.lineage):
        data = dataset(run.dataset, run.protocol.min_count, rows)
        if run.path in models:
            continue
        model = build_model(run.model, data.schema, seed=run.seed, **run.settings)
        for parent in run.parents:
            model.start_from(models[parent.path].origin())
        fit(model, data, run.protocol.replace(**changes), seed=run.seed, device=device)
        models[run.path] = model.to("cpu").eval()
    assert data is not None
    return models, data


def cases_path(name: str) -> Path:
    """Return where the cases of a data set are kept."""
    return measured_dir() / f"cases-{name}.json"


def measure_cases(runs: Mapping[str, Run], *, device: str = "cpu", jobs: int | None = None) -> None:
    """Write what fully trained runs (name -> run) say about single rows, unless it is written already.

    Runs whose weights are not at hand are made again. All runs are on one data set.
    """
    first = next(iter(runs.values()))
    path = cases_path(first.dataset)
    if path.exists():
        return
    ensure_weights(runs.values(), device=device, jobs=jobs)
    data = dataset(first.dataset, first.protocol.min_count, first.rows)
    models = {name: load_model(weights_path(run), data) for name, run in runs.items()}
    cases = predicted(models, data).cases()
    about = {
        "commit": commit(),
        "confident": CONFIDENT,
        "runs": {name: run.path.as_posix() for name, run in runs.items()},
    }
    lines = ",\n".join(f"  {json.dumps(row)}" for row in cases.to_dict("records"))
    with written_whole(path) as partial:
        partial.write_text(f'{json.dumps(about)[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf8")


def stored_cases(name: str) -> pd.DataFrame:
    """Return the recorded cases of a data set as `Predicted.cases` gives them; empty without any."""
    path = cases_path(name)
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.DataFrame(json.loads(path.read_text(encoding="utf8"))["cases"])
    except (ValueError, KeyError) as error:
        raise RecordError(f"The measurements {path} cannot be read ({error}). Move the file away.") from error
