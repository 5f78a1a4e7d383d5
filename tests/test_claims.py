"""Claims: what the file says, and verdicts on made-up runs where the right answer is known."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctrlib.bench import latency
from ctrlib.errors import RecordError, SettingError
from ctrlib.lab import boundaries, case_study, fidelity, overall, passes, streams, tables
from ctrlib.lab import headline as headline_rooms
from ctrlib.lab import judged as judged_rooms
from ctrlib.lab.claims import Claim, comparisons, evaluate_claims, expand, load_claims, paper_effect, printed_effects
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.paths import root

FORMATS = [f"T{i}" for i in range(1, 26)]


def runs(means: dict[str, float], seeds: int = 5, sd: float = 1e-4, **extra: Any) -> pd.DataFrame:
    """Return a frame of completed runs: each label's mean plus noise of its own."""
    rng = np.random.default_rng(7)
    rows = []
    for label, mean in means.items():
        for seed in range(1, seeds + 1):
            auc = mean + rng.normal(0, sd)
            row = {"experiment": "activation", "dataset": "toy", "label": label, "seed": seed}
            row |= {"status": "completed", "test_auc": auc, "test_logloss": 1 - auc, "best_epoch": 10, "num_epochs": 12}
            rows.append(row | extra)
    return pd.DataFrame(rows)


def claim(kind: str = "difference", **values: Any) -> Claim:
    """Return a claim about A against B."""
    told = {"id": "a", "paper": "p", "section": "s", "sentence": "A beats B", "reading": "r"}
    known = {"experiment": "activation", "kind": kind, "pairs": (("A", "B"),), "datasets": ("criteo_x4",)}
    return Claim(**{**told, **known, **values})


def judged(frame: pd.DataFrame, asked: Claim, dataset: str = "toy") -> pd.Series:
    """Return the row of one claim."""
    return evaluate_claims(frame, "activation", dataset, [asked]).iloc[0]


# --- the file ----------------------------------------------------------------------------------------------


def test_the_papers_own_table_gives_what_the_paper_says() -> None:
    effects = {c.id: paper_effect(c) for c in load_claims()}
    expected = {
        "share-without-relu": 0.64,
        "mlp-collapses": 0.0205,
        "losses-minimal": 0.00205 - 0.0008,
        "losses-minimal-logloss": 0.00187 - 0.0052,  # negative: the table fails this reading
        "all-above-mlp-without-relu": 0.8122 - 0.7932,
        "all-above-mlp-with-relu": 0.8122 - 0.8137,
        "t19-best": 0.0003,
        "t19-improves-longest": 10.0,
        "more-parameters-no-gain": -0.0003,
        "sum-beats-concatenation": 0.0020,
        "residual-matters": 0.0004,
        "training-costs-either-way": -4.0,  # T4; T3 has 16 epochs with against 31 without
        "several-far-above-mlp": 0.8150 - 0.8137,
    }
    assert {name: effects[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_printed_effects_are_read_from_the_table_that_the_section_names() -> None:
    effects = {c.id: printed_effects(c) for c in load_claims()}
    expected = {  # worked out by hand from the printed tables
        "se-helps": ("KKBox", 0.8576 - 0.8557),
        "every-part-helps": ("ML-1M", 0.9087 - 0.9079),  # the weakest of four
        "plugging-in-beats-se": ("Frappe", 0.0007),
        "heads-improve": ("KKBox", 0.8573 - 0.8574),
        "latency-below-final": ("iPinYou", 0.23 - 0.44),  # with four heads, the best there
        "se-costs-less-than-twice": ("Criteo", math.log2(328 / 258)),
        "qnn-alpha-leads": ("Criteo", 0.8163 - 0.8155),
        "gain-with-every-teacher": ("Avazu", 0.0003),
        "student-matters": ("Criteo", 0.8152 - 0.8137),
        "ds-mlp-latency-is-comparable": ("Criteo", math.log2(59.43 / 25.56)),
        "mlp-collapses": ("Criteo", 0.0205),
    }
    assert {name: effects[name][data] for name, (data, _) in expected.items()} == pytest.approx(
        {name: effect for name, (_, effect) in expected.items()}, abs=1e-9
    )
    assert "Criteo" not in effects["every-part-helps"]  # one of the four networks did not train there
    assert effects["high-order-beats-second"] == {} == effects["teacher-saturates"]


def labels_of(chapter: str) -> set[str]:
    """Return the keys of all constants that a chapter writes as dicts, where its cells have their labels."""
    scope: dict[str, Any] = {**vars(headline_rooms), **vars(judged_rooms), **vars(passes)}
    found: set[str] = set()
    for node in ast.parse((root() / "chapters" / f"{chapter}.py").read_text(encoding="utf8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            try:
                exec(compile(ast.Module([node], []), chapter, "exec"), scope)
            except NameError:  # needs what the chapter has computed by then
                continue
            value = scope[node.targets[0].id]
            for part in [value, *value.values()] if isinstance(value, dict) else []:
                found |= set(part) if isinstance(part, dict) else set()
    return found


def test_a_claim_may_compare_other_cells_on_another_data_set() -> None:
    asked = claim(pairs_on={"toy": (("C", "B"),)})
    found = runs({"A": 0.80, "B": 0.82, "C": 0.85})
    assert judged(found, asked)["compared"].endswith("C - B")
    elsewhere = judged(found.assign(dataset="other"), asked, "other")
    assert elsewhere["compared"].endswith("A - B") and elsewhere["outcome"] == "contradicted"
    with pytest.raises(SettingError, match="pairs of two labels"):
        claim(pairs_on={"toy": ()})


def test_the_file_uses_labels_of_the_experiment() -> None:
    names = [*(f"T{i}" for i in range(1, 31)), "MLP", "CrossNetV2"]
    known = {"activation": {f"{name}.{act}" for name in names for act in ("none", "relu")}}
    known["activation"] |= {f"T{i}.{act}.bn" for i in (3, 4, 5, 7, 8) for act in ("none", "relu")}
    known["activation"] |= {f"{label}.patient" for label in known["activation"]}
    known["boundaries"] = {*boundaries.PANELS, *boundaries.with_losses(["T19"])}
    known["latency"] = {f"{mode}.{heads}" for mode in latency.MODES for heads in latency.HEADS}
    known["latency"].add("FINAL")  # named so that the claim shows as not measured
    known["overall"] = set(overall.SYSTEMS)
    known["se-cost"] = set(passes.TIMED)
    ablations = labels_of("05_qnn_alpha") | {"QNN-alpha"}
    for name, experiment in EXPERIMENTS.items():
        if name not in known:
            known[name] = labels_of(experiment.chapter) | ablations
    known["fidelity"] |= {*fidelity.PLACES, *fidelity.OTHERS}
    known["case-study"] |= set(case_study.PLACES)
    known["teachers"] |= set(judged_rooms.STUDENTS)
    known["scaling"] |= {*judged_rooms.STUDENT_SIZES, *judged_rooms.TEACHER_SIZES}
    for found in load_claims():
        for place in ("", *found.pairs_on):
            assert set(found.on(place).ours().labels()) <= known[found.experiment], found.id
    as_logged = next(c for c in load_claims() if c.id == "share-as-logged")
    assert {"T3.none", "T3.relu.bn"} <= set(as_logged.ours().labels())
    assert "T3.relu.bn" not in as_logged.labels()


def test_metrics_of_the_two_stages_are_scores_or_measured() -> None:
    part = {"auc": 0.8, "logloss": 0.4}
    agreement = {"correlation": 0.9, "squared": 0.01}
    one = {"label": "A", "seed": 1, "teacher": part, "streams": {"main": part, "parallel": part}}
    one |= {"share": {"main": 0.7, "parallel": 0.3}, "agreement": {"main": agreement, "between": agreement}}
    one["teacher_streams"] = {"explicit_share": 0.2, "explicit_correlation": 0.5, "implicit_correlation": 0.6}
    one |= {"interactions": {"likeness": {}}, "errors": {}, "tails": {"extreme": 0.1}}
    measured = streams.columns({"align/toy/A/seed-1.json": one}).iloc[0]
    assert measured["larger_share"] == 0.7
    assert measured["evened_share"] == pytest.approx(0.8 - 0.7)
    assert measured["explicit_minus_implicit"] == pytest.approx(-0.1)
    for found in load_claims():
        if found.experiment in ("distil", "align"):
            assert found.metric in {"test_auc", "test_logloss", "parameters", *measured.index}, found.id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[claim]]\nid = "x"\nknd = "share"', "Unknown key in claim 'x': 'knd'. Did you mean 'kind'?"),
        ('[[claim]]\nid = "x"\nkind = "share"', "Claim 'x' is incomplete"),
        ("[[claim", "cannot be read"),
    ],
)
def test_a_wrong_file_gets_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(SettingError) as caught:
        load_claims(path)
    assert message in str(caught.value)


def test_an_id_stands_once(tmp_path: Path) -> None:
    entry = '[[claim]]\nid = "x"\npaper = "p"\nsection = "1"\nsentence = "s"\nreading = "r"\n'
    entry += 'experiment = "e"\nkind = "difference"\npairs = [["A", "B"]]\n'
    path = tmp_path / "claims.toml"
    path.write_text(entry)
    assert load_claims(path)[0].pairs == (("A", "B"),)
    path.write_text(entry * 2)
    with pytest.raises(SettingError, match="more than one claim called x"):
        load_claims(path)


def test_wrong_claims_are_refused() -> None:
    known = ({"kind": "shares"}, {"direction": "hihger"}, {"pairs": ()}, {"kind": "loss-ratio"})
    for wrong in (*known, {"kind": "level"}, {"pairs": (("A", ""),)}):
        with pytest.raises(SettingError, match="'a'"):
            claim(**wrong)
    with pytest.raises(SettingError, match="Did you mean 'activation'"):
        evaluate_claims(pd.DataFrame(), "activatoin", "toy")


def test_expand() -> None:
    assert expand(["T1..T3", "MLP"], skip=["T2"]) == ["T1", "T3", "MLP"]
    assert expand(["T9..T11"]) == ["T9", "T10", "T11"]


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "at_home", "elsewhere"),
    [
        (0.01, "reproduced", "transfers to toy"),
        (-0.01, "contradicted", "does not transfer to toy"),
        (0.0, "equivalent", "equivalent"),
    ],
)
def test_difference(gap: float, at_home: str, elsewhere: str) -> None:
    frame = runs({"A": 0.9 + gap, "B": 0.9})
    row = judged(frame, claim())
    assert (row["outcome"], row["verdict"], row["seeds"]) == (at_home, elsewhere, 5)
    assert row["low"] <= row["effect"] <= row["high"]
    assert row["effect"] == pytest.approx(gap, abs=5e-4)
    assert judged(frame, claim(datasets=("toy",)))["verdict"] == at_home
    swapped = {"A": "B", "B": "A"}
    mirror = judged(frame.assign(label=frame["label"].map(swapped)), claim())["outcome"]
    assert mirror == {"reproduced": "contradicted", "contradicted": "reproduced"}.get(at_home, at_home)
    assert judged(frame, claim(direction="lower"))["outcome"] == mirror


def test_noise_is_undecided_and_one_seed_decides_nothing() -> None:
    assert judged(runs({"A": 0.9, "B": 0.9}, sd=0.01), claim())["verdict"] == "undecided"
    single = judged(runs({"A": 0.95, "B": 0.9}, seeds=1), claim())
    assert (single["verdict"], single["seeds"]) == ("undecided", 1)
    assert np.isnan(single["low"])


def test_three_seeds_decide_by_interval_without_a_test() -> None:
    row = judged(runs({"A": 0.95, "B": 0.9}, seeds=3), claim())
    assert row["outcome"] == "reproduced"
    assert np.isnan(row["p_holm"])


def test_a_small_sure_effect_is_flagged() -> None:
    row = judged(runs({"A": 0.9003, "B": 0.9}, sd=1e-6), claim())
    assert (row["outcome"], bool(row["negligible"])) == ("reproduced", True)


def test_threshold_is_what_the_effect_is_tested_against() -> None:
    frame = runs({"A": 0.905, "B": 0.9})
    assert judged(frame, claim(threshold=0.001))["outcome"] == "reproduced"
    row = judged(frame, claim(threshold=0.01))
    assert row["outcome"] == "contradicted"
    assert row["effect"] == pytest.approx(0.005, abs=5e-4)  # shown as it is, not less the threshold


def test_one_pair_contradicts_a_claim_about_all() -> None:
    pairs = (("A", "B"), ("C", "B"))
    both = claim(pairs=pairs)
    assert judged(runs({"A": 0.91, "B": 0.9, "C": 0.92}), both)["outcome"] == "reproduced"
    row = judged(runs({"A": 0.91, "B": 0.9, "C": 0.89}), both)
    assert row["outcome"] == "contradicted"
    assert "weakest C - B" in row["compared"]
    assert judged(runs({"A": 0.91, "B": 0.9, "C": 0.9}), both)["outcome"] == "undecided"


def test_the_effect_shown_is_of_a_pair_that_decides() -> None:
    frame = runs({"A": 0.92, "B": 0.9, "C": 0.901})
    noisy = (frame["label"] == "A") & (frame["seed"] == 1)
    frame.loc[noisy, "test_auc"] -= 0.09  # still ahead of C on average
    row = judged(frame, claim(pairs=(("A", "B"), ("C", "B"))))
    assert row["outcome"] == "undecided"
    assert "weakest A - B" in row["compared"]


def test_comparisons_are_holm_adjusted_within_the_claim() -> None:
    frame = runs({"A": 0.901, "B": 0.9, "C": 0.9005}, sd=3e-4)
    table = comparisons(claim(pairs=(("A", "B"), ("C", "B"))), tables.by_seed(frame))
    low, high = sorted(table["p"])
    assert sorted(table["p_holm"]) == pytest.approx([min(1, 2 * low), max(min(1, 2 * low), high)])


def test_rank_first() -> None:
    asked = claim("rank-first", pairs=(("A", "B"), ("A", "C")))
    best = judged(runs({"A": 0.92, "B": 0.9, "C": 0.91}), asked)
    assert best["outcome"] == "reproduced"
    assert "rank of A: 1 of 3" in best["compared"]
    assert best["effect"] == pytest.approx(0.01, abs=5e-4)  # the lead over the runner-up
    beaten = judged(runs({"A": 0.9, "B": 0.89, "C": 0.91}), asked)
    assert beaten["outcome"] == "contradicted"
    assert "rank of A: 2 of 3" in beaten["compared"]


def test_a_rank_is_over_common_seeds() -> None:
    asked = claim("rank-first", pairs=(("A", "B"), ("A", "C")))
    frame = runs({"A": 0.92, "B": 0.9, "C": 0.91})
    bad = frame[frame["label"] == "A"].head(1).assign(seed=99, test_auc=0.1)
    assert "rank of A: 1 of 3" in judged(pd.concat([frame, bad]), asked)["compared"]
    half = frame["seed"] <= frame["seed"].median()
    apart = frame[(frame["label"] == "A") | ((frame["label"] == "B") == half)]
    assert "rank" not in judged(apart, asked)["compared"], "no seed in common, no rank"


def test_loss_ratio() -> None:
    asked = claim("loss-ratio", reference=("M.relu", "M.none"), factor=0.1, margin=0.0)
    means = {"M.relu": 0.95, "M.none": 0.90, "B": 0.94}
    small = judged(runs(means | {"A": 0.941}), asked)  # loses 0.001 of the allowed 0.005
    assert small["outcome"] == "reproduced"
    assert small["effect"] == pytest.approx(0.004, abs=5e-4)
    assert judged(runs(means | {"A": 0.96}), asked)["outcome"] == "contradicted"
    assert judged(runs(means | {"A": 0.92}), asked)["outcome"] == "reproduced"  # a gain is no loss


def test_no_gain() -> None:
    asked = claim("no-gain")
    assert judged(runs({"A": 0.9, "B": 0.9}), asked)["outcome"] == "reproduced"
    assert judged(runs({"A": 0.89, "B": 0.9}), asked)["outcome"] == "reproduced"
    assert judged(runs({"A": 0.91, "B": 0.9}), asked)["outcome"] == "contradicted"
    assert judged(runs({"A": 0.9, "B": 0.9}, sd=0.01), asked)["outcome"] == "undecided"


@pytest.mark.parametrize(("wins", "outcome"), [(18, "reproduced"), (5, "contradicted")])
def test_share(wins: int, outcome: str) -> None:
    means = {f"{f}.relu": 0.9 for f in FORMATS}
    means |= {f"{f}.none": 0.91 if i < wins else 0.89 for i, f in enumerate(FORMATS)}
    asked = claim("share", pairs=tuple((f"{f}.none", f"{f}.relu") for f in FORMATS), threshold=0.5)
    row = judged(runs(means), asked)
    assert (row["outcome"], row["effect"]) == (outcome, wins / 25)
    assert f"{wins} better, 0 tied, {25 - wins} worse of 25" in row["compared"]
    assert judged(runs(means, seeds=1), asked)["outcome"] == "undecided"


def test_level() -> None:
    asked = claim("level", pairs=(("A", ""),), metric="share", threshold=0.5)
    frame = runs({"A": 0.9, "B": 0.9})
    row = judged(frame.assign(share=frame["test_auc"] - 0.2), asked)
    assert (row["outcome"], row["compared"]) == ("reproduced", "share: A")
    assert row["effect"] == pytest.approx(0.7, abs=5e-4) and row["low"] > 0.5
    assert judged(frame.assign(share=frame["test_auc"] - 0.5), asked)["outcome"] == "contradicted"
    lower = claim("level", pairs=(("A", ""), ("B", "")), metric="share", threshold=0.5, direction="lower")
    row = judged(frame.assign(share=frame["test_auc"] - 0.5), lower)
    assert row["outcome"] == "reproduced" and "2 cells (2 reproduced)" in row["compared"]
    assert judged(runs({"A": 0.9}).assign(share=0.2), lower)["missing"] == "B"


def test_a_level_names_its_cells_in_the_file(tmp_path: Path) -> None:
    entry = '[[claim]]\nid = "x"\npaper = "p"\nsection = "1"\nsentence = "s"\nreading = "r"\nexperiment = "e"\n'
    path = tmp_path / "claims.toml"
    path.write_text(entry + 'kind = "level"\ncells = ["A", "B"]\nthreshold = 0.5\n')
    (found,) = load_claims(path)
    assert (found.labels(), found.threshold) == (["A", "B"], 0.5)


def test_seeds_are_those_of_the_pair_shown() -> None:
    frame = runs({"A": 0.91, "B": 0.9, "C": 0.89, "D": 0.93})
    frame = frame[(frame["label"] != "D") | (frame["seed"] <= 2)]
    row = judged(frame, claim(pairs=(("A", "B"), ("C", "B"), ("D", "B"))))
    assert "weakest C - B" in row["compared"]
    assert (row["seeds"], row["fewest"], row["most"], row["pairs"]) == (5, 2, 5, 3)
    share = judged(frame, claim("share", pairs=(("A", "B"), ("D", "B"))))
    assert (share["seeds"], share["fewest"], share["most"]) == (2, 2, 5)
    assert share["note"] == "by test 2 better, 0 worse"


def test_an_interval_that_the_adjusted_test_does_not_follow_is_marked() -> None:
    frame = runs({"A": 0.9, "B": 0.9, "C": 0.9}, sd=0.0)
    above = dict(zip(range(1, 6), (0.002, 0.0002, 0.0015, 0.003, 0.0007), strict=True))  # p about 0.04
    frame.loc[frame["label"] == "A", "test_auc"] += frame["seed"].map(above)
    alone = judged(frame, claim())
    assert (alone["outcome"], alone["note"]) == ("reproduced", "")
    row = judged(frame, claim(pairs=(("A", "B"), ("A", "C"))))
    assert row["outcome"] == "undecided" and row["low"] > 0
    assert row["note"] == "excludes zero, not after adjustment for 2 tests"
    near = claim(pairs=(("A", "B"), ("A", "C")), threshold=0.0005)
    assert judged(frame, near)["note"] == "", "the interval holds this threshold"


def test_a_measure_that_does_not_vary_decides_nothing() -> None:
    asked = claim(metric="mended", margin=0.01)
    cut_off = runs({"A": 0.9, "B": 0.9}).assign(mended=lambda frame: (frame["seed"] == 3) * 0.02)
    row = judged(cut_off, asked)
    assert (row["outcome"], row["effect"], row["note"]) == ("undecided", 0.0, "the measure does not vary here")
    varied = cut_off.assign(mended=cut_off["mended"] + 1e-4 * (cut_off["label"] == "A") * cut_off["seed"])
    assert judged(varied, asked)["note"] == ""
    twice = runs({"A": 0.9}).assign(parameters=100)
    twice = pd.concat([twice, twice.assign(label="B")])  # the same runs: equal, and of the same size
    for metric in ("test_auc", "test_logloss", "parameters"):
        row = judged(twice, claim(metric=metric))
        assert (row["outcome"], row["note"]) == ("equivalent", ""), metric


# --- networks that have not learned ---------------------------------------------------------------------------


def test_a_gap_between_two_networks_at_chance_is_missing() -> None:
    frame = runs({"A": 0.5, "B": 0.5, "C": 0.9, "D": 0.8})
    row = judged(frame, claim())
    assert (row["verdict"], row["missing"], row["at_chance"]) == ("not measured", "A with B", "A with B")
    assert row["compared"] == "both sides at chance: A with B" and row["seeds"] == 0
    in_loss = claim(metric="test_logloss", direction="lower")
    assert judged(frame, in_loss)["verdict"] == "not measured", "by the AUC of the runs, whatever the metric"
    assert judged(frame.assign(parameters=3), claim(metric="parameters"))["outcome"] == "equivalent"
    allowed = claim("loss-ratio", reference=("C", "D"))
    assert judged(frame, allowed)["verdict"] == "not measured", "no loss where nothing is learned is no small loss"
    assert judged(frame, claim("loss-ratio", pairs=(("C", "D"),), reference=("A", "B")))["verdict"] == "not measured"


def test_seeds_at_chance_are_left_out_one_by_one() -> None:
    frame = runs({"A": 0.91, "B": 0.9})
    frame.loc[frame["seed"] == 2, "test_auc"] = 0.5004
    row = judged(frame, claim())
    assert (row["outcome"], row["seeds"], row["note"]) == ("reproduced", 4, "")
    assert row["effect"] == pytest.approx(0.01, abs=5e-4)
    frame.loc[(frame["seed"] == 2) & (frame["label"] == "A"), "test_auc"] = 0.502
    assert judged(frame, claim())["seeds"] == 5, "a network a little above chance has learned a little"


def test_one_side_at_chance_stays_and_is_told() -> None:
    row = judged(runs({"A": 0.5, "B": 0.9}), claim())
    assert (row["outcome"], row["seeds"]) == ("contradicted", 5)
    assert row["note"] == "did not learn, AUC at chance: A in 5 seeds"
    once = runs({"A": 0.91, "B": 0.9})
    once.loc[(once["label"] == "A") & (once["seed"] == 2), "test_auc"] = 0.5
    assert judged(once, claim())["note"] == "did not learn, AUC at chance: A in 1 seed"


def test_pairs_at_chance_among_others() -> None:
    frame = runs({"A": 0.5, "B": 0.5, "C": 0.91, "D": 0.9})
    dead, better, worse = ("A", "B"), ("C", "D"), ("D", "C")
    upheld = judged(frame, claim(pairs=(dead, better)))
    assert (upheld["verdict"], upheld["missing"]) == ("not measured", "A with B"), "nobody knows of all pairs"
    against = judged(frame, claim(pairs=(dead, worse)))
    assert (against["outcome"], against["missing"]) == ("contradicted", "")
    assert against["note"] == "without A with B, both at chance" and against["pairs"] == 1
    share = judged(frame, claim("share", pairs=(dead, better), threshold=0.5))
    assert (share["outcome"], share["effect"], share["pairs"]) == ("reproduced", 1.0, 1)
    assert "1 better, 0 tied, 0 worse of 1" in share["compared"] and "without A with B" in share["note"]


# --- what is missing ---------------------------------------------------------------------------------------


def test_missing_cells_are_named_and_nothing_else_is_said() -> None:
    row = judged(runs({"A": 0.9}), claim())
    assert (row["verdict"], row["missing"], row["seeds"]) == ("not measured", "B", 0)
    assert np.isnan(row["effect"])
    assert row["compared"] == "no completed run: B"
    assert judged(pd.DataFrame(), claim())["missing"] == "A, B"


def test_a_metric_that_no_run_has_is_not_measured() -> None:
    row = judged(runs({"A": 0.9, "B": 0.8}), claim(metric="main_auc"))
    assert (row["verdict"], row["missing"]) == ("not measured", "main_auc")
    assert row["compared"] == "not measured on any run: main_auc"


def test_other_data_do_not_count() -> None:
    frame = pd.concat([runs({"A": 0.9}), runs({"B": 0.8}, dataset="other")])
    assert judged(frame, claim())["missing"] == "B"


def test_failed_runs_are_counted_and_left_out() -> None:
    frame = runs({"A": 0.91, "B": 0.9})
    whole = judged(frame, claim())
    frame.loc[0, "status"], frame.loc[0, "test_auc"] = "failed", np.nan
    row = judged(frame, claim())
    assert (row["failed"], row["seeds"], row["outcome"]) == (1, 4, "reproduced")
    assert whole["failed"] == 0
    frame.loc[frame["label"] == "B", "status"] = "failed"
    assert judged(frame, claim())[["verdict", "missing", "failed"]].to_list() == ["not measured", "B", 6]


def test_cells_without_a_common_seed_are_not_compared() -> None:
    frame = runs({"A": 0.91, "B": 0.9})
    frame.loc[frame["label"] == "B", "seed"] += 10
    for kind in ("difference", "share"):
        row = judged(frame, claim(kind))
        assert (row["verdict"], row["missing"]) == ("not measured", "A with B")


def test_a_frame_that_mixes_settings_is_refused() -> None:
    strengths = [runs({"A": 0.9, "B": 0.8}).assign(**{"protocol.embedding_regularizer": s}) for s in (0.1, 0.01)]
    with pytest.raises(RecordError, match="They differ in protocol"):
        judged(pd.concat(strengths), claim())


def test_every_claim_is_judged_on_a_full_grid() -> None:
    means = {f"{f}.{a}": 0.97 for f in [*FORMATS, "CrossNetV2", "MLP"] for a in ("none", "relu")}
    means |= {f"T{i}.relu.bn": 0.97 for i in (3, 4, 5, 7, 8)} | {"MLP.none": 0.93, "T19.none": 0.98}
    means |= {f"{label}.patient": mean for label, mean in means.items()}
    table = evaluate_claims(runs(means), "activation", "toy").set_index("id")
    assert len(table) == sum(claim.experiment == "activation" for claim in load_claims())
    assert table.loc["mlp-collapses", "verdict"] == "transfers to toy"
    assert table.loc["t19-best", "verdict"] == "transfers to toy"
    assert table.loc["losses-minimal", "verdict"] == "transfers to toy"
    assert table.loc["more-parameters-no-gain", "verdict"] == "transfers to toy"
    assert table.loc["sum-beats-concatenation", "verdict"] == "equivalent"
    assert (table["seeds"] == 5).all()
