"""Benchmarks: what is measured is the same work on every side, and the floor counts what really runs."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctrlib.bench import epochs, floors, ladder, latency, ours, peers, plain_networks, steps, store, tables
from ctrlib.bench.systems import SYSTEMS, system
from ctrlib.data import CTRDataset, Field, Schema, Split, synthetic_dataset
from ctrlib.errors import DeviceError, SettingError
from ctrlib.lab import overall, runner
from ctrlib.models import MODELS, build_model
from ctrlib.models.base import checked


@pytest.fixture(scope="module")
def data() -> CTRDataset:
    return synthetic_dataset((640, 200, 200), [20, 30, 40], seed=1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of this computer take seconds to measure; the tests need any rate."""
    monkeypatch.setattr(floors, "MATRIX_SHAPES", [(32, 16, 8)])
    monkeypatch.setattr(floors, "COPIED_VALUES", 1 << 10)


SMALL_SETTINGS = {
    "T9": {"layers": 3, "dropout": 0.0},
    "DNN": {"hidden_units": [8, 8, 8], "dropout": 0.0},
    "DCNv2": {"hidden_units": [8, 8, 8], "cross_layers": 2, "dropout": 0.0},
    "QNN-alpha": {"layers": 2, "rows": 3, "batch_norm": True, "dropout": 0.0},
}


FORMS_NEAR_T9 = ("T9", "CrossNetV2")


@pytest.mark.parametrize("name", SYSTEMS)
def test_plain_networks_compute_what_ours_do(name: str, data: CTRDataset) -> None:
    """With our weights, parameter by parameter in order of size and place, the plain form gives our logits."""
    settings = SMALL_SETTINGS[name]
    model = build_model(SYSTEMS[name].model, data.schema, seed=1, embedding_dim=4, **settings).double().eval()
    plain = plain_networks.network({"name": name, "width": 4, "settings": settings}, 3).double().eval()
    mine = [p for key, p in model.named_parameters() if "embedding" not in key]
    theirs = list(plain.parameters())
    assert sorted(p.shape for p in mine) == sorted(p.shape for p in theirs)
    waiting = list(mine)
    with torch.no_grad():
        for target in theirs:
            source = next(p for p in waiting if p.shape == target.shape)
            waiting = [p for p in waiting if p is not source]
            target.copy_(source)
    e = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(plain(e.flatten(1))[:, 0], model.interact(e), rtol=0, atol=1e-12)


def test_plain_t9_is_our_t9(data: CTRDataset) -> None:
    """x * W(x) + x in every layer, which the cross network x0 * W(x) + x is not."""
    settings = {"layers": 3, "dropout": 0.0}
    ours_and_theirs = [build_model(name, data.schema, embedding_dim=4, **settings).eval() for name in FORMS_NEAR_T9]
    plain = plain_networks.network({"name": "T9", "width": 4, "settings": settings}, 3)
    e = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(1))
    found = []
    for model in ours_and_theirs:
        values = [value for key, value in model.named_parameters() if "embedding" not in key]
        with torch.no_grad():
            for target, value in zip(plain.parameters(), values, strict=True):
                target.copy_(value)
            found.append((plain(e.flatten(1))[:, 0], model.interact(e)))
    assert torch.allclose(*found[0], atol=1e-5) and not torch.allclose(*found[1], atol=1e-2)


def test_every_rung_computes_the_same(data: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout the plain network gives the same probabilities on every rung of the ladder."""
    found: list[Tensor] = []
    for one_table, words, sum_first in [(False, False, False), (True, False, False), (True, True, True)]:
        torch.manual_seed(1)
        net = ladder.Plain(data.schema, one_table=one_table, words=words, sum_first=sum_first).eval()
        torch.manual_seed(2)
        for part in net.network.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.1)
                nn.init.zeros_(part.bias)
        with torch.no_grad():
            whole = torch.randn(data.schema.table_rows, ladder.SYSTEM.width, generator=torch.Generator().manual_seed(3))
            if net.one is not None:
                net.one.weight.copy_(whole)
            else:
                for table, rows in zip(
                    net.tables.parameters(), whole.split(list(data.schema.vocab_sizes)), strict=True
                ):
                    table.copy_(rows)
            ids = data.train.ids[:50]
            found.append(net(net.embed(ids if one_table else (ids - torch.tensor(data.schema.offsets)).long())))
    assert torch.allclose(found[0], found[1], atol=1e-6) and torch.allclose(found[0], found[2], atol=1e-6)


@pytest.mark.parametrize("rung", range(len(ladder.RUNGS)))
def test_every_rung_trains(rung: int, data: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    small_system = replace(ladder.SYSTEM, batch_size=64, width=4)
    monkeypatch.setattr(ladder, "SYSTEM", small_system)
    whole = replace(data, train=Split(data.train.ids.repeat(8, 1), torch.ones(8 * len(data.train))))
    torch.manual_seed(1)
    todo = ladder.batches_of_rung(rung, whole)
    losses = [float(next(todo)()) for _ in range(40)]
    # Three cross entropies of about ln 2, up to the head's first bias; on clicks alone the bias learns at once.
    assert losses[0] == pytest.approx(3 * math.log(2), abs=0.3) and losses[-1] < losses[0] - 0.02


def test_the_floor_counts_the_products_that_run(data: CTRDataset) -> None:
    """Each map costs 2 B a b forwards and twice that backwards; the optimiser passes 7 times over the weights."""
    model = build_model("DNN", data.schema, embedding_dim=4, hidden_units=[8, 6], dropout=0.0)
    work = floors.work_of_step(model, data.train.ids[:10], data.train.labels[:10])
    assert work.operations == 6 * 10 * (12 * 8 + 8 * 6 + 6 * 1)
    assert work.bytes > 7 * 4 * model.num_parameters
    assert work.floor(1e9, 1e9) == max(work.operations, work.bytes) / 1e9
    assert all(p.grad is None for p in model.parameters()), "counting leaves no gradients behind"


def test_rates_are_positive_and_calls_are_counted() -> None:
    assert floors.matrix_rate() > 0 and floors.copy_rate() > 0
    calls: list[int] = []
    assert len(floors.seconds_each(lambda: calls.append(1), repeats=3, warm_up=2)) == 3 and len(calls) == 5


def test_a_case_is_measured_whole() -> None:
    threads = torch.get_num_threads()
    case = steps.Case("tiny", "systems", "QNN-alpha", {"rows": 2, "layers": 1}, shape="3", width=4, batch_size=32)
    found = json.loads(json.dumps(steps.measure_case(case, repeats=2, threads=threads)))
    assert found["step_seconds"]["repeats"] == 2 and found["floor_seconds"] > 0
    assert found["operations"] > 0 and math.isclose(found["samples_per_second"], 32 / found["step_seconds"]["median"])
    assert set(found["parts_seconds"]) == {*steps.PARTS, "the rest"} and found["parts_seconds"]["sum over rows"] > 0
    evaluated = found["evaluate_seconds"]
    assert evaluated["repeats"] == 2 and 0 < evaluated["min"] <= evaluated["median"] <= evaluated["max"]


def test_every_case_can_be_built() -> None:
    """Names of models and settings in the list of cases exist; nothing is trained."""
    schema = Schema(tuple(Field(name) for name in ("user", "item", "weather", "city")), (5,) * 4)
    with torch.device("meta"):
        for case in steps.CASES.values():
            width = 10 if case.group == "overall" else 8 if case.settings.get("heads") == 8 else 4
            build_model(case.model, schema, embedding_dim=width, **case.settings)


def test_measurements_become_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    assert tables.steps().empty and tables.peers().empty and tables.ladder().empty
    assert list(tables.origins()["device"]) == ["none"] * 5
    where: dict[str, Any] = {"device": "cpu", "device_name": "P", "threads": 2, "versions": {"torch": "2"}}
    batch = {
        name: {"median": 8.0 / (k + 1), "min": 1.0, "max": 9.0, "repeats": 5} for k, name in enumerate(ladder.RUNGS)
    }
    (tmp_path / "ladder.json").write_text(json.dumps({"batch_seconds": batch, "environment": where, "commit": "c"}))
    rungs = tables.ladder()
    assert rungs["gain"].iloc[1] == pytest.approx(2.0) and rungs["in_all"].iloc[-1] == pytest.approx(len(rungs))
    assert tables.origins().set_index("file").loc["data/measurements/ladder.json", "device"] == "P"


def stored_step(name: str, device: str, device_name: str, threads: int) -> dict[str, Any]:
    """Return an entry as `measure_steps` writes it, in its older form: evaluation was timed once."""
    case = asdict(steps.CASES[name])
    times = {"median": 0.1, "min": 0.05, "max": 0.2, "repeats": 3}
    numbers = ("samples_per_second", "evaluate_rows", "evaluate_seconds", "peak_memory_mb", "parameters", "operations")
    entry = dict.fromkeys((*numbers, "bytes", "matrix_rate", "copy_rate", "floor_seconds"), 1.0)
    where = {"device": device, "device_name": device_name, "precision": "fp32", "threads": threads}
    found = {"case": case, "step_seconds": times, "parts_seconds": {"the rest": 0.1}, "environment": where}
    return {f"{name} ({device}, {threads} threads)": entry | found}


def test_steps_come_from_one_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several numbers of threads, or GPUs, the largest set; of equal ones the last."""
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    path = tmp_path / "steps.json"
    found = stored_step("T9", "cpu", "P", 2) | stored_step("DNN", "cpu", "P", 2) | stored_step("T9", "cpu", "P", 16)
    path.write_text(json.dumps(found))
    table = tables.steps()
    assert list(table["name"]) == ["T9", "DNN"] and set(table["threads"]) == {2} and set(table["device_name"]) == {"P"}
    assert table["settings"].iloc[1]["embedding_dim"] == 10 and set(table["precision"]) == {"fp32"}
    assert (table["evaluate"] == 1000).all() and (table["evaluate_low"] == table["evaluate_high"]).all()
    path.write_text(json.dumps(found | stored_step("DNN", "cpu", "P", 16)))
    assert list(tables.steps()["threads"]) == [16, 16]
    shared = stored_step("T9, two runs", "cpu", "P", 16)
    shared["T9, two runs (cpu, 16 threads)"]["environment"]["threads"] = 8  # of each copy
    path.write_text(json.dumps(found | stored_step("DNN", "cpu", "P", 16) | shared))
    assert list(tables.steps()["name"]) == ["T9", "DNN", "T9, two runs"]
    assert tables.steps("cuda").empty
    path.write_text(json.dumps(found | stored_step("T9", "cuda", "A", 2) | stored_step("DNN", "cuda:1", "B", 2)))
    assert list(tables.steps("cuda")["device_name"]) == ["B"] and len(tables.steps()) == 2


def test_targets_are_always_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One figure fills one row; a stand-in and a short epoch fill none."""
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    empty = tables.targets()
    assert len(empty) == len(tables.TARGETS) and set(empty["met"]) == {"not measured"}
    found = stored_step("T9, wide", "cpu", "P", 2) | stored_step("T1, wide", "cpu", "P", 2)
    found |= stored_step("DNN", "cpu", "P", 2) | stored_step("QNN-alpha", "cuda", "G", 2)
    (tmp_path / "steps.json").write_text(json.dumps(found))
    ratio = {"median": 6.0, "min": 5.0, "max": 7.0}
    side = dict.fromkeys(("epoch_seconds", "train_seconds", "evaluate_seconds", "peak_memory_mb", "valid_auc"), ratio)
    side = {name: values | {"repeats": 5} for name, values in side.items()} | {"parameters": 1}
    where = {"device": "cpu", "device_name": "P", "threads": 2}
    one = {"system": {"name": "T9"}, "environment": where, "sides": {"ctrlib": side, "fuxictr": side}}
    one["fuxictr_over_ctrlib"] = dict.fromkeys(("epoch", "train", "evaluate"), ratio)
    (tmp_path / "peers.json").write_text(json.dumps({"T9": one}))
    share = {"median": 0.05, "min": 0.04, "max": 0.2, "repeats": 3}
    epoch = {"group": "criteo", "environment": where | {"device": "cuda", "device_name": "G"}, "rows": 1000}
    epoch |= {"epoch_seconds": share, "evaluate_share": share}
    (tmp_path / "epochs.json").write_text(json.dumps({"criteo (cuda, 2 threads)": epoch}))
    table = tables.targets().set_index("what")
    assert list(table.index) == list(empty["what"])
    rate = table.loc["QNN-alpha: rows a second"]
    assert rate.tolist() == ["G", "at least 1,000,000", "40,960 (20,480 to 81,920)", "no"]
    assert table.loc["T1: a step over T9's, Criteo's width", "reached"] == "1.000 (0.250 to 4.000)"
    assert table.loc["T1: a step over T9's, Criteo's width", "on"] == "P, 2 threads"
    assert table.loc["DNN: a step over its floor", ["reached", "met"]].tolist() == ["0.100 (0.050 to 0.200)", "yes"]
    assert table.loc["T9: FuxiCTR's epoch over ours", "met"] == "not measured", "the stored side is a cross network"
    assert table.loc["Criteo's shape: validation, share of an epoch", "met"] == "not measured"
    (tmp_path / "peers.json").write_text(json.dumps({"T9": one | {"stand_in": False}}))
    epoch["rows"] = epochs.TRAINING_ROWS
    (tmp_path / "epochs.json").write_text(json.dumps({"criteo (cuda, 2 threads)": epoch}))
    table = tables.targets().set_index("what")
    assert table.loc["T9: FuxiCTR's epoch over ours", "reached"] == "6.000 (5.000 to 7.000)"
    assert table.loc["Criteo's shape: validation, share of an epoch", "met"] == "yes"
    assert table.loc["DNN: FuxiCTR's epoch over ours in bf16", "met"] == "not measured", (
        "the stored rounds had no such side"
    )
    rounds = {"fuxictr_over_ctrlib": one["fuxictr_over_ctrlib"]} | {"fuxictr_over_ctrlib-bf16": {"epoch": ratio}}
    other = one | {"system": {"name": "DNN"}, "stand_in": False} | rounds
    (tmp_path / "peers.json").write_text(json.dumps({"T9": one, "DNN": other}))
    table = tables.targets().set_index("what")
    assert table.loc["DNN: FuxiCTR's epoch over ours in bf16", ["reached", "met"]].tolist() == [
        "6.000 (5.000 to 7.000)",
        "not shown equal",
    ]
    assert tables.targets({"DNN"}).set_index("what").loc["DNN: FuxiCTR's epoch over ours in bf16", "met"] == "yes"


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for measure in (
        lambda: steps.measure_steps([], 1, 1, "cuda"),
        lambda: latency.measure_latency(1, 1, "cuda"),
        lambda: peers.measure_peers(["T9"], "ml-100k", 1, 1, None, "cuda"),
        lambda: epochs.measure_epochs(["criteo"], 1, 1, "cuda"),
    ):
        with pytest.raises(DeviceError, match="no GPU"):
            measure()
    assert not list(tmp_path.iterdir())


def test_epochs_are_measured_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: CTRDataset) -> None:
    """On the CPU, small: an epoch in Criteo's shape, and seeds side by side."""
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(epochs, "CRITEO", replace(epochs.CRITEO, batch_size=50, width=2))
    monkeypatch.setattr(epochs, "DRAWN_ROWS", 160)
    monkeypatch.setattr(epochs, "criteo_shaped", partial(epochs.criteo_shaped, scale=1e-4))
    monkeypatch.setattr(epochs, "SYSTEMS", {"QNN-alpha": replace(SYSTEMS["QNN-alpha"], batch_size=320, width=2)})
    monkeypatch.setattr(epochs, "SEEDS", 3)
    monkeypatch.setattr(runner, "dataset", lambda name, *others: data)
    found = epochs.measure_epochs(epochs.GROUPS, 2, torch.get_num_threads(), rows=400, dataset="ml-100k")
    assert found == json.loads((tmp_path / "epochs.json").read_text())
    criteo, coarse, seeds = found.values()
    assert [one["environment"]["precision"] for one in found.values()] == ["fp32", "bf16", "fp32"]
    assert coarse.keys() == criteo.keys()
    assert (criteo["rows"], criteo["evaluate_rows"]) == (400, 50) and criteo["epoch_seconds"]["repeats"] == 2
    assert 0 < criteo["evaluate_share"]["min"] <= criteo["evaluate_share"]["max"] < 1
    assert seeds["seeds"] == 3 and seeds["all_over_one"]["repeats"] == 2
    with pytest.raises(SettingError, match="rows is 99"):
        epochs.measure_epochs(["criteo"], 1, 1, rows=99)
    with pytest.raises(SettingError, match="seeds"):
        epochs.measure_epochs(["seed"], 1, 1)


def test_peers_train_on_the_asked_device(
    data: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our side and the plain loop, in this process: the same data, an epoch each."""
    monkeypatch.syspath_prepend(peers.HERE)
    plain_loop = importlib.import_module("plain_loop")
    for module in (peers, ours):
        monkeypatch.setattr(module, "load_dataset", lambda *a, **k: data)
    monkeypatch.setattr(ours, "WARM_UP_BATCHES", 2)
    for name in ("T9", "QNN-alpha"):
        one = replace(SYSTEMS[name], batch_size=64, width=4)
        peers.export("ml-100k", one, tmp_path)
        task = {"system": one.to_dict(), "dataset": "ml-100k", "folder": str(tmp_path), "seed": 1}
        task |= {"threads": torch.get_num_threads(), "device": "cpu"}
        for side, precision in peers.OURS.items():
            ours.main(task | {"side": side, "precision": precision})
        plain_loop.main(task)
        mine, coarse, theirs = map(json.loads, capsys.readouterr().out.splitlines())
        assert mine["parameters"] == coarse["parameters"] == theirs["parameters"]
        assert mine.keys() == coarse.keys() == theirs.keys()
        assert coarse["valid_auc"] == pytest.approx(mine["valid_auc"], abs=0.01)


def test_latency_covers_every_mode_and_number_of_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(latency, "SHAPES", {"small": (3, 8, 1, 2)})
    monkeypatch.setattr(latency, "BATCHES", (100,))
    monkeypatch.setattr(latency, "MOST_CALLS", 1)
    latency.measure_latency(2, 1, groups=["heads"])
    assert tables.system_latency().empty and tables.system_latency_runs(100, 1).empty
    table, turns = tables.latency(), tables.latency_runs(100, 1)
    assert len(table) == 14 and len(turns) == 28 and (table["latency"] > 0).all()
    assert {"FINAL", "FinalMLP", "written.8"} <= set(turns["label"])
    work = table.set_index(["mode", "heads"])["multiply_adds"]
    assert work["written", 4] * 4 == work["released", 4] == work["aligned", 8] == 2 * 24 * 24
    weights = table.set_index(["mode", "heads"])["parameters"]
    assert weights["written", 1] == weights["released", 8] > weights["written", 2] > weights["written", 8]
    assert set(turns.loc[turns["label"] == "written.2", "seed"]) == {1, 2}


def test_latency_covers_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(latency, "SHAPES", {"small": (3, 8, 1, 2)})
    monkeypatch.setattr(latency, "SYSTEM_SHAPES", {"tiny": (3, 30, 16)})
    monkeypatch.setattr(latency, "SCALED", {"tiny": (8,)})
    monkeypatch.setattr(latency, "BATCHES", (20,))
    monkeypatch.setattr(latency, "MOST_CALLS", 1)
    latency.measure_latency(1, 1, groups=["heads"])
    before = tables.latency()
    latency.measure_latency(2, 1, groups=["systems"])
    assert tables.latency().equals(before), "entries of the other group stay and are told apart"
    found, turns = tables.system_latency().set_index("system"), tables.system_latency_runs(20, 1)
    teachers = {"GDCN", "DCNv2", "xDeepFM", "AutoInt+", "FinalMLP", "QNN-alpha"}
    others = {"FINAL", "DeepFM", "FmFM", "FwFM", "AFM"}
    assert set(found.index) == teachers | others | {"DS-MLP", "MLP", "MLP, narrow", "DS-MLP=8", "GDCN=8"}
    assert found.loc["MLP", "multiply_adds"] == 30 * 16 + 2 * 16 * 16 + 16
    assert found.loc["DS-MLP=8", "multiply_adds"] == 2 * (30 * 8 + 2 * 8 * 8 + 8)
    assert found.loc["DS-MLP", "table_parameters"] == 2 * found.loc["MLP", "table_parameters"] == 600
    assert found.loc["DS-MLP=8", "parameters"] == 2 * (30 * 8 + 2 * 8 * 8 + 3 * 8 + 9), "no batch norm"
    assert set(turns.loc[turns["label"] == "GDCN latency", "seed"]) == {1, 2}
    assert turns["log2_latency"].to_numpy() == pytest.approx([math.log2(t) for t in turns["latency"]])


def test_latency_covers_the_overall_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system is there under its name; a network with two names is measured once."""
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(latency, "SYSTEM_SHAPES", {"frappe_x1-rebuilt": (10, 60, 600)})
    monkeypatch.setattr(latency, "BATCHES", (4,))
    monkeypatch.setattr(latency, "MOST_CALLS", 1)
    latency.measure_latency(1, 1, groups=["systems"])
    found = tables.system_latency().set_index("system")
    assert set(overall.SYSTEMS) <= set(found.index) and (found["latency"] > 0).all()
    for one, other in [("DNN", "ECKD"), ("DNN", "MLP, narrow"), ("GDCN", "GDCN=400")]:
        assert found.loc[one, "latency"] == found.loc[other, "latency"]
    assert found.loc["DNN", "parameters"] == 100 * 400 + 2 * 400 * 400 + 3 * 400 + 401, "batch norm is folded"


def test_the_overall_table_is_timed_as_it_is_trained() -> None:
    """On Frappe with the listed settings, elsewhere with the widths of the search; norms that stay are named."""
    listed = {case.name: case for case in latency.system_cases("frappe_x1-rebuilt")}
    assert all(listed[name].settings.items() >= {"embedding_dim": 10, "dropout": 0.0}.items() for name in listed)
    assert listed["DCNv2"].settings["cross_layers"] == 4 and listed["FinalMLP"].settings["heads"] == 5
    searched = {case.name: case for case in latency.system_cases("ml-100k")}
    assert set(overall.SYSTEMS) <= set(searched)
    assert searched["DCNv2"].settings["hidden_units"] == (200,) * 3 == searched["MLP, narrow"].settings["hidden_units"]
    assert searched["DeepFM"].settings["hidden_units"] == (400,) * 3
    for case in (*listed.values(), *searched.values()):
        model = build_model(case.model, latency._schema(3, 5), **case.settings)
        assert any(isinstance(m, nn.BatchNorm1d) for m in model.modules()) == (case.model in latency.UNFOLDED), case


def test_every_measured_step_has_valid_settings() -> None:
    for case in steps.CASES.values():
        checked(MODELS[case.model].settings, case.model, case.settings)


def test_every_system_of_every_shape_has_valid_settings() -> None:
    for data in latency.SYSTEM_SHAPES:
        for case in latency.system_cases(data):
            checked(MODELS[case.model].settings, case.model, case.settings)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match="DCNv2"):
        system("DCNv")
    with pytest.raises(SettingError, match="rows"):
        steps.measure_steps(["row"], 1, 1)
    with pytest.raises(SettingError, match="repeats"):
        steps.measure_steps(["rows"], 0, 1)
    with pytest.raises(SettingError, match="heads"):
        latency.measure_latency(1, 1, groups=["head"])
