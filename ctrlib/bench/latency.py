"""Inference latency for each 100 rows (QNN-alpha paper, 4.3.7 and Table 6): does it fall with the heads, and where?"""

from __future__ import annotations

import time
from typing import Any

import torch

from ctrlib.bench.store import checked_threads, measurement, spread, write_measurement
from ctrlib.data import Field, Schema
from ctrlib.khatri_rao import MODES
from ctrlib.lab.runner import commit, environment
from ctrlib.models import CTRModel, build_model

# Fields, embedding width, layers and rows of the authors' logs (data/papers/qnn_alpha_runs.csv), by data set.
SHAPES = {"ML-1M": (7, 16, 1, 4), "iPinYou": (16, 16, 4, 2), "KKBox": (13, 128, 3, 3)}
HEADS = (1, 2, 4, 8)
BATCHES = (100, 4096)
VOCABULARY = 5000
OPERATIONS_EACH_TURN = 4e10  # multiply-adds of a turn, about a second on two cores
MOST_CALLS = 40


def measure_latency(repeats: int, threads: int | None, device: str = "cpu") -> dict[str, Any]:
    """Measure every shape, mode and number of heads in turn, `repeats` times; write data/measurements/latency.json.

    A figure is the time of forward passes without gradients, embedding look-up included, for each 100 rows, in
    milliseconds. All cases of one shape take turns, so that a drift of the machine meets all of them.
    """
    threads = checked_threads(repeats, threads)
    torch.set_num_threads(threads)
    found = measurement("latency")
    for data, (fields, width, layers, rows) in SHAPES.items():
        schema = Schema(tuple(Field(f"field {k}") for k in range(fields)), (VOCABULARY,) * fields)
        ids = torch.randint(schema.table_rows, (max(BATCHES), fields), generator=torch.Generator().manual_seed(0))
        ids = ids.to(device)
        models: dict[tuple[str, int], CTRModel] = {}
        for mode in MODES:
            for heads in HEADS:
                settings = {"layers": layers, "rows": rows, "heads": heads, "mode": mode, "embedding_dim": width}
                model = build_model("QNN-alpha", schema, seed=1, batch_norm=True, dropout=0.1, **settings)
                models[mode, heads] = model.to(device).eval()
        wide = fields * width
        times: dict[tuple[str, int, int], list[float]] = {}
        for repeat in range(-1, repeats):  # the first turn warms up and does not count
            for (mode, heads), model in models.items():
                for batch in BATCHES:
                    calls = max(1, round(OPERATIONS_EACH_TURN / (batch * layers * rows * wide * wide)))
                    seconds = _seconds_each_100(model, ids[:batch], min(calls, MOST_CALLS))
                    if repeat >= 0:
                        times.setdefault((mode, heads, batch), []).append(1e3 * seconds)
        for (mode, heads, batch), values in times.items():
            found[f"{data}, {mode}, {heads} heads, batch {batch} ({device}, {threads} threads)"] = {
                "data": data,
                "mode": mode,
                "heads": heads,
                "batch": batch,
                "latency_ms": spread(values),
                "turns_ms": [round(value, 5) for value in values],
                "multiply_adds": layers * rows * wide * wide // (heads if mode == "written" else 1),
                "parameters": models[mode, heads].num_parameters - schema.table_rows * width,
                "environment": environment(device, threads),
                "commit": commit(),
            }
        write_measurement("latency", found)
    return found


def _seconds_each_100(model: CTRModel, ids: torch.Tensor, calls: int) -> float:
    with torch.no_grad():
        start = time.perf_counter()
        for _ in range(calls):
            model(ids)
        if ids.is_cuda:
            torch.cuda.synchronize()
        return 100 * (time.perf_counter() - start) / (calls * len(ids))
