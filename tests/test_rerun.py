"""A person's own runs beside the recorded ones: intervals, verdicts in words, and the command that makes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_book import HEADER

from ctrlib.book import rerun as command
from ctrlib.cli import main
from ctrlib.errors import CtrlibError, SettingError
from ctrlib.lab import rerun, stats, streams
from ctrlib.lab.claims import load_claims
from ctrlib.lab.experiments import EXPERIMENTS, experiment_named
from ctrlib.lab.judged import HOSTS, OF_RUNS, STUDENT_SIZES, STUDENTS, TEACHER_SIZES, judged_runs, of_runs
from ctrlib.lab.records import write_record
from ctrlib.paths import root

ROOT = Path(__file__).resolve().parent.parent

# ---- statistics ------------------------------------------------------------------------------------------


def test_prediction_interval_covers_95_percent_of_further_means() -> None:
    rng = np.random.default_rng(0)
    for recorded, own in ((3, 3), (5, 1), (10, 4)):
        draws = rng.normal(0.8, 0.01, (4000, recorded + own))
        hits = []
        for row in draws:
            low, high = stats.prediction_interval(row[:recorded], own)
            hits.append(low <= row[recorded:].mean() <= high)
        assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


def test_prediction_interval_by_hand_and_at_its_ends() -> None:
    low, high = stats.prediction_interval([1.0, 2.0, 3.0], 3)
    assert (low, high) == pytest.approx((2 - 4.302653 * (2 / 3) ** 0.5, 2 + 4.302653 * (2 / 3) ** 0.5))
    assert np.isnan(stats.prediction_interval([1.0], 3)).all()
    with pytest.raises(SettingError, match="at least one"):
        stats.prediction_interval([1.0, 2.0], 0)


def record(label: str, seed: int, auc: float, **values: Any) -> tuple[str, dict[str, Any]]:
    keys = {"experiment": "activation", "dataset": "ml-100k", "fingerprint": "f", "model": "T9", "label": label}
    keys |= {"settings": {}, "protocol": {"embedding_regularizer": 0.1}, "seed": seed, "status": "completed"}
    keys |= {"valid": {"auc": auc, "logloss": 1 - auc}, "test": {"auc": auc, "logloss": 1 - auc}} | values
    return f"{keys['experiment']}/{keys['dataset']}/{label.replace(':', '-')}-1/seed-{seed}.json", keys


def runs(cells: int, seeds: range, shift: float = 0.0, draw: int = 0) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(draw)
    values = 0.8 + 0.002 * rng.standard_normal((cells, 20)) + shift
    return dict(record(f"c{cell}", seed, values[cell, seed]) for cell in range(cells) for seed in seeds)


def test_cells_are_compared_where_both_sides_have_them() -> None:
    recorded = dict(record("a", s, auc) for s, auc in enumerate([0.80, 0.81, 0.82])) | dict([record("b", 1, 0.8)])
    own = dict([record("a", 7, 0.813), record("a", 8, 0.817), record("b", 1, 0.8), record("c", 1, 0.9)])
    own |= dict([record("search:a", 0, 0.1), record("a", 9, 0.1, status="failed")])
    table = rerun.compare_cells(own, recorded)
    assert table["label"].tolist() == ["a", "a"] and table["metric"].tolist() == ["auc", "logloss"]
    row = table.iloc[0]
    assert (row["recorded_seeds"], row["own_seeds"]) == (3, 2)
    assert row["gap"] == pytest.approx(0.005) and row["inside"]
    assert (row["low"], row["high"]) == pytest.approx(stats.prediction_interval([0.80, 0.81, 0.82], 2))
    moved = dict(record("a", s, 0.9) for s in (7, 8))
    assert not rerun.compare_cells(moved, recorded)["inside"].any()


def test_runs_of_the_same_kind_agree_and_shifted_ones_differ() -> None:
    recorded = runs(40, range(5))
    words = rerun.verdict(runs(40, range(5, 8), draw=1), recorded)
    assert words[0] == "Your runs agree with the recorded ones, as far as 40 cells can tell."
    assert " of 40 cells lie inside" in words[1] and "by chance 3" in words[1]
    words = rerun.verdict(runs(40, range(5, 8), shift=0.01, draw=1), recorded)
    assert "DIFFER" in words[0] and any("outside: ml-100k c" in line and "gap +0.0" in line for line in words)


def test_the_same_seeds_again_are_counted() -> None:
    recorded = runs(3, range(5))
    path = next(iter(recorded))
    own = recorded | {path: recorded[path] | {"test": {"auc": 0.8001, "logloss": 0.3}}}
    assert rerun.repeated(own, recorded) == (15, 14)
    assert any("15 of your runs repeat a recorded seed; 14" in line for line in rerun.verdict(own, recorded))
    assert rerun.verdict(recorded, recorded)[0] == "Your runs give the recorded figures again, seed by seed."
    one = {path: recorded[path]}
    assert rerun.verdict(one, recorded)[-1] == "1 of your runs repeats a recorded seed and gives the same figures."


@pytest.mark.parametrize(("auc", "logloss"), [(0.5, 0.35), (0.844, 5.0), (0.5, 5.0)])
def test_broken_runs_never_agree_however_few(auc: float, logloss: float) -> None:
    """By lot, two of seven scores of two cells can always be the odd ones: an alarm of its own tells."""
    known = {f"c{cell}": [0.843, 0.844, 0.845, 0.8445, 0.8435] for cell in range(2)}
    recorded = dict(
        record(label, s, v, test={"auc": v, "logloss": 0.35 + v / 100})
        for label in known
        for s, v in enumerate(known[label])
    )
    own = dict(record(label, s, auc, test={"auc": auc, "logloss": logloss}) for label in known for s in (7, 8))
    words = rerun.verdict(own, recorded)
    assert words[0] == "Your runs DIFFER from the recorded ones: 2 of 2 cells are far worse than every recorded seed."
    far = [line for line in words if "FAR OFF: ml-100k c" in line]
    assert len(far) == 2 * ((auc == 0.5) + (logloss == 5.0))
    one = rerun.verdict({p: r for p, r in own.items() if r["label"] == "c0"}, recorded)
    assert "1 of 1 cell is far worse" in one[0] and any("0 of 1 cell lies inside" in line for line in one)


def test_one_or_two_cells_cannot_tell() -> None:
    recorded = dict(record("a", s, auc) for s, auc in enumerate([0.840, 0.841, 0.842]))
    for shift in (0.0, 0.01):  # inside, and outside by less than an alarm
        own = dict(record("a", s, 0.8411 + shift) for s in (7, 8))
        words = rerun.verdict(own, recorded)
        assert words[0].startswith("Too few cells to tell whether your runs agree")
        assert f"{0 if shift else 1} of 1 cell lies inside" in words[1]


def test_no_alarm_where_the_recorded_runs_are_at_chance_or_gain_is_large() -> None:
    recorded = dict(record("a", s, auc) for s, auc in enumerate([0.5001, 0.5002, 0.5003]))
    assert not rerun.compare_cells(dict([record("a", 7, 0.49)]), recorded)["far"].any()
    stuck = dict(record("a", s, auc) for s, auc in enumerate([0.942, 0.944, 0.943]))
    assert not rerun.compare_cells(dict([record("a", 7, 0.983)]), stuck)["far"].any()


def test_of_recorded_runs_held_against_other_seeds_of_their_cell_none_is_far_off() -> None:
    scores = rerun._scores(rerun.stored(ROOT / "data" / "records"))
    far = [
        (cell, metric, seed)
        for (cell, metric), values in scores.items()
        for seed in values
        if len(values) > 2 and rerun._far_off(metric, values[seed], [v for s, v in values.items() if s != seed])
    ]
    assert len(scores) > 1000 and len(far) <= len(scores) / 1000, far


def test_failed_runs_are_told_first() -> None:
    recorded = runs(2, range(5))
    failed = dict(
        record(f"c{cell}", s, 0.8, status="failed", error=f"Loss is NaN in c{cell}.\nMore.")
        for cell in range(5)
        for s in (7, 8)
    )
    words = rerun.verdict(failed, recorded)
    assert words[0] == "10 of your 10 runs FAILED."
    assert words[1] == "  failed: ml-100k c0: Loss is NaN in c0. (2 seeds)" and words[4] == "  and 2 more"
    assert "Nothing to compare: no cell has a completed run of yours" in words[5]
    words = rerun.verdict(runs(2, range(7, 9)) | dict([record("c9", 7, 0.8, status="failed")]), recorded)
    assert words[0] == "1 of your 5 runs FAILED." and "no reason is recorded (1 seed)" in words[1]
    assert any("cells lie inside" in line for line in words)


def test_nothing_in_common_is_said() -> None:
    assert "Nothing to compare" in rerun.verdict(runs(1, range(1)), {})[0]
    assert "No claim can be judged" in rerun.told_claims("activation", {}, runs(2, range(5)))[0]


def test_a_claim_whose_verdict_changes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = next(c for c in load_claims() if c.id == "mlp-collapses")
    monkeypatch.setattr(rerun, "load_claims", lambda: [claim])
    left, right = claim.ours().pairs[0]

    def side(gain: float) -> dict[str, Any]:
        values = {left: 0.8 + gain, right: 0.8}
        made = dict(
            record(label, s, auc + 0.001 * s + 0.0002 * (s % 2) * (label == left))
            for label, auc in values.items()
            for s in range(5)
        )
        return made | dict([record("search:T9.none", 0, 0.8)])

    table, refused = rerun.changed_claims("activation", side(0.02), side(-0.02))
    assert not refused
    assert table["changed"].tolist() == [True] and table["seeds"].tolist() == [5]
    told = rerun.told_claims("activation", side(0.02), side(-0.02))
    assert "0 of 1 verdict is the same" in told[0] and "mlp-collapses on ml-100k:" in told[1] and "->" in told[1]
    assert len(rerun.told_claims("activation", side(0.02), side(0.021))) == 1


def of_cells(experiment: str, scores: dict[str, list[float]], **values: Any) -> dict[str, dict[str, Any]]:
    """Records of cells: label -> test AUC of seeds 1, 2, ..."""
    return dict(
        record(label, seed, auc, experiment=experiment, **values)
        for label, of_label in scores.items()
        for seed, auc in enumerate(of_label, start=1)
    )


def verdicts(experiment: str, own: dict[str, Any], recorded: dict[str, Any]) -> dict[str, tuple[str, str]]:
    table, _ = rerun.changed_claims(experiment, own, recorded)
    return {str(row.id): (str(row.before), str(row.after)) for row in table.itertuples()}


def test_claims_about_what_is_derived_from_runs_are_judged() -> None:
    """The gap of the loglosses, the slope over widths, and the rank correlation of teachers and students."""
    claim = next(c for c in load_claims() if c.id == "se-narrows-the-gap")
    labels, noise = claim.labels(), [0.0, 0.001, 0.0005, 0.0015, 0.0007]

    def gaps(narrower: bool) -> dict[str, Any]:
        wide = {right if narrower else left for left, right in claim.pairs}
        train = {label: {"auc": 0.9, "logloss": 0.1 if label in wide else 0.15} for label in labels}
        made = of_cells("self-ensemble", {label: [0.8 + e for e in noise] for label in labels})
        return {path: one | {"train": train[one["label"]]} for path, one in made.items()}

    found = verdicts("self-ensemble", gaps(False), gaps(True))
    assert found["se-narrows-the-gap"] == ("reproduced", "contradicted")

    def sizes(gain: float) -> dict[str, Any]:
        scores = {
            label: [0.7 + e + sign * gain * i for e in noise]
            for cells, sign in ((STUDENT_SIZES, 1), (TEACHER_SIZES, -1))
            for i, label in enumerate(cells)
        }
        return of_cells("scaling", scores)

    found = verdicts("scaling", sizes(-0.01), sizes(0.01))
    assert found["student-grows-with-size"] == ("reproduced", "contradicted")
    assert found["student-scales-better"] == ("reproduced", "contradicted")

    def lessons(sign: int) -> dict[str, Any]:
        teachers = {teacher: [0.7 + e + 0.01 * i for e in noise] for i, teacher in enumerate(STUDENTS.values())}
        pupils = {pupil: [0.8 + e + sign * 0.01 * i for e in noise] for i, pupil in enumerate(STUDENTS)}
        return of_cells("teachers", teachers | pupils)

    found = verdicts("teachers", lessons(-1), lessons(1))
    assert found["better-teacher-better-student"] == ("reproduced", "contradicted")


def test_recorded_measurements_are_not_taken_for_those_of_a_persons_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The recorded networks of the same cells and seeds are measured; a person's are not."""
    monkeypatch.setenv("CTRLIB_RECORDS", str(root() / "data" / "records"))
    claim = next(c for c in load_claims() if c.id == "agreement-grows-with-lambda")
    scores = {label: [0.8, 0.801, 0.8005] for label in (*claim.labels(), "distilled", "no-teacher")}
    own = of_cells("distil", scores, settings={"distill_weight": 0.5})
    (measured,) = judged_runs("distil", list(own.values())).values()
    (bare,) = judged_runs("distil", list(own.values()), measured=False).values()
    assert measured["main_correlation"].notna().any() and "main_correlation" not in bare
    assert claim.id not in verdicts("distil", own, own)
    count = sum(c.experiment == "distil" and c.metric in measured and c.metric not in bare for c in load_claims())
    told = rerun.told_claims("distil", own, own)
    assert f"  left out: {count} claims about what is measured, counted or timed on networks" in told[1]
    assert "cannot be judged by the runs of both sides" in told[2] and len(told) == 3
    assert judged_runs("fidelity", list(own.values()), measured=False) == {}


def test_claims_hosted_by_a_chapter_are_left_out_aloud() -> None:
    for hosted, host in HOSTS.items():
        count = sum(claim.experiment == hosted for claim in load_claims())
        told = rerun.told_claims(host, {}, {})
        assert told[1].startswith(f"  left out: {count} claims about what is measured, counted or timed")
    assert rerun.told_claims("speed", {}, {}) == ["This chapter judges no claim."]


def test_every_metric_of_a_claim_is_known_as_one_of_runs_or_one_of_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A metric that runs give and that is not listed would be left out of the comparison."""
    monkeypatch.setenv("CTRLIB_RECORDS", str(root() / "data" / "records"))
    measured = set(streams.columns(streams.stored("ml-100k")).columns)
    for claim in load_claims():
        if claim.experiment in EXPERIMENTS and EXPERIMENTS[claim.experiment].recorded:
            assert of_runs(claim) != (claim.metric in measured or "latency" in claim.metric), claim.id
        else:
            assert not of_runs(claim), claim.id
    assert set(OF_RUNS) <= {claim.metric for claim in load_claims()}


def test_a_data_set_that_a_side_cannot_judge_is_named_with_the_reason() -> None:
    recorded = of_cells("qnn-alpha", {"QNN-alpha": [0.8, 0.81]})
    narrow = of_cells("qnn-alpha", {"QNN-alpha": [0.8]}, settings={"width": 6})
    wide = of_cells("qnn-alpha", {"QNN-alpha": [0.8]}, settings={"width": 7})
    twice = narrow | {f"other/{path}": one for path, one in wide.items()}
    told = rerun.told_claims("qnn-alpha", twice, recorded)
    assert told[0].startswith("No claim can be judged both by")
    assert told[1].startswith("  not judged: ml-100k by your runs: The runs of 'QNN-alpha' differ in settings.width.")
    without = rerun.told_claims("activation", runs(1, range(2)), {})
    assert without[1].startswith("  not judged: ml-100k by your runs: No search run is recorded.")


def test_runs_that_stick_on_a_plateau_raise_no_alarm() -> None:
    """One run of five is far below: with three recorded seeds the normal interval misses many cells, by lot too."""
    alarms = 0
    for draw in range(20):
        rng = np.random.default_rng(draw)
        scores = 0.8 + 0.001 * rng.standard_normal((30, 5)) - 0.05 * (rng.random((30, 5)) < 0.2)
        both = {seed: dict(record(f"c{c}", seed, scores[c, seed]) for c in range(30)) for seed in range(5)}
        recorded, own = both[0] | both[1] | both[2], both[3] | both[4]
        words = rerun.verdict(own, recorded)
        alarms += "DIFFER" in words[0]
        assert not any("FAR OFF" in line for line in words)
    assert alarms <= 3  # one in twenty is meant


# ---- the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qnn-alpha", "05_qnn_alpha", "chapters/05_qnn_alpha.py", "05", "5"])
def test_a_chapter_has_several_names(name: str) -> None:
    assert experiment_named(name) == "qnn-alpha"


def test_unknown_chapters_are_refused() -> None:
    for name in ("0", "99", "qnn-alph", ""):
        with pytest.raises(SettingError, match="Unknown experiment"):
            experiment_named(name)


GRID = """
# %% [markdown]
# # Tiny

# %% tags=["parameters"]
profile = "quick"
device = "cpu"

# %%
from ctrlib import Grid, Protocol, run_grid
import ctrlib.lab.runner as runner
import torch
from ctrlib.data import CTRDataset, Field, Schema, Split

def split(rows):
    ids = torch.stack([torch.randint(1, 5, (rows,)), torch.randint(6, 9, (rows,))], dim=1).to(torch.int32)
    return Split(ids, ((ids[:, 0] + ids[:, 1]) % 2).float())

torch.manual_seed(0)
data = CTRDataset("tiny", Schema((Field("a"), Field("b")), (5, 5)), split(200), split(100), split(100), "0" * 16, {})
runner.dataset = lambda name, *others: data
protocol = Protocol(batch_size=100, max_epochs=1, embedding_dim=4)
grid = Grid("activation").add("ml-100k", {"T9.none": ("T9", {})}, protocol, SEEDS)
found = run_grid(grid, device=device, jobs=1)
BROKEN
"""


def chapter(root: Path, seeds: str, broken: str = "") -> None:
    (root / "chapters").mkdir(exist_ok=True)
    (root / "book").mkdir(exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    shutil.copy(ROOT / "data" / "claims.toml", root / "data")
    text = HEADER + GRID.replace("SEEDS", seeds).replace("BROKEN", broken)
    (root / "chapters" / "01_activation.py").write_text(text)


def test_joining_makes_what_is_missing_and_own_records_make_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    stored = tmp_path / "records"
    chapter(tmp_path, "[1, 2, 3]")
    assert main(["run", "1"]) == 0
    out = capsys.readouterr().out
    assert "Runs made: 3, failed: 0, made before and not run again: 0\n" in out and "Records: records" in out
    assert "Nothing to compare" in out
    assert "Executed notebook: build/executed/paper/01_activation.ipynb" in out
    assert "activation: 0 of 3 runs\n" in out and "activation: 3 of 3 runs, done\n" in out, "the grid's progress"

    chapter(tmp_path, "[1, 2, 3, 4]")
    assert main(["run", "01_activation"]) == 0
    out = capsys.readouterr().out
    assert (
        "Runs made: 1, failed: 0, made before and not run again: 3\n" in out
        and " of 1 cell lies inside the interval for as many" in out
    )
    assert main(["run", "activation"]) == 0
    assert "No run was missing" in capsys.readouterr().out

    path, search = record("search:T9", 0, 0.8)
    write_record(stored / path, search)
    for folder in (stored, tmp_path / "mine"):  # runs of another chapter are none of this one's business
        write_record(folder / path.replace("activation", "overall"), search | {"experiment": "overall"})
    before = {file: file.read_bytes() for file in stored.rglob("*.json")}
    own = tmp_path / "mine"
    assert main(["run", "1", "--records", str(own)]) == 0
    out = capsys.readouterr().out
    assert "Runs made: 4, failed: 0, made before and not run again: 0\nRecorded searches taken over: 1\n" in out
    assert "4 of your runs repeat a recorded seed; 4 of them give the same" in out
    assert "Your runs give the recorded figures again, seed by seed." in out
    assert {file: file.read_bytes() for file in stored.rglob("*.json")} == before, "the recorded runs are left alone"
    assert (own / path).exists() and len(list(own.glob("*/*/T9.none*/seed-*.json"))) == 4
    assert (own / "executed" / "paper" / "01_activation.ipynb").exists()
    assert main(["run", "1", "--records", str(stored)]) == 1
    assert "holds the recorded runs" in capsys.readouterr().err


def test_one_data_set_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(command, "execute", lambda name, parameters, out: seen.append(parameters))
    for words in (["run", "1"], ["run", "1", "--dataset", "ml-100k"]):
        assert main(words) == 0
    assert [parameters.get("dataset") for parameters in seen] == [None, "ml-100k"]


def test_a_chapter_without_run_records_says_that_nothing_is_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "execute", lambda name, parameters, out: None)
    assert main(["run", "fidelity"]) == 0
    out = capsys.readouterr().out
    count = sum(claim.experiment == "fidelity" for claim in load_claims())
    assert "No claim can be judged" in out and f"left out: {count} claims about what is measured" in out


def test_a_chapter_that_fails_still_tells_what_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    chapter(tmp_path, "[1]", broken="1 / 0")
    with pytest.raises(CtrlibError, match="ZeroDivisionError"):
        command.rerun("1", "paper", "cpu")
    out = capsys.readouterr().out
    assert "Runs made: 1," in out
    assert "Not executed to its end; so far: build/executed/paper/01_activation.part.ipynb" in out


def test_a_profile_without_records_tells_what_it_trained_and_where_the_notebook_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    page = '\nfrom ctrlib.views.footer import footer\nfooter("activation", made=[MADE] * 7)\n'
    made = record("T9", 1, 0.8)[1] | {"environment": {"device_name": "P", "threads": 1}, "date": "2026-01-01"}
    chapter(tmp_path, "[]", broken=page.replace("MADE", repr(made)))
    assert main(["run", "1", "--profile", "smoke"]) == 0
    out = capsys.readouterr().out
    assert "Networks trained in this page: 7\n" in out and "Runs made" not in out
    assert "The profile smoke writes no run records; the profile paper does." in out
    assert "Executed notebook: build/executed/smoke/01_activation.ipynb" in out


SLOW = """
import time
from pathlib import Path
Path("running").touch()
time.sleep(600)
"""


def test_the_last_words_of_an_interrupted_run_say_that_it_goes_on_and_nothing_is_lost(tmp_path: Path) -> None:
    """In a process of its own, as from a terminal; the page that was executed before stays."""
    chapter(tmp_path, "[]", broken=SLOW)
    done = tmp_path / "build" / "executed" / "smoke" / "01_activation.ipynb"
    done.parent.mkdir(parents=True)
    done.write_text("before")
    words = [sys.executable, "-m", "ctrlib.cli", "run", "1", "--profile", "smoke"]
    environment = os.environ | {"CTRLIB_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 120
    while not (tmp_path / "running").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "ctrlib: interrupted. What is recorded or saved stays; the next start goes on."
    assert "Traceback" not in out and "Task exception" not in out
    assert done.read_text() == "before"


def test_frames_of_no_runs_are_empty() -> None:
    assert rerun.compare_cells({}, {}).empty
    table, refused = rerun.changed_claims("activation", {}, {})
    assert table.empty and not refused
