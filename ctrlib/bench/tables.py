"""The measurements of data/measurements as frames, for the chapters on speed, heads and size. Times in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ctrlib.bench.epochs import TRAINING_ROWS
from ctrlib.bench.peers import OURS
from ctrlib.bench.store import measurement, spread

AUC_KEYS = {"": "median", "_low": "min", "_high": "max"}
_MLPS = ("DNN", "DCNv2")
_IN_BF16 = {"DNN": 5, "DCNv2": 5, "QNN-alpha": 6}  # how many times faster than FuxiCTR an epoch was asked to be
SIDES = {
    "ctrlib": "ctrlib",
    "ctrlib-bf16": "ctrlib, products in bf16",
    "plain": "plain PyTorch loop",
    "fuxictr": "FuxiCTR 2.3.10",
}


def steps(device: str = "cpu") -> pd.DataFrame:
    """Return one row for each measured step on a kind of device, as "cpu" or "cuda".

    All rows come from one processor or GPU and one number of threads, those with most measurements, of equals the last
    in the file: steps of two computers do not compare. Columns: name, group, model and the case's settings, in the
    column settings all that it names; device_name, precision and threads (of all copies together); step with its low
    and high; evaluate likewise, where it was measured once all three are that; over_floor: the median over the floor;
    gflops: matrix operations a second that the step reaches, in billions; intensity: operations for each byte; one
    column for each part of a step.
    """
    sets: dict[tuple[str, int], dict[str, Any]] = {}
    for key, found in measurement("steps").items():
        name, where = key.removesuffix(" threads)").rsplit(" (", 1)
        kind, count = where.split(", ")
        if kind.split(":")[0] == device:
            sets.setdefault((found["environment"]["device_name"], int(count)), {})[name] = found
    if not sets:
        return pd.DataFrame()
    (device_name, threads), largest = max(reversed(sets.items()), key=lambda one: len(one[1]))
    rows = []
    for name, found in largest.items():
        step, evaluated = found["step_seconds"], _spread_of(found["evaluate_seconds"])
        rows.append(
            {
                "name": name,
                "group": found["case"]["group"],
                "model": found["case"]["model"],
                "batch": found["case"]["batch_size"],
                **{key: found["case"]["settings"].get(key) for key in ("rows", "heads", "layers", "mode", "passes")},
                "settings": {**found["case"]["settings"], "embedding_dim": found["case"]["width"]},
                "shape": found["case"]["shape"],
                "device_name": device_name,
                "precision": found["environment"]["precision"],
                "threads": threads,
                "copies": found["case"].get("copies", 1),
                "step": 1e3 * step["median"],
                "low": 1e3 * step["min"],
                "high": 1e3 * step["max"],
                "repeats": step["repeats"],
                "samples_per_second": found["samples_per_second"],
                "floor": 1e3 * found["floor_seconds"],
                "over_floor": step["median"] / found["floor_seconds"],
                "gflops": found["operations"] / step["median"] / 1e9,
                "intensity": found["operations"] / found["bytes"],
                "matrix_rate": found["matrix_rate"] / 1e9,
                "copy_rate": found["copy_rate"] / 1e9,
                "memory": found["peak_memory_mb"],
                "parameters": found["parameters"],
                "evaluate": 1e3 * evaluated["median"],
                "evaluate_low": 1e3 * evaluated["min"],
                "evaluate_high": 1e3 * evaluated["max"],
                "evaluate_rows": found["evaluate_rows"],
                **{f"part {part}": 1e3 * seconds for part, seconds in found["parts_seconds"].items()},
            }
        )
    return pd.DataFrame(rows)


def _spread_of(value: Any) -> dict[str, Any]:
    """Return a stored spread; a single number, as older entries have it, is all of it."""
    return value if isinstance(value, dict) else spread([value])


def latency(device: str = "cpu") -> pd.DataFrame:
    """Return one row for each measured latency of QNN-alpha by mode and heads.

    data, mode, heads, batch, device_name, precision, threads, milliseconds for each 100 rows with the smallest and
    largest turn, sizes.
    """
    return _latency("mode", ("data", "mode", "heads", "batch", "multiply_adds", "parameters"), device)


def system_latency(device: str = "cpu") -> pd.DataFrame:
    """Return one row for each measured latency of a system: as `latency`, with its label in the column system."""
    columns = ("data", "system", "batch", "multiply_adds", "parameters", "table_parameters")
    return _latency("system", columns, device)


def _latency(kind: str, columns: tuple[str, ...], device: str) -> pd.DataFrame:
    """Return the entries that say something about `kind`."""
    rows = []
    for found in measurement("latency").values():
        if kind in found and found["environment"]["device"].split(":")[0] == device:
            time = found["latency_ms"]
            row = {key: found[key] for key in columns}
            row |= {key: found["environment"][key] for key in ("device_name", "precision", "threads")}
            rows.append(row | {"latency": time["median"], "low": time["min"], "high": time["max"]})
    return pd.DataFrame(rows)


def latency_runs(batch: int, threads: int, device: str = "cpu") -> pd.DataFrame:
    """Return one row for each case and turn, as claims read it: label, seed (the turn), latency in ms, multiply_adds.

    The label is "MODE.HEADS", or the name of a network without heads. multiply_adds are those of a row, in every turn.
    """
    return _turns("mode", batch, threads, device).drop(columns="log2_latency", errors="ignore")


def system_latency_runs(batch: int, threads: int, device: str = "cpu") -> pd.DataFrame:
    """Return one row for each system and turn: label "SYSTEM latency", seed (the turn), latency, log2_latency."""
    return _turns("system", batch, threads, device)


def _turns(kind: str, batch: int, threads: int, device: str) -> pd.DataFrame:
    rows = []
    for found in measurement("latency").values():
        where = found["environment"]
        if kind not in found or (where["device"].split(":")[0], where["threads"]) != (device, threads):
            continue
        if found["batch"] != batch:
            continue
        label = _head_label(found) if kind == "mode" else f"{found['system']} latency"
        case = {"experiment": "latency", "dataset": found["data"], "label": label, "status": "completed"}
        case["multiply_adds"] = found["multiply_adds"]
        for turn, value in enumerate(found["turns_ms"], start=1):
            rows.append(case | {"seed": turn, "latency": value, "log2_latency": math.log2(value)})
    return pd.DataFrame(rows)


def _head_label(found: dict[str, Any]) -> str:
    return f"{found['mode']}.{found['heads']}" if found["heads"] else str(found["mode"])


def peers(device: str = "cpu") -> pd.DataFrame:
    """Return one row for each system and side: epoch, training and evaluation in seconds, AUC, and ratios to ours.

    A ratio is the other side's time over ours within one round: median, smallest, largest. Columns that start with
    "bf16_" have our time with products in bf16. stand_in: this side ran a network that is not ours; older entries of
    T9 have CrossNetV2 in its place.
    """
    rows = []
    for found in measurement("peers").values():
        where, system = found["environment"], found["system"]["name"]
        if where["device"].split(":")[0] != device:
            continue
        for side, values in found["sides"].items():
            row: dict[str, Any] = {"system": system, "side": SIDES[side], "parameters": values["parameters"]}
            row |= {"device_name": where["device_name"], "threads": where["threads"]}
            row["stand_in"] = side not in OURS and found.get("stand_in", system == "T9")
            for part in ("epoch", "train", "evaluate"):
                row[part] = values[f"{part}_seconds"]["median"]
            row |= {"low": values["epoch_seconds"]["min"], "high": values["epoch_seconds"]["max"]}
            row |= {f"auc{end}": 100 * values["valid_auc"][key] for end, key in AUC_KEYS.items()}
            row |= {"memory": values["peak_memory_mb"]["median"]}
            row["repeats"] = values["epoch_seconds"]["repeats"]
            for mine, start in (("ctrlib", ""), ("ctrlib-bf16", "bf16_")):
                for part, ratio in found.get(f"{side}_over_{mine}", {}).items():
                    ends = {"ratio": "median", "low": "min", "high": "max"}
                    row |= {f"{start}{part}_{end}": ratio[key] for end, key in ends.items()}
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Target:
    """One number that this implementation was asked to reach. kind: "cpu" or "cuda".

    source: what tells it: ("peers", system, part): FuxiCTR's time over ours; ("steps", name, column); ("over", name,
    other): ratio of two steps; ("epochs", group, field). format: of the number.
    coarse: the system whose scores in bf16 must be shown equal for the figure to count.
    """

    what: str
    kind: str
    at_least: bool
    asked: float
    source: tuple[str, str, str]
    format: str = ".3f"
    coarse: str = ""


TARGETS = [
    *(Target(f"{name}: FuxiCTR's epoch over ours", "cpu", True, 2.5, ("peers", name, "epoch")) for name in _MLPS),
    *(Target(f"{name}: a step over its floor", "cpu", False, 1.4, ("steps", name, "over_floor")) for name in _MLPS),
    Target("QNN-alpha: FuxiCTR's epoch over ours", "cpu", True, 3, ("peers", "QNN-alpha", "epoch")),
    Target("T9: FuxiCTR's epoch over ours", "cpu", True, 5, ("peers", "T9", "epoch")),
    *(
        Target(f"{name}: FuxiCTR's evaluation over ours", "cpu", True, 6, ("peers", name, "evaluate"))
        for name in (*_MLPS, "QNN-alpha", "T9")
    ),
    *(
        Target(
            f"{name}: FuxiCTR's epoch over ours in bf16", "cpu", True, asked, ("peers", name, "bf16_epoch"), coarse=name
        )
        for name, asked in _IN_BF16.items()
    ),
    *(
        Target(
            f"{name}: FuxiCTR's evaluation over ours in bf16",
            "cpu",
            True,
            6,
            ("peers", name, "bf16_evaluate"),
            coarse=name,
        )
        for name in _IN_BF16
    ),
    *(
        Target(
            f"QNN-alpha, {layers}: two passes over one",
            "cpu",
            False,
            asked,
            ("over", f"QNN-alpha, {layers}, SE", f"QNN-alpha, {layers}, plain"),
        )
        for layers, asked in (("1 layer", 1.35), ("2 layers", 1.7))
    ),
    *(
        Target(f"{name}: a step over T9's, Criteo's width", "cpu", False, 3, ("over", f"{name}, wide", "T9, wide"))
        for name in ("T1", "T2", "T6")
    ),
    Target("QNN-alpha: rows a second", "cuda", True, 1_000_000, ("steps", "QNN-alpha", "samples_per_second"), ",.0f"),
    Target("QNN-alpha: FuxiCTR's epoch over ours", "cuda", True, 10, ("peers", "QNN-alpha", "epoch")),
    Target("Criteo's shape: seconds of an epoch", "cuda", False, 75, ("epochs", "criteo", "epoch_seconds"), ".1f"),
    Target(
        "Criteo's shape: the same in bf16",
        "cuda",
        False,
        25,
        ("epochs", "criteo-bf16", "epoch_seconds"),
        ".1f",
        "QNN-alpha",
    ),
    Target("Criteo's shape: validation, share of an epoch", "cuda", False, 0.1, ("epochs", "criteo", "evaluate_share")),
    Target("Ten seeds over one", "cuda", False, 3, ("epochs", "seeds", "all_over_one")),
]


def targets(equal: Collection[str] = ()) -> pd.DataFrame:
    """Return one row for each of `TARGETS`: what, on, asked, reached with its range, and met.

    equal: systems whose scores in bf16 are shown equal to those in fp32. met: yes, no, not measured, or not shown equal
    where the figure would do but the system is not in `equal`. A side that ran a stand-in is not measured, and neither
    is an epoch in Criteo's shape with fewer rows than Criteo has.
    """
    rows = []
    for target in TARGETS:
        row = {"what": target.what, "on": "CPU" if target.kind == "cpu" else "GPU"}
        row["asked"] = f"{'at least' if target.at_least else 'at most'} {target.asked:,}"
        found = _reached(target)
        if found is None:
            row |= {"reached": "", "met": "not measured"}
        else:
            (where, value, low, high), form = found, target.format
            row["on"] = where["device_name"] + (f", {where['threads']} threads" if target.kind == "cpu" else "")
            row["reached"] = f"{value:{form}} ({low:{form}} to {high:{form}})"
            enough = value >= target.asked if target.at_least else value <= target.asked
            counts = not target.coarse or target.coarse in equal
            row["met"] = "no" if not enough else "yes" if counts else "not shown equal"
        rows.append(row)
    return pd.DataFrame(rows)


Reached = tuple[Any, float, float, float]  # where it was measured; median, low, high


def _reached(target: Target) -> Reached | None:
    """Return a target's figure, None where it was not measured."""
    kind, name, part = target.source
    if kind == "epochs":
        return _epoch_figure(target.kind, name, part)
    found = peers(target.kind) if kind == "peers" else steps(target.kind)
    if found.empty:
        return None
    if kind == "peers":
        found = found[(found["side"] == SIDES["fuxictr"]) & ~found["stand_in"]]
        if f"{part}_ratio" not in found.columns or found.empty:
            return None
        found = found.dropna(subset=f"{part}_ratio")
    rows = found.set_index("system" if kind == "peers" else "name")
    if name not in rows.index or (kind == "over" and part not in rows.index):
        return None
    rows = rows[~rows.index.duplicated(keep="last")]
    row: Any = rows.loc[name]
    if kind == "peers":
        return row, row[f"{part}_ratio"], row[f"{part}_low"], row[f"{part}_high"]
    if kind == "over":
        other: Any = rows.loc[part]
        return row, row["step"] / other["step"], row["low"] / other["high"], row["high"] / other["low"]
    if part == "over_floor":
        return row, row[part], row["low"] / row["floor"], row["high"] / row["floor"]
    return row, *(1e3 * row["batch"] / row[step] for step in ("step", "high", "low"))


def _epoch_figure(device: str, group: str, part: str) -> Reached | None:
    """Return a figure of the last measured epoch of a group on a kind of device."""
    for found in reversed(measurement("epochs").values()):
        where = found["environment"]
        whole = group == "seeds" or found["rows"] == TRAINING_ROWS
        if found["group"] == group and where["device"].split(":")[0] == device and whole:
            return where, found[part]["median"], found[part]["min"], found[part]["max"]
    return None


def ladder() -> pd.DataFrame:
    """Return one row for each rung from a plain loop to ours: milliseconds of a batch, gain on the last."""
    found = measurement("ladder").get("batch_seconds", {})
    frame = pd.DataFrame(
        [
            {
                "rung": name,
                "batch": 1e3 * s["median"],
                "low": 1e3 * s["min"],
                "high": 1e3 * s["max"],
                "repeats": s["repeats"],
            }
            for name, s in found.items()
        ]
    )
    if len(frame):
        frame["gain"] = frame["batch"].shift() / frame["batch"]
        frame["in_all"] = frame["batch"].iloc[0] / frame["batch"]
    return frame


def book() -> pd.DataFrame:
    """Return what building and reading this book took: what, asked, measured with its range, and which page.

    Sizes and times of pages are those of the page that is the largest or the slowest. Empty when nothing was measured.
    """
    found = measurement("book")
    if not found:
        return pd.DataFrame()
    build, pages, rebuilt = found["build"], found["pages"], found["after_a_change"]
    drawn = {name: page["figure_ms"] for name, page in pages.items() if "figure_ms" in page}
    largest = max(pages, key=lambda name: pages[name]["bytes"])
    rows = [
        ("building all pages, minutes", 10, f"{build['seconds'] / 60:.1f}", ""),
        ("most memory of all processes together, GB", 4, f"{build['peak_memory_mb'] * 2**20 / 1e9:.1f}", ""),
        ("building after a change of text, seconds", 30, _told(rebuilt, 1, ".1f"), ""),
        ("HTML of a page, kB", 300, f"{pages[largest]['bytes'] / 1000:.0f}", largest),
    ]
    if drawn:
        slowest = max(drawn, key=lambda name: float(drawn[name]["median"]))
        rows.append(("first figure of a page drawn, seconds", 2, _told(drawn[slowest], 1000, ".2f"), slowest))
    return pd.DataFrame(rows, columns=["what", "at most", "measured", "page"])


def _told(found: Any, unit: float, form: str) -> str:
    return f"{found['median'] / unit:{form}} ({found['min'] / unit:{form}} to {found['max'] / unit:{form}})"


def origins() -> pd.DataFrame:
    """Return where the figures come from: file, measurements, devices, threads, versions, commits."""
    rows = []
    for file in ("steps", "epochs", "peers", "ladder", "latency"):
        found = measurement(file)
        entries = [found] if file == "ladder" and found else list(found.values())
        environments = [entry["environment"] for entry in entries]
        rows.append(
            {
                "file": f"data/measurements/{file}.json",
                "measurements": len(entries),
                "device": _distinct(e["device_name"] for e in environments),
                "threads": _distinct(e["threads"] for e in environments),
                "torch": _distinct(e["versions"]["torch"] for e in environments),
                "commit": _distinct(entry["commit"] for entry in entries),
            }
        )
    return pd.DataFrame(rows)


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values)) or "none"
