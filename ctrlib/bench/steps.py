"""Training steps against their floor: where the time goes, and what rows, heads, layers, fields and batch cost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ctrlib.bench.floors import copy_rate, matrix_rate, seconds_each, work_of_step
from ctrlib.bench.store import checked_threads, measurement, process_environment, spread, write_measurement
from ctrlib.data import CTRDataset, criteo_shaped, load_dataset, synthetic_dataset
from ctrlib.errors import CtrlibError, unknown
from ctrlib.lab.leaderboard import FRAPPE
from ctrlib.lab.runner import commit, environment, peak_memory_mb
from ctrlib.models import build_model
from ctrlib.train import Protocol, evaluate
from ctrlib.train.fit import Trainer, checked_device

SE = {"loss": "self-ensemble", "passes": 2}
PLAIN = {"loss": "bce", "passes": 1}


@dataclass(frozen=True)
class Case:
    """One measured step. shape: "frappe", "criteo", "wide" or a number of fields. group: the figure that shows it.

    copies: processes that run the step at the same time and share the threads.
    """

    name: str
    group: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    shape: str = "frappe"
    width: int = 16
    batch_size: int = 4096
    copies: int = 1


def _cases() -> list[Case]:
    qnn = {"layers": 2, "rows": 13, "batch_norm": True}
    mlp = {"hidden_units": [400, 400, 400]}
    found = [
        Case("T9", "systems", "T9"),
        Case("DNN", "systems", "DNN", mlp | {"dropout": 0.0}, width=10),
        Case("DCNv2", "systems", "DCNv2", mlp | {"dropout": 0.0}, width=10),
        Case("QNN-alpha", "systems", "QNN-alpha", qnn),
    ]
    for layers in (1, 2):
        for name, loss in (("plain", PLAIN), ("SE", SE)):
            found.append(
                Case(
                    f"QNN-alpha, {layers} {'layer' if layers == 1 else 'layers'}, {name}",
                    "passes",
                    "QNN-alpha",
                    qnn | loss | {"layers": layers},
                )
            )
    for model, settings in (("xDeepFM", mlp), ("AutoInt", mlp)):
        for name, loss in (("plain", PLAIN), ("SE", SE)):
            found.append(Case(f"{model}, {name}", "table 7", model, settings | loss, width=10))
    for model in ("T9", "T1", "T2", "T6"):
        found.append(Case(f"{model}, wide", "bilinear", model, shape="wide", batch_size=2048))
    for rows in (1, 2, 4, 8, 13, 20):
        found.append(Case(f"rows {rows}", "rows", "QNN-alpha", qnn | {"rows": rows}))
    for mode in ("written", "released", "aligned"):
        for heads in (1, 2, 4, 8):
            found.append(Case(f"{mode}, {heads} heads", "heads", "QNN-alpha", qnn | {"heads": heads, "mode": mode}))
    for layers in (1, 2, 3, 4):
        found.append(Case(f"layers {layers}", "layers", "QNN-alpha", qnn | {"layers": layers}))
    for fields in (5, 10, 20, 39):
        found.append(Case(f"fields {fields}", "fields", "QNN-alpha", qnn | {"rows": 4}, shape=str(fields)))
    for batch in (512, 1024, 2048, 4096, 8192):
        found.append(Case(f"batch {batch}", "batch", "QNN-alpha", qnn, batch_size=batch))
    found.append(Case("T9, Criteo's shape", "large table", "T9", shape="criteo"))
    for copies in (1, 2):
        runs = "one run" if copies == 1 else "two runs"
        found.append(Case(f"T9, {runs}", "side by side", "T9", copies=copies))
        found.append(Case(f"DNN, {runs}", "side by side", "DNN", mlp, width=10, copies=copies))
        found.append(Case(f"QNN-alpha, {runs}", "side by side", "QNN-alpha", qnn, copies=copies))
    for name, listing in FRAPPE.items():  # all at the settings of the overall table
        found.append(Case(f"{name}, overall", "overall", listing.model, listing.settings, width=10))
    return found


CASES: dict[str, Case] = {case.name: case for case in _cases()}
GROUPS = list(dict.fromkeys(case.group for case in CASES.values()))


def measure_steps(groups: list[str], repeats: int, threads: int | None, device: str = "cpu") -> dict[str, Any]:
    """Measure the cases of some groups (all when none is named), each in a process of its own.

    Adds them to data/measurements/steps.json and returns the whole file. Raises `SettingError` for an unknown group,
    `DeviceError` for a missing device.
    """
    for group in groups:
        if group not in GROUPS:
            raise unknown("group of steps", group, GROUPS)
    checked_device(device)
    threads = checked_threads(repeats, threads)
    found = measurement("steps")
    for case in CASES.values():
        if groups and case.group not in groups:
            continue
        found[f"{case.name} ({device}, {threads} threads)"] = _in_processes(case, repeats, threads, device)
        write_measurement("steps", found)
    return found


def _in_processes(case: Case, repeats: int, threads: int, device: str) -> dict[str, Any]:
    """Measure a case in a process of its own, or in several at the same time; the last one's result, rates added."""
    share = max(1, threads // case.copies)
    task = json.dumps({"case": asdict(case), "repeats": repeats, "threads": share, "device": device})
    command = [sys.executable, "-m", "ctrlib.bench.steps", task]
    started = [
        subprocess.Popen(
            command,
            env=process_environment(share),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(case.copies)
    ]
    if case.copies > 1:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # warmed up
    results = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        out, errors = process.communicate()
        if process.returncode:
            raise CtrlibError(f"The step '{case.name}' failed:\n{errors[-2000:]}")
        results.append(json.loads(out.splitlines()[-1]))
    rate = sum(result["samples_per_second"] for result in results)
    return dict(results[-1]) | {"samples_per_second": rate}


def measure_case(case: Case, repeats: int, threads: int, device: str = "cpu") -> dict[str, Any]:
    """Return one case's step and evaluation times, its floor, and where the time of a step goes."""
    torch.set_num_threads(threads)
    data = shaped(case).to(device)
    model = build_model(case.model, data.schema, seed=1, embedding_dim=case.width, **case.settings)
    protocol = Protocol(batch_size=case.batch_size, embedding_regularizer=0.01, embedding_dim=case.width)
    run = Trainer(model, data, protocol, 1, torch.device(device))
    model.train()
    stream = torch.Generator().manual_seed(1)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(data.train), (case.batch_size,), generator=stream).to(device)
        return data.train.ids[rows], data.train.labels[rows]

    seconds_each(lambda: run.step(*batch()), 0, warm_up=5)
    if case.copies > 1:
        print("ready", flush=True)
        sys.stdin.readline()  # until all copies are ready
    taken = seconds_each(lambda: run.step(*batch()), repeats, warm_up=0)
    peak = peak_memory_mb(device)  # before the counting below, which keeps more
    parts = _parts(lambda: run._step(*batch()), device)  # as it is: a replayed step shows no operations
    work = work_of_step(model, *batch())
    matrix, copy = matrix_rate(device), copy_rate(device)
    evaluation = seconds_each(lambda: evaluate(model, data.valid), repeats)
    step = spread(taken)
    return {
        "case": asdict(case),
        "step_seconds": step,
        "samples_per_second": case.batch_size / step["median"],
        "evaluate_rows": len(data.valid),
        "evaluate_seconds": spread(evaluation),
        "peak_memory_mb": peak,
        "parameters": model.num_parameters,
        "operations": work.operations,
        "bytes": work.bytes,
        "matrix_rate": matrix,
        "copy_rate": copy,
        "floor_seconds": work.floor(matrix, copy),
        "parts_seconds": parts,
        "environment": environment(device, threads),
        "commit": commit(),
    }


def shaped(case: Case) -> CTRDataset:
    """Return data of the case's shape; what is not Frappe is drawn anew and has no meaning."""
    rows = (12 * case.batch_size, case.batch_size, case.batch_size)
    match case.shape:
        case "frappe":
            return load_dataset("frappe_x1-rebuilt", min_count=1 if case.width == 10 else 2)
        case "criteo":
            return criteo_shaped(rows)
        case "wide":  # Criteo's 39 fields with small vocabularies: the width counts, not the table
            return synthetic_dataset(rows, [50] * 39)
        case fields:
            return synthetic_dataset(rows, [200] * int(fields))


PARTS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "random words": ("aten::random_",),
    "sum over rows": ("_RowSum", "_RowSumBackward"),
    "embedding": (
        "_LookUp",
        "_LookUpBackward",
        "aten::index_select",
        "aten::index_add_",
        "aten::index",
        "aten::scatter_add_",
        "aten::embedding",
    ),
    "optimiser": ("aten::_fused_adam_", "aten::dot"),
}
"""Operations by what they serve. The rest is elementwise work, reductions and the framework's own time."""


def _parts(step: Any, device: str, steps: int = 4) -> dict[str, float]:
    """Return the seconds of a step that each part takes by itself, as the profiler counts them on the device."""
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as watched:
        for _ in range(steps):
            step()
    total = dict.fromkeys((*PARTS, "the rest"), 0.0)
    of = {name: part for part, names in PARTS.items() for name in names}
    for event in watched.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel's own row; its time is in the row of the operation that launched it
        micros = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        total[of.get(event.key, "the rest")] += micros / 1e6 / steps
    return total


if __name__ == "__main__":
    _task = json.loads(sys.argv[1])
    print(json.dumps(measure_case(Case(**_task.pop("case")), **_task)))
