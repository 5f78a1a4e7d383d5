"""Grids on a data set that the test makes: skip, resume, failures, interruption, verification."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctrlib.data import CTRDataset
from ctrlib.errors import DataError, DeviceError, RecordError, SettingError
from ctrlib.lab import Grid, frame, load_records, run_anew, run_grid, runner, verify
from ctrlib.lab.grid import LINES, SECONDS_APART, _generations, progress_lines
from ctrlib.lab.records import read_record, write_record
from ctrlib.lab.run import Run
from ctrlib.lab.search import results, search_table
from ctrlib.train import Protocol

FAST = Protocol(batch_size=100, max_epochs=2, embedding_dim=4)
CELLS = {"T9.none": ("T9", {}), "MLP.relu": ("MLP", {"post_activation": "relu", "hidden_width": 8})}


OWN = """
import sys
from pathlib import Path
from ctrlib import Grid, Protocol, run_grid
from ctrlib.layers import pair_sum
from ctrlib.models import MODELS, CTRModel, ModelEntry, ModelSettings

class Mine(CTRModel):
    def interact(self, e_BFD):
        return pair_sum(e_BFD)

MODELS["Mine"] = ModelEntry(ModelSettings, lambda name, schema, settings: Mine(schema, settings))
protocol = Protocol(batch_size=512, max_epochs=1, embedding_dim=4)
grid = Grid("mine").add("ml-100k", {"Mine": ("Mine", {})}, protocol, [1, 2], rows=500)
print([r["status"] for r in run_grid(grid, root=Path(sys.argv[1]), jobs=2, progress=False, resume=False)])
"""


@pytest.mark.skipif(not os.environ.get("CTRLIB_DATA"), reason="CTRLIB_DATA is not set: ml-100k is not at hand")
def test_a_system_of_ones_own_runs_in_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "['completed', 'completed']", found.stderr


@pytest.fixture
def on_tiny(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> CTRDataset:
    """ml-100k stands for the tiny data set, so that nothing is fetched."""
    monkeypatch.setattr(runner, "dataset", lambda name, *others: tiny)
    return tiny


def grid(**changes: Any) -> Grid:
    return Grid("trial").add("ml-100k", CELLS, FAST.replace(**changes), [1, 2])


def run(made: Grid, root: Path, **options: Any) -> list[dict[str, Any]]:
    return run_grid(made, root=root, jobs=1, progress=False, **options)


def test_a_record_has_what_design_asks(on_tiny: CTRDataset, tmp_path: Path) -> None:
    record = run(grid(), tmp_path)[0]
    assert record["label"] == "T9.none" and record["status"] == "completed"
    assert record["settings"]["layers"] == 3 and record["settings"]["dropout"] == 0.1, "defaults are written out"
    assert record["protocol"]["max_gradient_norm"] == 10.0
    assert record["environment"]["precision"] == "fp32" and record["environment"]["threads"] == 1
    assert {"torch", "numpy", "python"} <= record["environment"]["versions"].keys()
    assert len(record["epochs"]) == 2 and record["seconds"]["total"] > 0 and record["peak_memory_mb"] > 0
    assert record["fingerprint"] == on_tiny.fingerprint and record["numerics"] >= 1 and record["date"]


def test_recorded_runs_are_skipped(on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(grid(), tmp_path)
    monkeypatch.setattr(runner, "fit_epochs", lambda *a, **k: pytest.fail("a recorded run was made again"))
    assert run(grid(), tmp_path) == first
    assert len(list(tmp_path.rglob("seed-*.json"))) == 4


def test_other_settings_have_other_paths(on_tiny: CTRDataset, tmp_path: Path) -> None:
    run(grid(), tmp_path)
    run(grid(embedding_regularizer=0.5), tmp_path)
    table = frame(load_records("trial", root=tmp_path))
    assert len(table) == 8
    assert len(results(table, "ml-100k", embedding_regularizer=0.5)) == 4


def test_settings_that_only_name_a_default_change_nothing() -> None:
    cells = {"a": ("T9", {}), "b": ("T9", {"post_activation": "none", "layers": 3, "embedding_dim": 16})}
    first, second = Grid("trial").add("ml-100k", cells, Protocol(), [1]).runs
    assert first.identity == second.identity


def test_every_stored_record_lies_where_its_run_says() -> None:
    """So that a grid finds what is recorded, and `records verify` repeats the right run."""
    folder = Path(__file__).resolve().parent.parent / "data" / "records"
    paths = sorted(folder.glob("*/*/*/seed-*.json"))
    assert paths
    for path in paths:
        assert verify.run_of(read_record(path), folder).path == path.relative_to(folder)


def test_a_record_under_the_wrong_name_is_an_error(on_tiny: CTRDataset, tmp_path: Path) -> None:
    run(grid(), tmp_path)
    path = next(tmp_path.rglob("seed-1.json"))
    record = json.loads(path.read_text())
    record["protocol"]["learning_rate"] = 7.0
    path.write_text(json.dumps(record))
    with pytest.raises(SettingError, match="recorded with another protocol"):
        run(grid(), tmp_path)


def test_a_record_from_before_a_setting_existed_is_that_of_the_default(on_tiny: CTRDataset, tmp_path: Path) -> None:
    run(grid(), tmp_path)
    path = next(tmp_path.rglob("seed-1.json"))
    record = json.loads(path.read_text())
    del record["settings"]["batch_norm"], record["protocol"]["min_delta"]
    path.write_text(json.dumps(record))
    assert record in run(grid(), tmp_path)
    record["settings"]["batch_norm"] = True
    path.write_text(json.dumps(record))
    with pytest.raises(SettingError, match="recorded with another settings"):
        run(grid(), tmp_path)


def test_runs_made_anew_neither_use_nor_touch_the_grid_s_checkpoints(
    on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTRLIB_CACHE", str(tmp_path / "cache"))
    first = grid().runs[0]
    left = runner.checkpoints_dir() / first.path.with_suffix(".pt")
    left.parent.mkdir(parents=True)
    left.write_text("of another process")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    made = run_anew(grid())
    assert left.read_text() == "of another process"
    assert [r["test"] for r in made] == [r["test"] for r in run(grid(), tmp_path / "records")]


def test_a_damaged_record_is_kept_and_its_run_made_again(
    on_tiny: CTRDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(grid(), tmp_path)
    path = next(tmp_path.rglob("seed-1.json"))
    path.write_text(path.read_text()[:50])
    again = run(grid(), tmp_path)
    assert "cannot be read" in capsys.readouterr().out
    assert path.with_name("seed-1.json.damaged").exists()
    assert [r["test"] for r in again] == [r["test"] for r in first], "the same run gives the same bits"


def test_failed_runs_are_kept_and_not_tried_again(
    on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {"T21.none": ("T21", {})}
    failing = Grid("trial").add("ml-100k", cells, FAST.replace(learning_rate=1e6), [1])
    (record,) = run(failing, tmp_path)
    assert record["status"] == "failed" and "Lower the learning rate" in record["error"]
    monkeypatch.setattr(runner, "fit_epochs", lambda *a, **k: pytest.fail("a failed run was tried again"))
    assert run(failing, tmp_path) == [record]
    assert frame([record])["test_auc"].isna().all()


def test_a_full_disk_stops_the_grid_and_is_no_failed_run(
    on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctrlib.train.checkpoint.torch.save", full)
    with pytest.raises(RecordError, match="Could not write the checkpoint"):
        run(grid(), tmp_path)
    assert list(tmp_path.rglob("seed-*.json")) == []


def test_nothing_starts_when_a_name_is_wrong(tmp_path: Path) -> None:
    def with_cell(cell: tuple[str, dict[str, Any]], dataset: str = "ml-100k") -> Grid:
        return Grid("trial").add(dataset, {"a": ("T9", {}), "b": cell}, FAST, [1])

    with pytest.raises(SettingError, match="Unknown model 'T99'"):
        run(with_cell(("T99", {})), tmp_path)
    with pytest.raises(SettingError, match="Did you mean 'layers'"):
        run(with_cell(("T9", {"layer": 2})), tmp_path)
    with pytest.raises(SettingError, match="Did you mean 'ml-100k'"):
        run(with_cell(("T9", {}), "ml100k"), tmp_path)
    twice = Grid("trial").add("ml-100k", CELLS, FAST, [1, 1])
    with pytest.raises(SettingError, match="the same run twice"):
        run(twice, tmp_path)
    assert list(tmp_path.rglob("seed-*")) == []


def test_processes_and_one_process_agree(tmp_path: Path) -> None:
    """With forked processes, which inherit the tiny data set that stands for ml-100k."""
    found = run_in_subprocess(tmp_path, "print(len(run_grid(grid, jobs=2, backend='multiprocessing', progress=False)))")
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "4"
    parallel = load_records("trial", root=tmp_path / "records")
    found = run_in_subprocess(tmp_path / "one", "run_grid(grid, jobs=1, progress=False)")
    assert found.returncode == 0, found.stderr
    single = load_records("trial", root=tmp_path / "one" / "records")
    assert [r["test"] for r in parallel] == [r["test"] for r in single]


def test_interrupt_keeps_finished_runs_and_the_next_start_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(script(tmp_path, "run_grid(grid, jobs=1)", epochs=4000), env=environment(tmp_path))
    records = tmp_path / "records"
    wait_until(lambda: any(records.rglob("seed-*.json")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    kept = {path: path.read_bytes() for path in records.rglob("seed-*.json")}
    assert 1 <= len(kept) < 4
    found = run_in_subprocess(tmp_path, "run_grid(grid, jobs=1, progress=False)", epochs=4000)
    assert found.returncode == 0, found.stderr
    assert len(list(records.rglob("seed-*.json"))) == 4
    assert all(path.read_bytes() == content for path, content in kept.items()), "finished runs stayed as they were"


def test_progress_is_told_in_plain_lines(
    on_tiny: CTRDataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With no width of a terminal, no library, no carriage return."""
    run_grid(grid(), root=tmp_path, jobs=1)
    said = capfd.readouterr()
    assert said.out.splitlines() == ["trial: 0 of 4 runs", "trial: 4 of 4 runs, done"] and said.err == ""
    run_grid(grid(), root=tmp_path, jobs=1)
    assert capfd.readouterr().out == "", "nothing is left to do"
    run(Grid("trial").add("ml-100k", CELLS, FAST, [3]), tmp_path)
    assert capfd.readouterr().out == "", "without progress"


def test_progress_tells_the_time_left_and_not_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    moment = [0.0]
    done = progress_lines(772, "g", lambda: moment[0])
    for count in range(1, 773):
        moment[0] += 15 if count <= 12 else 0.1
        done(count)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "g: 8 of 772 runs, about 3.2 h left", "not before a hundredth is finished"
    assert lines[-1] == "g: 772 of 772 runs, done"
    assert lines[-2].endswith("less than a minute left") or "about" in lines[-2]
    assert len(lines) <= LINES + 2
    done = progress_lines(3, "g", lambda: moment[0])
    for count in (1, 2, 2, 3):
        moment[0] += SECONDS_APART
        done(count)
    assert capsys.readouterr().out.splitlines() == [
        "g: 0 of 3 runs",
        "g: 1 of 3 runs, less than a minute left",
        "g: 2 of 3 runs, less than a minute left",
        "g: 3 of 3 runs, done",
    ]


def test_runs_of_other_numerics_are_told(
    on_tiny: CTRDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(grid(), tmp_path)
    assert "other numerics" not in capsys.readouterr().out
    path = next(tmp_path.rglob("seed-*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"numerics": -1}))
    run(grid(), tmp_path)
    assert "1 of 4 runs were recorded with other numerics" in capsys.readouterr().out


def test_a_process_that_the_system_ends_is_explained(
    on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("ctrlib.lab.grid._record_with", ended)
    with pytest.raises(DeviceError, match="CTRLIB_JOBS lower, or lower batch_size"):
        run_grid(grid(), jobs=2, root=tmp_path, progress=False, resume=False)


def test_a_gpu_that_is_absent_is_told_before_the_first_run(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    for jobs in (1, 2):
        with pytest.raises(DeviceError, match="sees no GPU"):
            run_grid(grid(), jobs=jobs, device="cuda", root=tmp_path, progress=False)


def test_records_are_in_full_precision_whatever_was_set_before(on_tiny: CTRDataset, tmp_path: Path) -> None:
    torch.set_float32_matmul_precision("high")
    run(grid(), tmp_path)
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_network_too_large_for_the_memory_is_explained(on_tiny: CTRDataset, tmp_path: Path) -> None:
    large = Grid("trial").add("ml-100k", {"T9": ("T9", {"embedding_dim": 10**13})}, FAST, [1])
    with pytest.raises(DeviceError, match="lower batch_size or embedding_dim"):
        run(large, tmp_path)


def test_verify_agrees_with_a_true_record_and_notices_a_false_one(on_tiny: CTRDataset, tmp_path: Path) -> None:
    run(grid(), tmp_path)
    checks = verify.verify(4, draw=1, root=tmp_path)
    assert len(checks) == 4 and all(check.agrees and check.difference == 0.0 for check in checks)
    for path in tmp_path.rglob("seed-*.json"):
        record = json.loads(path.read_text())
        record["test"]["auc"] += 1e-3
        path.write_text(json.dumps(record))
    assert not any(check.agrees for check in verify.verify(4, draw=1, root=tmp_path))
    path.write_text(json.dumps(record | {"fingerprint": "other"}))
    with pytest.raises(RecordError, match="The record is stale"):
        verify.check(record | {"fingerprint": "other"}, [record], "cpu", 1)


def test_verify_on_another_device_uses_the_spread_over_seeds(on_tiny: CTRDataset, tmp_path: Path) -> None:
    recorded = run(grid(), tmp_path)
    cell = [r for r in recorded if r["label"] == recorded[0]["label"]]
    elsewhere = [r | {"environment": r["environment"] | {"device_name": "other"}} for r in cell]
    found = verify.check(elsewhere[0], elsewhere, "cpu", 1)
    assert found.agrees and "standard deviations over 2 seeds" in found.rule
    with pytest.raises(RecordError, match="one seed"):
        verify.check(elsewhere[0], elsewhere[:1], "cpu", 1)


def test_verify_measures_each_metric_by_its_own_spread(on_tiny: CTRDataset, tmp_path: Path) -> None:
    """An AUC far outside its spread is not excused by a logloss that scatters widely."""
    record = run(grid(), tmp_path)[0]
    record["environment"]["device_name"] = "other"
    record["test"]["auc"] += 0.01
    other = record | {"test": {"auc": record["test"]["auc"] + 0.001, "logloss": record["test"]["logloss"] + 0.1}}
    found = verify.check(record, [record, other], "cpu", 1)
    assert not found.agrees and found.metric == "test AUC" and "DIFFERS, test AUC by 1.00e-02" in str(found)


def test_verify_goes_on_where_a_run_cannot_be_repeated(
    on_tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(grid(), tmp_path)
    repeated = verify.make_record

    def lacking(one: Run, **how: Any) -> dict[str, Any]:
        if one.seed == 1:
            raise DataError("The files are not at hand.")
        return repeated(one, **how)

    monkeypatch.setattr(verify, "make_record", lacking)
    found = verify.verify(4, draw=1, root=tmp_path)
    assert sum(check.agrees for check in found) == 2
    assert [str(check).endswith("not compared. The files are not at hand.") for check in found].count(True) == 2


def test_verify_draws_only_what_it_can_compare(on_tiny: CTRDataset, tmp_path: Path) -> None:
    """On another kind of device: no cell of one seed, such as a search."""
    run(Grid("trial").add("ml-100k", CELLS, FAST, [1]), tmp_path)
    for path in tmp_path.rglob("seed-*.json"):
        record = json.loads(path.read_text())
        record["environment"]["device_name"] = "other"
        path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="every cell has one seed"):
        verify.verify(2, root=tmp_path)


def test_search_table_reads_validation_only(on_tiny: CTRDataset, tmp_path: Path) -> None:
    searching = Grid("trial")
    for strength in (0.0, 0.1):
        protocol = FAST.replace(embedding_regularizer=strength)
        searching.add("ml-100k", {"search:T9.none": ("T9", {})}, protocol, [0])
    table = frame(run(searching, tmp_path)).assign(test_auc=float("nan"))
    found = search_table(table, "protocol.embedding_regularizer")
    assert found.index[0] == table.sort_values("valid_auc").iloc[-1]["protocol.embedding_regularizer"]
    with pytest.raises(RecordError, match="No search run"):
        search_table(table[:0], "protocol.embedding_regularizer")


def test_a_run_with_several_parents(tmp_path: Path) -> None:
    """A path for one parent stays what it was; for several all of them count, in their order."""
    base, other = (Run("trial", "ml-100k", name, "T9", {}, FAST, 1, keep=True) for name in ("base", "other"))
    left, right = (Run("trial", "ml-100k", name, "T9", {}, FAST, 1, parents=(base,)) for name in ("left", "right"))
    cells = {"last": ("T9", {})}
    (last,) = Grid("trial").add("ml-100k", cells, FAST, [1], parents=lambda seed: (left, right)).runs
    folders = [one.path.parent.as_posix() for one in (base, left, right)]
    assert (base.identity["parent"], left.identity["parent"]) == (None, folders[0])
    assert last.identity["parent"] == folders[1:] and last.parent is left and base.parent is None
    assert (base.parent_path, left.parent_path) == (None, f"{folders[0]}/seed-1.json")
    assert last.parent_path == [f"{folder}/seed-1.json" for folder in folders[1:]]
    variants = [(left, right), (right, left), (left,), (right,), ()]
    assert len({replace(last, parents=parents).path for parents in variants}) == len(variants)
    assert [one.label for one in last.lineage] == ["base", "left", "right", "last"], "a shared parent is made once"
    assert [one.generation for one in last.lineage] == [1, 2, 2, 3]
    made = _generations([last, other], tmp_path)
    assert [sorted(one.label for one in runs) for runs in made] == [["base", "other"], ["left", "right"], ["last"]]
    assert all(one.keep for runs in made for one in runs if one.label != "last")
    fewer = last.smaller(50, 1)
    assert {(one.rows, one.protocol.max_epochs) for one in fewer.lineage} == {(50, 1)} and len(fewer.lineage) == 4
    with pytest.raises(SettingError, match="share data set, rows and seed: last"):
        replace(last, parents=(left, replace(right, rows=9, parents=())))
    with pytest.raises(SettingError, match="share data set, rows and seed: last"):
        replace(last, seed=2)


def test_records_of_several_parents_give_back_the_run(tmp_path: Path) -> None:
    base, other = (Run("trial", "ml-100k", name, "T9", {}, FAST, 1) for name in ("base", "other"))
    for parents in ((), (base,), (base, other)):
        last = Run("trial", "ml-100k", f"from {len(parents)}", "T9", {}, FAST, 1, parents=parents)
        for one in last.lineage:
            told = {"experiment": one.experiment, "dataset": one.dataset, "label": one.label, "model": one.model}
            told |= {"settings": one.full_settings, "protocol": one.protocol.to_dict(), "seed": one.seed}
            told |= {"fingerprint": "", "status": "completed", "parent": one.parent_path}
            write_record(tmp_path / one.path, told)
        found = verify.run_of(read_record(tmp_path / last.path), tmp_path)
        assert found.path == last.path and [one.path for one in found.parents] == [one.path for one in parents]


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
sys.path.insert(0, {tests!r})
import torch
from conftest import random_split
from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.lab import Grid, run_grid, runner
from ctrlib.train import Protocol
g = torch.Generator().manual_seed(0)
schema = Schema((Field("a"), Field("b"), Field("c")), (7, 9, 5))
tiny = CTRDataset("tiny", schema, *[random_split(n, schema, g) for n in (600, 200, 200)], "0" * 16, {{}})
runner.dataset = lambda name, *others: tiny
protocol = Protocol(batch_size=100, max_epochs={epochs} // 100 or 2, patience=99, embedding_dim=4)
cells = {{"T9.none": ("T9", {{}}), "T19.none": ("T19", {{}})}}
grid = Grid("trial").add("ml-100k", cells, protocol, [1, 2])
"""


def environment(folder: Path) -> dict[str, str]:
    folders = {"CTRLIB_RECORDS": str(folder / "records"), "CTRLIB_CACHE": str(folder / "cache")}
    return os.environ | folders | {"OMP_NUM_THREADS": "1"}


def script(folder: Path, last: str, epochs: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    text = SCRIPT.format(tests=str(Path(__file__).parent), epochs=epochs)
    return [sys.executable, "-c", text + last]


def run_in_subprocess(folder: Path, last: str, epochs: int = 0) -> subprocess.CompletedProcess[str]:
    command = script(folder, last, epochs)
    return subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=False)


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# ---- what the seed decides ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vary", "same_weights", "same_batches", "same_split"),
    [
        ("seed", False, False, True),
        ("initial", False, True, True),
        ("order", True, False, True),
        ("split", True, True, False),
        ("all", False, False, False),
    ],
)
def test_the_seed_decides_what_is_asked(
    vary: str, same_weights: bool, same_batches: bool, same_split: bool, tiny: CTRDataset, monkeypatch: Any
) -> None:
    seen: list[tuple[Any, int, int]] = []

    def watched(model: Any, data: Any, protocol: Any, *, seed: int, **options: Any) -> Any:
        seen.append((model.embedding.weight.detach().clone(), seed, splits[-1]))
        return fit_epochs(model, data, protocol, seed=seed, **options)

    splits: list[int] = []
    fit_epochs = runner.fit_epochs
    monkeypatch.setattr(runner, "dataset", lambda name, count, rows, split: splits.append(split) or tiny)
    monkeypatch.setattr(runner, "fit_epochs", watched)
    cells = {"T9.none": CELLS["T9.none"]}
    for one in Grid("trial").add("ml-100k", cells, FAST.replace(max_epochs=1), [1, 2], vary=vary).runs:
        record = runner.make_record(one)
        assert record["vary"] == vary and verify.run_of(record).path == one.path
    (weights, order, split), (weights2, order2, split2) = seen
    assert bool((weights == weights2).all()) == same_weights
    assert (order == order2, split == split2) == (same_batches, same_split)


def test_a_variation_has_a_path_of_its_own_and_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    plain, varied = (Grid("trial").add("ml-100k", CELLS, FAST, [1], vary=v).runs[0].path for v in ("seed", "all"))
    assert plain != varied
    with pytest.raises(SettingError, match=r"'splits'.*Did you mean 'split'"):
        Grid("trial").add("ml-100k", CELLS, FAST, [1], vary="splits")
    with pytest.raises(SettingError, match="split of frappe_x1 is published"):
        run(Grid("trial").add("frappe_x1", CELLS, FAST, [1], vary="split"), tmp_path)
    with pytest.raises(SettingError, match="leaves no weights"):
        Grid("trial").add("ml-100k", CELLS, FAST, [1], vary="order", keep=True)


def test_seeds_and_settings_may_be_numpys(on_tiny: CTRDataset, tmp_path: Path) -> None:
    cells = {"T9": ("T9", {"layers": np.int64(1)})}
    made = Grid("try").add("ml-100k", cells, Protocol(batch_size=64, max_epochs=1), seeds=np.arange(3, 5))
    assert [record["seed"] for record in run(made, tmp_path)] == [3, 4]


@pytest.mark.parametrize("label", ["a/b", "../out", "..", "a\\b"])
def test_a_label_is_no_path(label: str) -> None:
    with pytest.raises(SettingError, match="names a folder"):
        Grid("try").add("tiny", {label: ("T9", {})}, Protocol(), [1])


def test_cells_and_seeds_of_another_form_are_refused() -> None:
    with pytest.raises(SettingError, match=r"give several, such as range\(1, 4\), or \[3\]"):
        Grid("try").add("tiny", {"T9": ("T9", {})}, Protocol(), 3)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="must be \\(model, settings\\)"):
        Grid("try").add("tiny", {"T9": "T9"}, Protocol(), [1])  # type: ignore[dict-item]
    with pytest.raises(SettingError, match="jobs and threads"):
        run_grid(Grid("try"), jobs=0)
