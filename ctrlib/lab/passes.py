"""What a second pass costs, and what it does to the gap between test and training rows (QNN paper, 3.3 and Table 7)."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ctrlib.data import load_dataset
from ctrlib.lab.headline import NAME, headline
from ctrlib.models import CTRModel, build_model

NO_SE: dict[str, Any] = {"loss": "bce", "passes": 1}
TIMED: dict[str, dict[str, Any]] = {
    "two passes": {},
    "one pass": NO_SE,
    "three passes": {"passes": 3},
    "four passes": {"passes": 4},
}


def with_gap(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with `logloss_gap`, the logloss on test rows less that on training rows."""
    if runs.empty:
        return runs
    return runs.assign(logloss_gap=runs["test_logloss"].astype(float) - runs["train_logloss"].astype(float))


def timed_passes(name: str, turns: int) -> pd.DataFrame:
    """Time a batch of QNN-alpha on a data set, forward and backward, with one pass to four, in turn.

    One thread. Returns a row for each network and turn, as claims read it: `log2_seconds`, the seed being the turn. The
    first of `turns` warms up and is left out.
    """
    data = load_dataset(name)
    ids, labels = data.train.ids[:1024], data.train.labels[:1024]
    settings = headline(name).settings
    networks = {label: build_model(NAME, data.schema, seed=1, **settings | change) for label, change in TIMED.items()}
    torch.set_num_threads(1)
    rows = []
    for turn in range(turns):
        for label, network in networks.items():
            spent = _seconds_of(network, ids, labels)
            row = {"experiment": "se-cost", "dataset": name, "label": label, "seed": turn, "status": "completed"}
            rows.append(row | {"log2_seconds": math.log2(spent)})
    return pd.DataFrame(rows).query("seed > 0").reset_index(drop=True)


def _seconds_of(network: CTRModel, ids: Tensor, labels: Tensor, batches: int = 2) -> float:
    """Return the seconds that a batch takes, forward and backward, a mean over several."""
    started = time.perf_counter()
    for _ in range(batches):
        network.zero_grad()
        network.training_loss(ids, labels).backward()  # type: ignore[no-untyped-call]
    return (time.perf_counter() - started) / batches
