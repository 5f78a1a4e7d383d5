"""Inference latency for each 100 rows: QNN-alpha by heads and mode, and the systems of the DS-MLP chapters.

QNN-alpha paper, 4.3.7 and Table 6: does latency fall with the heads, and where? DS-MLP paper, 4.2 and Table 4: is the
latency of two MLPs near that of other fast networks?
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ctrlib import eckd
from ctrlib.bench.store import checked_threads, measurement, spread, write_measurement
from ctrlib.data import Field, Schema
from ctrlib.errors import unknown
from ctrlib.khatri_rao import MODES
from ctrlib.lab.dual_stream import NAME, sizes, systems
from ctrlib.lab.grid import Cell
from ctrlib.lab.leaderboard import DATASETS as LISTED
from ctrlib.lab.leaderboard import FRAPPE
from ctrlib.lab.runner import commit, environment
from ctrlib.models import MODELS, CTRModel, build_model
from ctrlib.models.base import checked
from ctrlib.train.fit import checked_device

# Fields, embedding width, layers and rows of the authors' logs (data/papers/qnn_alpha_runs.csv), by data set.
SHAPES = {"ML-1M": (7, 16, 1, 4), "iPinYou": (16, 16, 4, 2), "KKBox": (13, 128, 3, 3)}
HEADS = (1, 2, 4, 8)
MLP_WIDTHS: dict[str, Any] = {"hidden_units": (400, 400), "second_units": (400,)}
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {  # at the open benchmark's widths, for Table 6 names none
    "FINAL": ("FINAL", {**MLP_WIDTHS, "blocks": 2, "gate": True}),
    "FinalMLP": ("FinalMLP", {"hidden_units": (400,) * 3, "second_units": (400,) * 3, "gate_units": (400,)}),
}
VOCABULARY = 5000  # of each field of these shapes
# Fields, ids of all fields, width of DS-MLP's main stream, by data set: Tables 2 and 3 of the DS-MLP paper, and ours.
SYSTEM_SHAPES = {
    "Criteo": (39, 2_086_936, 600),
    "Avazu": (22, 1_544_250, 900),
    "MovieLens": (3, 90_445, 1000),
    "ml-100k": (7, 2_736, 300),
    "frappe_x1-rebuilt": (10, 5_383, 600),
}
SYSTEM_WIDTH = 10  # of the embedding
OVERALL = ("ml-100k", "frappe_x1-rebuilt")  # where all systems of the overall table are timed
SCALED = dict.fromkeys(OVERALL, (100, 200, 400, 800, 1200))  # widths of the sweep over size
UNFOLDED = ("AFN", "EDCN", "FINAL")  # models with a batch norm that no linear map stands beside, or without a switch
GROUPS = ("heads", "systems")
BATCHES = (100, 4096)
OPERATIONS_EACH_TURN = 4e10  # multiply-adds of a turn, about a second on two cores
MOST_CALLS = 40


@dataclass(frozen=True)
class Case:
    """One measured network. name: its part of the key in the file. tags: what its entry says about it.

    multiply_adds: of its layers for one row of data; None to count them.
    """

    name: str
    tags: dict[str, Any]
    model: str
    settings: dict[str, Any]
    multiply_adds: int | None = None


def measure_latency(
    repeats: int, threads: int | None, device: str = "cpu", groups: Sequence[str] = GROUPS
) -> dict[str, Any]:
    """Measure the cases of some groups in turn, `repeats` times; write them to data/measurements/latency.json.

    "heads" is QNN-alpha in every mode and with every number of heads, FINAL and FinalMLP beside it; "systems" are
    DS-MLP, its teachers, plain MLPs and other networks of its paper. A figure is the time of forward passes without
    gradients, embedding look-up included, for each 100 rows, in milliseconds. All cases of one shape take turns, so
    that a drift of the machine meets all of them. Raises `SettingError` for an unknown group, `DeviceError` for a
    missing device.
    """
    for group in groups:
        if group not in GROUPS:
            raise unknown("group of latencies", group, GROUPS)
    checked_device(device)
    threads = checked_threads(repeats, threads)
    torch.set_num_threads(threads)
    found = measurement("latency")
    for data, (schema, cases) in _shapes(groups).items():
        found |= _in_turn(data, schema, cases, repeats, threads, device)
        write_measurement("latency", found)
    return found


def _shapes(groups: Sequence[str]) -> dict[str, tuple[Schema, list[Case]]]:
    """Return for each data set of the groups a schema of its shape and what is measured on it."""
    found: dict[str, tuple[Schema, list[Case]]] = {}
    if "heads" in groups:
        for data, (count, *_) in SHAPES.items():
            found[data] = (_schema(count, VOCABULARY), head_cases(data))
    if "systems" in groups:
        for data, (count, ids, _) in SYSTEM_SHAPES.items():
            found[data] = (_schema(count, ids // count), system_cases(data))
    return found


def _schema(count: int, vocabulary: int) -> Schema:
    names = ["user", "item", *(f"field {k}" for k in range(2, count))]  # FinalMLP's gates read the first two by name
    return Schema(tuple(map(Field, names)), (vocabulary,) * count)


def head_cases(data: str) -> list[Case]:
    """Return QNN-alpha in every mode and with every number of heads, and its rivals, in the shape of a data set.

    A rival's mode is its name, and it has no heads.
    """
    count, width, layers, rows = SHAPES[data]
    products = layers * rows * (count * width) ** 2
    common = {"layers": layers, "rows": rows, "embedding_dim": width, "batch_norm": True, "dropout": 0.1}
    rivals = [
        Case(name, {"mode": name, "heads": None}, model, {**settings, "embedding_dim": width, "dropout": 0.0})
        for name, (model, settings) in RIVALS.items()
    ]
    return rivals + [
        Case(
            f"{mode}, {heads} heads",
            {"mode": mode, "heads": heads},
            "QNN-alpha",
            common | {"heads": heads, "mode": mode},
            products // (heads if mode == "written" else 1),
        )
        for mode in MODES
        for heads in HEADS
    ]


def system_cases(data: str) -> list[Case]:
    """Return DS-MLP as it is served (its last stage), its teachers, plain MLPs and others, in the shape of a data set.

    "MLP" is as large as the main stream, "MLP, narrow" as the teacher's MLP. A label such as "DS-MLP=400" has all its
    MLPs of that width. In the shapes of `OVERALL` these are all systems of the overall table, as large as it trains
    them; ECKD is its student, a DNN, for its teachers do not serve. Batch norm is left out: when a network serves, the
    norm is a part of the linear map beside it. The models of `UNFOLDED` keep theirs.
    """
    main, narrow = (SYSTEM_SHAPES[data][2],) * 3, sizes(data).teacher
    cells: dict[str, Cell] = {"FINAL": RIVALS["FINAL"], "DeepFM": ("DeepFM", {"hidden_units": narrow})}
    cells |= {name: (name, {}) for name in ("FmFM", "FwFM", "AFM")}
    cells |= systems(data) | {"MLP": ("DNN", {"hidden_units": main}), "MLP, narrow": ("DNN", {"hidden_units": narrow})}
    if data in OVERALL:
        cells |= _overall(data)
    streams = {NAME: (main, narrow)}
    for width in SCALED.get(data, ()):
        cells[f"GDCN={width}"] = ("GDCN", {"hidden_units": (width,) * 3})
        streams[f"{NAME}={width}"] = ((width,) * 3, (width,) * 3)
    served = {"stage": "align", "hidden_alignment": "none"}
    for label, (own, parallel) in streams.items():
        cells[label] = (NAME, {"hidden_units": own, "parallel_units": parallel, **served})
    return [
        Case(label, {"system": label}, model, _served(model, settings)) for label, (model, settings) in cells.items()
    ]


def _overall(data: str) -> dict[str, Cell]:
    """Return the systems of the overall table but DS-MLP; those that were searched have their widths of that search."""
    listed: dict[str, Cell] = {name: (found.model, found.settings) for name, found in FRAPPE.items()}
    return listed | ({} if data in LISTED else systems(data)) | {eckd.NAME: listed["DNN"]}


def _served(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a system's settings at the common width, without dropout, and without batch norm that can be folded."""
    common = {"embedding_dim": SYSTEM_WIDTH, "dropout": 0.0}
    if model not in UNFOLDED and "batch_norm" in {field.name for field in fields(MODELS[model].settings)}:
        common["batch_norm"] = False
    return {**settings, **common}


def _in_turn(
    data: str, schema: Schema, cases: Sequence[Case], repeats: int, threads: int, device: str
) -> dict[str, Any]:
    """Return the entries of the cases of one shape, measured in turn.

    A network that has several names, because only dropout or what is folded tells them apart, is measured once.
    """
    size, stream = (max(BATCHES), 1), torch.Generator().manual_seed(0)
    columns = [torch.randint(vocabulary, size, generator=stream) for vocabulary in schema.vocab_sizes]
    ids = torch.cat(columns, dim=1) + torch.tensor(schema.offsets)
    ids = ids.to(device)
    models: dict[str, CTRModel] = {}
    work: dict[str, int] = {}
    first: dict[str, str] = {}  # a network -> the name of the first case that has it
    same_as: dict[str, str] = {}
    for case in cases:
        settings = checked(MODELS[case.model].settings, case.model, case.settings)
        same_as[case.name] = first.setdefault(f"{case.model} {settings}", case.name)
        if same_as[case.name] != case.name:
            continue
        models[case.name] = build_model(case.model, schema, seed=1, **case.settings).to(device).eval()
        work[case.name] = case.multiply_adds or _multiply_adds(models[case.name], ids[: min(BATCHES)])
    times: dict[tuple[str, int], list[float]] = {}
    for repeat in range(-1, repeats):  # the first turn warms up and does not count
        for name, model in models.items():
            for batch in BATCHES:
                calls = max(1, round(OPERATIONS_EACH_TURN / (batch * work[name])))
                seconds = _seconds_each_100(model, ids[:batch], min(calls, MOST_CALLS))
                if repeat >= 0:
                    times.setdefault((name, batch), []).append(1e3 * seconds)
    return {
        f"{data}, {case.name}, batch {batch} ({device}, {threads} threads)": {
            "data": data,
            **case.tags,
            "batch": batch,
            "latency_ms": spread(times[name, batch]),
            "turns_ms": [round(value, 5) for value in times[name, batch]],
            "multiply_adds": work[name],
            "parameters": models[name].num_parameters - _table_parameters(models[name]),
            "table_parameters": _table_parameters(models[name]),
            "environment": environment(device, threads),
            "commit": commit(),
        }
        for case in cases
        for name in [same_as[case.name]]
        for batch in BATCHES
    }


def _table_parameters(model: CTRModel) -> int:
    return sum(p.numel() for p in model.embedding_parameters())


def _multiply_adds(model: CTRModel, ids: torch.Tensor) -> int:
    """Return the multiply-adds of the matrix products of a forward pass, for one row."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(ids)
    return max(1, int(counter.get_total_flops()) // (2 * len(ids)))


def _seconds_each_100(model: CTRModel, ids: torch.Tensor, calls: int) -> float:
    with torch.no_grad():
        start = time.perf_counter()
        for _ in range(calls):
            model(ids)
        if ids.is_cuda:
            torch.cuda.synchronize()
        return 100 * (time.perf_counter() - start) / (calls * len(ids))
