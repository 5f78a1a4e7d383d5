"""Statistics against scipy and hand-made numbers, and properties that must hold for any sample."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from ctrlib.errors import DataError, RecordError, SettingError
from ctrlib.lab import stats, tables
from ctrlib.lab.stats import MARGIN, Verdict, verdict
from ctrlib.paths import papers_dir


def sample(seed: int, n: int = 5, mean: float = 0.98, sd: float = 0.001) -> pd.Series:
    """Return `n` made-up values with seeds 1 to n as index."""
    return pd.Series(np.random.default_rng(seed).normal(mean, sd, n), index=range(1, n + 1))


def runs(cells: dict[str, list[float | None]], **columns: object) -> pd.DataFrame:
    """Return a frame with one run per value (seeds 1, 2, ...); None stands for a failed run."""
    rows = []
    for label, values in cells.items():
        for seed, value in enumerate(values, start=1):
            row = {
                "experiment": "activation",
                "dataset": "toy",
                "model": "neurons",
                "label": label,
                "seed": seed,
            }
            row |= {"status": "failed" if value is None else "completed", "test_auc": value}
            row |= {"test_logloss": None if value is None else 1 - value, "num_epochs": 10, "best_epoch": 8}
            rows.append(row | {"epoch_seconds": 2.0, "parameters": 100, **columns})
    return pd.DataFrame(rows)


# --- intervals and tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_summary_is_the_t_interval(seed: int) -> None:
    x = sample(seed)
    low, high = reference.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=reference.sem(x))
    found = stats.summary(x)
    np.testing.assert_allclose([found.value, found.sd, found.low, found.high], [x.mean(), x.std(), low, high])
    assert found.n == 5
    assert found.p is None


def test_summary_of_few_values() -> None:
    assert stats.summary([]).n == 0
    single = stats.summary([0.5, math.nan])
    assert (single.value, single.n) == (0.5, 1)
    assert math.isnan(single.low)
    assert math.isnan(single.sd)


@pytest.mark.parametrize("n", [4, 5, 10])
def test_paired_is_the_paired_t_test(n: int) -> None:
    left, right = sample(1, n), sample(2, n)
    expected = reference.ttest_rel(left, right)
    found = stats.paired(left, right)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.interval, [interval.low, interval.high])


def test_three_seeds_have_an_interval_and_no_test() -> None:
    found = stats.paired(sample(1, 3), sample(2, 3))
    assert found.p is None
    assert found.low < found.value < found.high


def test_pairs_meet_on_common_seeds_only() -> None:
    left, right = sample(1, 6).drop(2), sample(2, 6).drop(5)
    right[6] = math.nan
    kept = [1, 3, 4]
    found = stats.paired(left, right)
    assert found.n == 3
    assert found.value == pytest.approx((left[kept] - right[kept]).mean())
    assert stats.paired(left[[1]], right[[3]]).n == 0


def test_differences_without_spread() -> None:
    same = stats.paired(sample(1), sample(1))
    assert (same.value, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)
    assert verdict(same.interval, p=same.p) == Verdict("equivalent", True)
    assert stats.one_sample([0.5] * 4).p == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_a_constant_on_both_sides_changes_nothing(seed: int) -> None:
    left, right = sample(seed), sample(seed + 100)
    plain, moved = stats.paired(left, right), stats.paired(left + 0.25, right + 0.25)
    np.testing.assert_allclose([moved.value, *moved.interval], [plain.value, *plain.interval], atol=1e-12)
    assert moved.p == pytest.approx(plain.p, rel=1e-6)


# --- Holm --------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_holm_leaves_untested_out_of_the_family() -> None:
    assert stats.holm([None, 0.02, None, 0.04]) == [None, pytest.approx(0.04), None, pytest.approx(0.04)]


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_monotone_and_never_lowers(seed: int) -> None:
    p = list(np.random.default_rng(seed).uniform(size=12))
    found = [q for q in stats.holm(p) if q is not None]
    assert all(a <= b <= 1 for a, b in zip(p, found, strict=True))
    assert sorted(found) == [found[i] for i in np.argsort(p)]
    shuffled = np.random.default_rng(seed).permutation(12)
    assert stats.holm([p[i] for i in shuffled]) == pytest.approx([found[i] for i in shuffled])


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.001, 0.003), Verdict("reproduced")),
        ((-0.003, -0.001), Verdict("contradicted")),
        ((-0.0004, 0.0004), Verdict("equivalent", True)),
        ((-MARGIN, MARGIN), Verdict("equivalent", True)),
        ((-0.0004, 0.0006), Verdict("undecided")),
        ((0.0, 0.001), Verdict("undecided")),  # touching 0 does not exclude it
        ((0.0001, 0.0004), Verdict("reproduced", True)),
        ((-0.0004, -0.0001), Verdict("contradicted", True)),
        ((math.nan, math.nan), Verdict("undecided")),
    ],
)
def test_verdict_boundaries(interval: tuple[float, float], expected: Verdict) -> None:
    assert verdict(interval) == expected


def test_verdict_after_adjustment_and_against_a_threshold() -> None:
    assert verdict((0.001, 0.003), p=0.2).name == "undecided"
    assert verdict((0.0001, 0.0004), p=0.2) == Verdict("equivalent", True)
    assert verdict((0.011, 0.03), against=0.01).name == "reproduced"
    assert verdict((0.002, 0.009), against=0.01).name == "contradicted"
    with pytest.raises(SettingError, match="direction is 2"):
        verdict((0, 1), 2)


@pytest.mark.parametrize("seed", range(50))
def test_swapping_sides_or_direction_flips_the_verdict(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spread = 10 ** rng.uniform(-5, -2)
    left, right = sample(seed, sd=spread), sample(seed + 1000, mean=0.98 + rng.normal(0, 0.001), sd=spread)
    there, back = stats.paired(left, right), stats.paired(right, left)
    forth = verdict(there.interval, p=there.p)
    flipped = {"reproduced": "contradicted", "contradicted": "reproduced"}.get(forth.name, forth.name)
    assert verdict(back.interval, p=back.p) == Verdict(flipped, forth.negligible)
    assert verdict(there.interval, -1, p=there.p) == Verdict(flipped, forth.negligible)


def test_no_gain() -> None:
    assert stats.no_gain((-0.002, 0.0004)).name == "reproduced"
    assert stats.no_gain((-0.002, 0.0005)).name == "undecided"
    assert stats.no_gain((0.001, 0.002)).name == "contradicted"
    assert stats.no_gain((0.0001, 0.0004)) == Verdict("contradicted", True)
    assert stats.no_gain((-0.0004, 0.002), -1).name == "reproduced"  # a loss that may rise, hardly fall
    assert stats.no_gain((math.nan, math.nan)).name == "undecided"


def test_combine() -> None:
    good, bad, tiny = Verdict("reproduced"), Verdict("contradicted"), Verdict("contradicted", True)
    assert stats.combine([good, good]).name == "reproduced"
    assert stats.combine([good, bad]) == bad
    assert stats.combine([good, tiny]) == tiny
    assert stats.combine([good, Verdict("equivalent", True)]) == Verdict("undecided")
    assert stats.combine([Verdict("equivalent", True)] * 2) == Verdict("equivalent", True)


# --- shares, ranks, noise ----------------------------------------------------------------------------------


def test_share_counts_at_two_decimals_of_a_percent() -> None:
    left = pd.DataFrame([[0.81404, 0.81404], [0.81401, 0.81403], [0.8130, 0.8132]], columns=[1, 2])
    right = pd.DataFrame([[0.81396, 0.81396], [0.81396, 0.81397], [0.8140, 0.8140]], columns=[1, 2])
    found = stats.win_share(left, right)
    assert (found.better, found.tied, found.worse) == (0, 2, 1)  # 81.40 twice, 81.31 against 81.40
    right.loc[0] = 0.8139
    assert stats.win_share(left, right).better == 1
    flipped = stats.win_share(left, right, direction=-1)
    assert (flipped.better, flipped.worse) == (1, 1)
    assert sum(found.tested.values()) == sum(found.untested.values()) == 3


def test_share_interval_knows_noise_from_effect() -> None:
    rng = np.random.default_rng(0)
    right = pd.DataFrame(rng.normal(0.98, 1e-5, (10, 5)))
    sure = stats.win_share(right + 0.01, right)
    assert (sure.share.value, sure.share.interval) == (1.0, (1.0, 1.0))
    assert sure.tested["better"] == sure.untested["better"] == 10
    noisy = stats.win_share(pd.DataFrame(rng.normal(0.98, 0.01, (10, 5))), right)
    assert noisy.share.low < noisy.share.value < noisy.share.high
    assert stats.win_share(right + 0.01, right) == sure  # the same draws every time


def test_an_interval_of_a_share_holds_the_share() -> None:
    """Means just below a tie turn in half of the draws, and always the same way."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.01, (40, 5))
    left = pd.DataFrame(0.9 - 2e-4 + noise - noise.mean(axis=1, keepdims=True))
    found = stats.win_share(left, pd.DataFrame(np.full((40, 5), 0.9))).share
    assert found.value == found.low == 0.0 and 0.1 < found.high < 1.0
    again = stats.win_share(left, left - 0.01).share
    assert again.interval == (1.0, 1.0), "the noise that both sides share cancels: one draw of seeds is for both"


def test_share_with_missing_seeds() -> None:
    left = pd.DataFrame({1: [0.9, 0.9], 2: [0.9, math.nan], 3: [0.9, math.nan]})
    right = pd.DataFrame({1: [0.8, 0.8], 2: [0.8, 0.99], 3: [0.8, 0.99]})
    found = stats.win_share(left, right)
    assert (found.better, found.share.n) == (2, 1)  # the second item has one common seed: no interval
    assert math.isnan(found.share.low)
    with pytest.raises(SettingError, match="No item"):
        stats.win_share(left[[1]], right[[2]])


@pytest.mark.parametrize("seed", range(5))
def test_rank_agreement_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = pd.Series(rng.integers(0, 8, 20).astype(float))  # with ties
    y = x + pd.Series(rng.normal(0, 3, 20)).round()
    found = stats.rank_agreement(x, y, draws=50)
    assert found["spearman"].value == pytest.approx(reference.spearmanr(x, y).statistic)
    assert found["kendall"].value == pytest.approx(reference.kendalltau(x, y).statistic)
    assert found["kendall"].low <= found["kendall"].value <= found["kendall"].high


def test_rank_agreement_resamples_items_and_seeds() -> None:
    rng = np.random.default_rng(3)
    truth = pd.Series(np.arange(12.0), index=[f"T{i}" for i in range(12)])
    noisy = pd.DataFrame({s: truth + rng.normal(0, 6, 12) for s in range(5)})
    found, again = stats.rank_agreement(noisy, truth), stats.rank_agreement(noisy, truth)
    assert found == again
    fixed = stats.rank_agreement(noisy.mean(axis=1), truth)
    assert fixed["spearman"].value == found["spearman"].value
    assert found["spearman"].sd > fixed["spearman"].sd  # the seeds' noise is in the interval too
    assert stats.rank_agreement(truth, -truth)["kendall"].interval == (-1.0, -1.0)
    assert stats.rank_agreement(truth, truth.drop("T3"))["kendall"].n == 11
    with pytest.raises(SettingError, match="needs 3 items"):
        stats.rank_agreement(truth, truth[["T1", "T2"]])


def test_noise_is_the_pooled_sd() -> None:
    values = pd.DataFrame([[1.0, 2.0, 3.0], [5.0, 9.0, math.nan], [4.0, math.nan, math.nan]])
    found = stats.noise(values)
    assert found.sd == pytest.approx(math.sqrt((2 * 1.0 + 1 * 8.0) / 3))
    assert (found.degrees, found.cells) == (3, 2)
    assert math.isnan(stats.noise(values[[0]]).sd)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_smallest_difference_has_its_power(n: int) -> None:
    shift = stats.smallest_difference(1.0, n) * math.sqrt(n)
    bound = reference.t.ppf(0.975, n - 1)
    power = reference.nct.sf(bound, n - 1, shift) + reference.nct.cdf(-bound, n - 1, shift)
    assert power == pytest.approx(0.8, abs=1e-3)
    assert stats.smallest_difference(3.0, n) == pytest.approx(3 * stats.smallest_difference(1.0, n))
    with pytest.raises(SettingError, match="at least 2"):
        stats.smallest_difference(1.0, 1)


# --- tables ------------------------------------------------------------------------------------------------


def test_cell_table_counts_failed_runs_and_sorts_naturally() -> None:
    table = tables.cell_table(runs({"T10.none": [0.9, 0.8, None], "T9.none": [0.7], "T2.none": [None]}))
    assert list(table.index) == ["T2.none", "T9.none", "T10.none"]
    assert list(table["seeds"]) == [0, 1, 2]
    assert list(table["failed"]) == [1, 0, 1]
    expected = stats.summary([0.9, 0.8])
    row = table.loc["T10.none"]
    assert [row["test_auc"], row["test_auc_sd"], row["test_auc_low"]] == [
        expected.value,
        expected.sd,
        expected.low,
    ]
    assert row["test_logloss"] == pytest.approx(0.15)
    assert (row["num_epochs"], row["best_epoch"], row["epoch_seconds"]) == (10, 8, 2.0)
    assert tables.cell_table(pd.DataFrame()).empty


def test_paired_table() -> None:
    left, right = list(sample(1)), list(sample(2))
    frame = runs({"T1.none": left, "T1.relu": right, "T2.none": [0.9] * 5, "T2.relu": [0.9] * 5, "T3.none": left})
    table = tables.paired_table(frame, tables.format_pairs(["T1", "T2", "T3"]))
    assert table.loc["T1", "p"] == pytest.approx(reference.ttest_rel(left, right).pvalue)
    assert list(table["p_holm"][:2]) == pytest.approx(stats.holm(list(table["p"][:2])))
    assert table.loc["T1", "difference"] == pytest.approx(np.mean(left) - np.mean(right))
    assert list(table["outcome"][["T2", "T3"]]) == ["equivalent", "not measured"]
    assert list(table["seeds"]) == [5, 5, 0]


def test_paired_table_knows_that_a_lower_loss_is_better() -> None:
    frame = runs({"A": [0.90, 0.91, 0.92, 0.90], "B": [0.80, 0.82, 0.81, 0.81]})
    for metric, sign in (("test_auc", 1), ("test_logloss", -1)):
        row = tables.paired_table(frame, {"A-B": ("A", "B")}, metric).loc["A-B"]
        assert row["outcome"] == "better"
        assert row["difference"] * sign > 0
        assert row["left_mean"] - row["right_mean"] == pytest.approx(row["difference"])


def test_by_seed_refuses_two_runs_of_one_seed() -> None:
    twice = pd.concat([runs({"A": [0.9]}, **{"protocol.l2": 0.1}), runs({"A": [0.8]}, **{"protocol.l2": 0.01})])
    with pytest.raises(RecordError, match=r"'A' has 2 completed runs with seed 1. They differ in protocol.l2"):
        tables.by_seed(twice)
    with pytest.raises(SettingError, match="Did you mean 'test_auc'"):
        tables.by_seed(runs({"A": [0.9]}), "tset_auc")


def test_paper_table_has_the_papers_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    table = tables.qnn_table1()
    assert len(table) == 64
    formats = [f"T{i}" for i in range(1, 26)]
    none, relu = (table.loc[[f"{f}.{a}" for f in formats], "paper_auc_pct"].to_numpy() for a in ("none", "relu"))
    assert [(none > relu).sum(), (none == relu).sum(), (none < relu).sum()] == [16, 2, 7]
    assert table.loc["T19.none", "paper_auc"] == pytest.approx(0.8156)
    agree = (table["paper_auc_pct"] - table["logged_auc_pct"]).abs().max()
    assert agree <= 0.0101
    joined = tables.join_paper(tables.cell_table(runs({"T9.none": [0.9], "T3.none.bn": [0.8]})))
    assert joined["paper_epochs"].to_dict() == {
        "T9.none": 16.0,
        "T3.none.bn": pytest.approx(math.nan, nan_ok=True),
    }
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    with pytest.raises(DataError, match="published figures"):
        tables.qnn_table1()


def test_published_curve() -> None:
    curve = pd.read_csv(papers_dir() / "qnn_alpha_frappe_log.csv", index_col="epoch")
    assert len(curve) == 22
    assert curve["valid_auc"].idxmax() == 20


# --- size --------------------------------------------------------------------------------------------------


def test_relative_improvement_is_the_papers() -> None:
    """DS-MLP's rows of Table 4 of its paper, with FmFM as the base."""
    found = [stats.relative_improvement(*pair) for pair in [(0.8152, 0.8054), (0.7670, 0.7599), (0.9752, 0.9482)]]
    assert [round(value, 2) for value in found] == [3.21, 2.73, 6.02]
    assert stats.relative_improvement(0.8, 0.8) == 0


def curved(seeds: int = 4, bend: float = -0.002) -> pd.DataFrame:
    """Return values over sizes that follow a parabola in log2 of the size, with an own height for each seed."""
    x = np.log2([100.0, 200.0, 400.0, 800.0, 1200.0])
    rows = {seed: 0.7 + 0.001 * seed + 0.03 * x + bend * x**2 for seed in range(1, seeds + 1)}
    return pd.DataFrame(rows, index=[100, 200, 400, 800, 1200])


def test_a_polynomial_is_found_again() -> None:
    factors = stats.fit_by_seed(curved(), 2)
    assert list(factors.index) == [0, 1, 2] and list(factors.columns) == [1, 2, 3, 4]
    np.testing.assert_allclose(factors.loc[2], -0.002, atol=1e-9)
    np.testing.assert_allclose(factors.loc[1], 0.03, atol=1e-8)
    assert stats.fit_by_seed(curved(bend=0.0)).loc[1].to_numpy() == pytest.approx(0.03), "a doubling brings the slope"
    line = curved()
    x = np.log2(line.index.to_numpy(dtype=float))
    assert stats.fit_by_seed(line).loc[1, 1] == pytest.approx(reference.linregress(x, line[1]).slope)


def test_a_fitted_curve_has_the_interval_of_its_seeds() -> None:
    values = curved()
    found = stats.fitted_curve(values, [100, 300, 1200])
    assert list(found.index) == [100, 300, 1200]
    at_100 = stats.summary(values.loc[100])
    np.testing.assert_allclose(found.loc[100], [at_100.value, at_100.low, at_100.high], atol=1e-9)
    assert math.isnan(stats.fitted_curve(values[[1]], [100]).loc[100, "low"]), "one seed has no interval"


def test_seeds_that_lack_a_size_are_left_out_of_a_fit() -> None:
    values = curved()
    values.loc[800, 2] = math.nan
    assert list(stats.fit_by_seed(values).columns) == [1, 3, 4]
    with pytest.raises(SettingError, match="3 sizes, got 2"):
        stats.fit_by_seed(values.loc[[100, 200]], 2)
    assert math.isnan(stats.fitted_curve(values[[2]], [100]).loc[100, "value"])
