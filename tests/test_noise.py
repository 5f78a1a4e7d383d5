"""The noise floor: spread, wrong winners, seeds that a difference needs, the papers' margins."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ctrlib.errors import SettingError
from ctrlib.lab import noise
from ctrlib.lab.stats import smallest_difference
from ctrlib.paths import root


def test_spread_has_the_chi_square_interval() -> None:
    values = pd.DataFrame([[1.0, 2.0, 4.0, math.nan], [3.0, math.nan, math.nan, math.nan]], index=["a", "b"])
    found = noise.spread(values)
    assert list(found.index) == ["a"]
    row = found.loc["a"]
    sd = math.sqrt(7 / 3)  # of 1, 2, 4 about 7 / 3
    assert row["sd"] == pytest.approx(sd) and row["n"] == 3 and (row["least"], row["most"]) == (1, 4)
    # With 2 degrees of freedom the chi-square quantile is -2 log(1 - p).
    assert row["low"] == pytest.approx(sd * math.sqrt(2 / (-2 * math.log(0.025))))
    assert row["high"] == pytest.approx(sd * math.sqrt(2 / (-2 * math.log(0.975))))


def test_spread_covers_the_true_deviation_as_often_as_it_says() -> None:
    draws = pd.DataFrame(np.random.default_rng(0).normal(scale=3.0, size=(2000, 6)))
    found = noise.spread(draws)
    assert ((found["low"] < 3) & (found["high"] > 3)).mean() == pytest.approx(0.95, abs=0.015)


def test_wrong_winners_by_hand() -> None:
    values = pd.DataFrame([[1.0, 5.0, 5.0], [2.0, 2.0, 2.0]], index=["a", "b"])
    found = noise.wrong_winners(values, min_seeds=3)
    assert len(found) == 9 and found["paired"].sum() == 3
    # With a's seed 1 the others say a by 5 - 2, and this run says b. With seed 2 or 3 they say 3 - 2, and it agrees.
    assert found["gap"].tolist() == [3.0] * 3 + [1.0] * 6
    assert found["wrong"].tolist() == [1.0] * 3 + [0.0] * 6


def rates(values: np.ndarray) -> pd.Series:
    """How often one run of each is wrong, unpaired and paired."""
    return noise.wrong_winners(pd.DataFrame(values, index=["a", "b"])).groupby("paired")["wrong"].mean()


def test_no_difference_is_a_coin_and_a_large_one_never_wrong() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([rates(rng.normal(size=(2, 6))) for _ in range(600)])
    assert drawn.mean(axis=0) == pytest.approx(0.5, abs=0.03), "and not less, for the run itself is not in the mean"
    noisy = rng.normal(size=(2, 40))
    assert (rates(noisy + np.array([[100.0], [0.0]])) == 0).all()
    assert noise.wrong_winners(pd.DataFrame(noisy[:, :3], index=["a", "b"])).empty


def test_pairing_helps_where_seeds_are_shared() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=300)
    found = rates(np.array([shared + 0.1, shared + 0.01 * rng.normal(size=300)]))
    assert found[True] == 0 and found[False] > 0.4


@pytest.mark.parametrize(("difference", "sd"), [(0.001, 0.0005), (0.001, 0.004), (-0.02, 0.03)])
def test_seeds_needed_is_the_first_number_that_does(difference: float, sd: float) -> None:
    count = noise.seeds_needed(difference, sd)
    assert smallest_difference(sd, count) <= abs(difference)
    assert count == 2 or smallest_difference(sd, count - 1) > abs(difference)


def test_seeds_needed_where_nothing_can_be_shown() -> None:
    with pytest.raises(SettingError, match="other than 0"):
        noise.seeds_needed(0.0, 1.0)
    assert noise.seeds_needed(1e-6, 1.0) == math.inf


def test_margins_are_the_differences_of_the_printed_tables() -> None:
    found = noise.margins().set_index(["method", "data"])
    row = found.loc[("QNN-alpha", "Frappe")]
    assert row["best_other"] == "FinalMLP" and row["gain"] == pytest.approx(0.0011)
    assert found.loc[("DS-MLP", "Criteo"), "gain"] == pytest.approx(0.0003)
    assert math.isnan(found.loc[("QNN-alpha", "KKBox"), "sd"])
    assert (found["gain"] > 0).all()


def test_each_thing_varies_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_RECORDS", str(root() / "data" / "records"))
    grid = noise.noise_grid("ml-100k", [1, 2])
    labels = {run.label for run in grid.runs}
    assert len(grid) == 2 * len(labels) == 30
    assert all(run.label == f"{run.label.split('.')[0]}.{run.vary}" for run in grid.runs)
    rows = {run.vary: run.seeds for run in grid.runs if run.seed == 2}
    assert rows == {
        "seed": (2, 2, 2024),
        "initial": (2, 0, 2024),
        "order": (0, 2, 2024),
        "split": (0, 0, 2),
        "all": (2, 2, 2),
    }
    assert "MLP.split" not in {run.label for run in noise.noise_grid("frappe_x1-rebuilt", [1]).runs}
