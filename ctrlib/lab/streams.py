r"""What the streams of a trained DS-MLP do, beside its teacher: scores, balance, agreement, errors, interactions.

Everything is measured on test rows, on the weights that a run left. Nothing here chooses a setting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ctrlib.data import CTRDataset, batches_of
from ctrlib.ds_mlp import DSMLP
from ctrlib.errors import RecordError, SettingError
from ctrlib.lab.grid import ensure_weights
from ctrlib.lab.interactions import interaction_map, likeness
from ctrlib.lab.run import Run
from ctrlib.lab.runner import commit, dataset, weights_path
from ctrlib.models import CTRModel
from ctrlib.paths import measured_dir, written_whole
from ctrlib.train import auc, load_model, logloss
from ctrlib.train.fit import EVALUATION_ROWS

CONFIDENT = 0.9  # a teacher errs confidently where it gives the wrong class more than this
LIMIT = 6.0  # a logit beyond it is a probability beyond 0.9975
Measured = dict[str, Any]


@torch.no_grad()
def measure(model: CTRModel, teacher: CTRModel, data: CTRDataset) -> Measured:
    """Return what a model's streams do on the test rows, beside a teacher.

    model: a DS-MLP or any other model, which then is one stream. Scores are fractions and nats, agreement is of logits
    and probabilities, between the main and the mean parallel stream too; `share` is each stream's part in the variance
    of the final logit and sums to 1.
    """
    labels = data.test.labels
    streams_SN = _over(data, lambda ids: _streams(model, ids))
    whole_N = _over(data, lambda ids: model(ids)[None])[0]
    teacher_N = _over(data, lambda ids: teacher(ids)[None])[0]
    names = _names(len(streams_SN))
    parts = {"whole": whole_N, **dict(zip(names, streams_SN, strict=True))}
    between = {"between": agreement(streams_SN[0], streams_SN[1:].mean(dim=0))} if len(names) > 1 else {}
    return {
        "whole": _scores(whole_N, labels),
        "teacher": _scores(teacher_N, labels),
        "streams": {name: _scores(z, labels) for name, z in zip(names, streams_SN, strict=True)},
        "share": dict(zip(names, shares(streams_SN), strict=True)),
        "agreement": {name: agreement(z, teacher_N) for name, z in parts.items()} | between,
        "teacher_streams": _teacher_streams(teacher, streams_SN[0], data),
        "errors": {name: inherited(z, teacher_N, labels) for name, z in parts.items()},
        "interactions": _interactions(model, teacher, data, names),
        "tails": {**tails(whole_N, labels), "quiet": quiet_units(model)},
    }


def _names(count: int) -> list[str]:
    return ["main", *(["parallel"] if count == 2 else [f"parallel {k}" for k in range(1, count)])]


def _streams(model: CTRModel, ids: Tensor) -> Tensor:
    return model.stream_logits(ids) if isinstance(model, DSMLP) else model(ids)[None]


def _over(data: CTRDataset, outputs: Any) -> Tensor:
    """Return outputs (O, N) over all test rows."""
    device = data.test.labels.device
    return torch.cat([outputs(ids) for ids, _ in batches_of(data.test, EVALUATION_ROWS, device).epoch()], dim=1)


def _scores(logits_N: Tensor, labels_N: Tensor) -> dict[str, float]:
    return {"auc": auc(logits_N, labels_N), "logloss": logloss(logits_N, labels_N)}


def shares(streams_SN: Tensor) -> list[float]:
    r"""Return $\mathrm{cov}(z_s, \sum_t z_t) / \mathrm{var}(\sum_t z_t)$ of each stream: they sum to 1."""
    centred = streams_SN.double() - streams_SN.double().mean(dim=1, keepdim=True)
    whole = centred.sum(dim=0)
    return [float(part) for part in centred @ whole / whole.square().sum()]


def agreement(a_N: Tensor, b_N: Tensor) -> dict[str, float]:
    """Return how close two predictions are, from their logits.

    correlation: of logits. rank: of their ranks, which a few extreme logits do not move. squared: mean squared
    difference of probabilities. logit_mean, logit_root: mean absolute and root mean square difference of logits; they
    bound the difference of logloss (Eq. 14 with L = 1).
    """
    a, b = a_N.double(), b_N.double()
    gap = a - b
    return {
        "correlation": float(torch.corrcoef(torch.stack([a, b]))[0, 1]),
        "rank": float(torch.corrcoef(torch.stack([a, b]).argsort(dim=1).argsort(dim=1).double())[0, 1]),
        "squared": float((torch.sigmoid(a) - torch.sigmoid(b)).square().mean()),
        "logit_mean": float(gap.abs().mean()),
        "logit_root": float(gap.square().mean().sqrt()),
    }


def tails(logits_N: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Return the fraction of rows with a logit beyond `LIMIT` either way, and the logloss with logits cut off there."""
    return {
        "extreme": float((logits_N.abs() > LIMIT).float().mean()),
        "clipped_logloss": logloss(logits_N.clamp(-LIMIT, LIMIT), labels_N),
    }


def quiet_units(model: CTRModel) -> float:
    """Return the fraction of hidden units before the heads that were all but constant over the last batches.

    Their variance is below the batch norm's epsilon, so that norm multiplies what they do on a new row a hundredfold
    and more. 0 where states are not normalised.
    """
    streams = [*(s for s in (model.main, *model.parallels) if s is not None)] if isinstance(model, DSMLP) else []
    norms = [norm for stream in streams if isinstance(norm := stream.norm, torch.nn.BatchNorm1d)]
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    if not variances:
        return 0.0
    return float((torch.cat(variances) < norms[0].eps).float().mean())


def inherited(model_N: Tensor, teacher_N: Tensor, labels_N: Tensor) -> dict[str, int]:
    """Count rows: the teacher's confident errors, which of them the model shares or mends, and the model's own.

    confident: the teacher gives the wrong class more than `CONFIDENT`. kept: the model errs confidently there too.
    wrong: the model is on the wrong side of one half. mended: on the right one. new: the model errs confidently where
    the teacher does not.
    """
    wrong_model = torch.sigmoid(torch.where(labels_N > 0.5, -model_N, model_N))  # probability of the wrong class
    wrong_teacher = torch.sigmoid(torch.where(labels_N > 0.5, -teacher_N, teacher_N))
    errs = wrong_teacher > CONFIDENT
    return {
        "rows": len(labels_N),
        "confident": int(errs.sum()),
        "kept": int((errs & (wrong_model > CONFIDENT)).sum()),
        "wrong": int((errs & (wrong_model > 0.5)).sum()),
        "mended": int((errs & (wrong_model <= 0.5)).sum()),
        "new": int((~errs & (wrong_model > CONFIDENT)).sum()),
    }


def _teacher_streams(teacher: CTRModel, main_N: Tensor, data: CTRDataset) -> dict[str, float] | None:
    """Return the explicit stream's share in the teacher's logit, and how the main stream correlates with both."""
    split = getattr(teacher, "stream_logits", None)
    if split is None or isinstance(teacher, DSMLP):
        return None
    try:
        parts_2N = _over(data, lambda ids: split(teacher.embedding(ids)))
    except SettingError:  # a stacked teacher has one stream
        return None
    explicit, implicit = parts_2N.double()
    main = main_N.double()
    both = torch.corrcoef(torch.stack([main, explicit, implicit]))
    return {
        "explicit_share": shares(parts_2N)[0],
        "explicit_std": float(explicit.std()),
        "implicit_std": float(implicit.std()),
        "explicit_correlation": float(both[0, 1]),
        "implicit_correlation": float(both[0, 2]),
    }


def _interactions(model: CTRModel, teacher: CTRModel, data: CTRDataset, names: Sequence[str]) -> Measured:
    ids = data.test.ids
    ours = interaction_map(lambda x: torch.cat([model(x)[None], _streams(model, x)]), ids, data.schema)
    theirs = interaction_map(lambda x: teacher(x)[None], ids, data.schema)[0]
    maps = {"teacher": theirs, **dict(zip(("whole", *names), ours, strict=True))}
    return {
        "fields": [field.name for field in data.schema.fields],
        "maps": {name: [[round(float(v), 4) for v in row] for row in one] for name, one in maps.items()},
        "likeness": {name: likeness(one, theirs) for name, one in maps.items() if name != "teacher"},
    }


def measurements_path(name: str) -> Path:
    """Return where the measurements on a data set are kept."""
    return measured_dir() / f"streams-{name}.json"


def stored(name: str) -> dict[str, Measured]:
    """Return what is measured on a data set: path of a run's record -> its measurements; empty without any."""
    path = measurements_path(name)
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf8"))["runs"])
    except (ValueError, KeyError) as error:
        raise RecordError(f"The measurements {path} cannot be read ({error}). Move the file away.") from error


def measure_runs(pairs: Sequence[tuple[Run, Run]], *, device: str = "cpu", jobs: int | None = None) -> None:
    """Measure those (run, teacher's run) that are not measured yet and write them to `measurements_path`.

    Runs whose weights are not at hand are made again, with their records left as they are.
    """
    for name in sorted({run.dataset for run, _ in pairs}):
        found = stored(name)
        todo = [pair for pair in pairs if pair[0].dataset == name and pair[0].path.as_posix() not in found]
        ensure_weights([run for pair in todo for run in pair], device=device, jobs=jobs)
        for run, teacher in todo:
            if not (weights_path(run).exists() and weights_path(teacher).exists()):
                continue  # a failed run leaves none
            data = dataset(run.dataset, run.protocol.min_count, run.rows)
            models = [load_model(weights_path(one), data) for one in (run, teacher)]
            found[run.path.as_posix()] = {
                "label": run.label,
                "seed": run.seed,
                "teacher_run": teacher.path.as_posix(),
                **measure(models[0], models[1], data),
            }
        if todo:
            write_measurements(name, found)


def write_measurements(name: str, found: dict[str, Measured]) -> None:
    """Write the measurements, a line for each run, whole or not at all."""
    path = measurements_path(name)
    lines = [f"  {json.dumps(key)}: {json.dumps(_rounded(value))}" for key, value in sorted(found.items())]
    head = json.dumps({"commit": commit(), "confident": CONFIDENT})[:-1]
    with written_whole(path) as partial:
        partial.write_text(f'{head}, "runs": {{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def columns(found: dict[str, Measured]) -> pd.DataFrame:
    """Return one row for each measured run: experiment, label, seed and, where it has them,

    main_auc, parallel_auc, teacher_auc and the loglosses; main_share of the final logit and larger_share, that of the
    stream that has most; main_correlation, whole_correlation with the teacher's logit, main_squared, whole_squared, and
    between_correlation, between_squared of the main and the parallel stream; explicit_share of the teacher's logit,
    evened_share, the larger share in the teacher less the larger share in the model; explicit_correlation and
    implicit_correlation of the main stream with the teacher's two parts, explicit_minus_implicit; main_likeness,
    parallel_likeness, whole_likeness of the interaction maps to the teacher's; and, as fractions of the teacher's
    confident errors, main_kept, whole_kept and whole_mended, with whole_new as a fraction of all rows; extreme,
    clipped_logloss and quiet, as `tails` and `quiet_units` give them.
    """
    return pd.DataFrame([_row(path, one) for path, one in found.items()])


def _row(path: str, one: Measured) -> dict[str, Any]:
    row: dict[str, Any] = {"experiment": path.split("/")[0], "label": one["label"], "seed": one["seed"]}
    for stream, scores in [("teacher", one["teacher"]), *one["streams"].items()]:
        row |= {f"{stream}_{metric}": value for metric, value in scores.items()}
    row |= {f"{stream}_share": value for stream, value in one["share"].items()}
    for stream, values in one["agreement"].items():
        row |= {f"{stream}_{name}": value for name, value in values.items()}
    row["larger_share"] = max(one["share"].values())
    if teacher := one["teacher_streams"]:
        row |= teacher
        row["explicit_minus_implicit"] = teacher["explicit_correlation"] - teacher["implicit_correlation"]
        row["evened_share"] = max(teacher["explicit_share"], 1 - teacher["explicit_share"]) - row["larger_share"]
    row |= {f"{stream}_likeness": value for stream, value in one["interactions"]["likeness"].items()}
    for stream, counts in one["errors"].items():
        errors = max(1, counts["confident"])
        row |= {f"{stream}_{name}": counts[name] / errors for name in ("kept", "wrong", "mended")}
        row[f"{stream}_new"] = counts["new"] / counts["rows"]
    row |= one["tails"]
    return row
