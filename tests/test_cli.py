"""The command line: what it prints, what it returns, how it fails."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ctrlib import CTRClassifier
from ctrlib.cli import main, rate_alone, settings, table_fields
from ctrlib.data import Field, load_table
from ctrlib.data.encoder import Encoder
from ctrlib.errors import DataError, RecordError, SettingError
from ctrlib.lab.claims import evaluate_claims, load_claims
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.models import build_model
from ctrlib.scoring import PROBABILITY, score
from ctrlib.train import Protocol, load_model, predict, save_weights, start_from
from ctrlib.train.weights import ENCODER, read_tensors
from ctrlib.views.ledger import judged_frames


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"shop": rng.integers(0, 9, 400), "hour": rng.integers(0, 5, 400)})
    table["clicked"] = ((table["shop"] + table["hour"]) % 3 == 0).astype(int)
    table.to_csv(tmp_path / "clicks.csv", index=False)
    return tmp_path / "clicks.csv"


def test_fit_on_a_table_of_ones_own(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "T9", "--table", str(clicks), "--label", "clicked", "--fields", "shop,hour"]
    assert main([*words, "--protocol", "max_epochs=2", "batch_size=50", "--set", "layers=2"]) == 0
    out = capsys.readouterr().out
    assert "epoch   2" in out and "test AUC" in out


def test_a_small_table_is_trained_in_as_many_steps_as_by_the_classifier(
    clicks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.concat([pd.read_csv(clicks)] * 6)
    rows.to_csv(clicks, index=False)
    words = ["fit", "T9", "--table", str(clicks), "--label", "clicked", "--fields", "shop,hour"]
    assert main([*words, "--protocol", "learning_rate=0.01", "max_epochs=10"]) == 0
    out = capsys.readouterr().out
    train = rows.head(1920)
    classifier = CTRClassifier("LR", max_epochs=1, validation_fraction=1e-6).fit(train[["shop"]], train["clicked"])
    assert "batches of 38 rows" in out and classifier.protocol_.batch_size == 38
    assert "Warning" not in out, "the click follows from shop and hour"
    assert main([*words, "--protocol", "max_epochs=1", "batch_size=500"]) == 0
    assert "batches of 500 rows" in capsys.readouterr().out


def test_a_model_no_better_than_the_click_rate_is_told(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "T9", "--table", str(clicks), "--label", "clicked", "--fields", "shop,hour"]
    assert main([*words, "--protocol", "max_epochs=1", "learning_rate=1e-6"]) == 0
    data = load_table(clicks, label="clicked", fields=["shop", "hour"])
    rate, labels = float(data.train.labels.mean()), data.test.labels.numpy()
    constant = -np.mean(np.where(labels == 1, np.log(rate), np.log(1 - rate)))
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("Warning: ") and f"no better than one number for all rows: {rate:.1%}" in told
    assert f"a test logloss of {constant:.4f}" in told
    assert rate_alone(data) == pytest.approx((rate, constant), abs=1e-6)


def test_saved_weights_score_other_rows(clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = tmp_path / "m.safetensors", tmp_path / "made" / "scored.csv"
    words = ["fit", "T9", "--table", str(clicks), "--label", "clicked", "--fields", "shop,hour"]
    assert main([*words, "--protocol", "max_epochs=1", "--save", str(weights)]) == 0
    rows = pd.DataFrame({"hour": ["1", "77"], "note": ["a", "b"], "shop": ["3", "5"]})  # another order, a new value
    rows.to_csv(tmp_path / "rows.csv", index=False)
    capsys.readouterr()
    assert main(["predict", str(weights), str(tmp_path / "rows.csv")]) == 0
    printed = [float(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", str(weights), str(tmp_path / "rows.csv"), "--out", str(out)]) == 0
    scored = pd.read_csv(out, dtype={"hour": str, "shop": str})
    assert list(scored) == ["hour", "note", "shop", PROBABILITY] and scored[PROBABILITY].tolist() == printed
    assert scored[["hour", "note", "shop"]].equals(rows)

    min_count = Protocol.named("qnn", "table").min_count
    data = load_table(clicks, label="clicked", fields=["shop", "hour"], min_count=min_count)
    model = load_model(weights, data)
    table = pd.read_csv(clicks)
    whole = score(weights, table)
    ids = Encoder.from_dict(read_tensors(weights)[0][ENCODER]).ids(table)
    found = {tuple(row): value for row, value in zip(ids.tolist(), whole, strict=True)}
    expected = torch.sigmoid(predict(model, data.test).double())
    assert [found[tuple(row)] for row in data.test.ids.tolist()] == pytest.approx(expected.tolist(), abs=1e-7)

    kept = {path: path.read_bytes() for path in (weights, out)}
    assert main(["predict", str(weights), str(out), "--out", str(tmp_path / "twice.csv")]) == 1
    assert f"has a column '{PROBABILITY}' already" in capsys.readouterr().err
    for target in kept:
        assert main(["predict", str(weights), str(out), "--out", str(target)]) == 1
        assert "is what is read here, and would be lost" in capsys.readouterr().err
    assert main(["predict", str(weights), str(tmp_path / "rows.csv"), "--out", str(out / "below")]) == 1
    assert "Could not write" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in kept} == kept and not list(tmp_path.rglob("*.part"))


def test_a_saved_classifier_scores_other_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"shop": rng.integers(0, 9, 200), "price": rng.random(200)})
    model = CTRClassifier("T9", random_state=1, max_epochs=1).fit(table, table["shop"] % 2)
    path = tmp_path / "classifier.safetensors"
    model.save(path)
    text = table.head(5).astype(str)[["price", "shop"]]
    assert score(path, text) == pytest.approx(model.predict_proba(table.head(5))[:, 1], abs=1e-7)
    with pytest.raises(DataError, match=r"lack the column .price.*The classifier was trained on shop, price"):
        score(path, text[["shop"]])


def test_weights_without_vocabularies_score_no_rows(clicks: Path, tmp_path: Path) -> None:
    data = load_table(clicks, label="clicked", fields=["shop", "hour"])
    save_weights(tmp_path / "w.safetensors", build_model("LR", data.schema), data)
    with pytest.raises(RecordError, match=r"without vocabularies \(trained on clicks\).*Train on a table"):
        score(tmp_path / "w.safetensors", pd.read_csv(clicks))


def test_three_stages_of_ds_mlp(clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--table", str(clicks), "--label", "clicked", "--fields", "shop,hour", "--preset", "bars"]
    common += ["--protocol", "max_epochs=2", "batch_size=50"]
    teacher, distilled, final = (str(tmp_path / f"{name}.safetensors") for name in ("teacher", "distilled", "final"))
    small = ["--set", "hidden_units=(8,)"]
    assert main(["fit", "DCNv2", *common, "--save", teacher, *small]) == 0
    assert main(["fit", "DS-MLP", *common, "--start", teacher, "--save", distilled, *small, "parallel_units=(6,)"]) == 0
    assert main(["fit", "DS-MLP", *common, "--start", distilled, "--save", final]) == 0
    assert capsys.readouterr().out.count("test AUC") == 3
    assert not list(tmp_path.glob("*.checkpoint")), "a finished stage leaves none"
    with pytest.raises(SettingError, match="starts from fresh values"):
        read = load_table(clicks, label="clicked", fields=["shop", "hour"], min_count=1)
        start_from(build_model("DNN", read.schema), Path(final), read)
    assert main(["fit", "DS-MLP", *common, "--start", final]) == 1
    assert "already aligned" in capsys.readouterr().err
    assert main(["fit", "DS-MLP", *common, "--start", str(tmp_path / "none.safetensors")]) == 1
    assert "There are no weights at" in capsys.readouterr().err


def test_eckd_learns_from_all_files_given(clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--table", str(clicks), "--label", "clicked", "--fields", "shop,hour", "--preset", "bars"]
    common += ["--protocol", "max_epochs=2", "batch_size=50"]
    dnn, crossed, both = (str(tmp_path / f"{name}.safetensors") for name in ("dnn", "crossed", "both"))
    small = ["--set", "hidden_units=(8,)"]
    assert main(["fit", "DNN", *common, "--save", dnn, *small]) == 0
    assert main(["fit", "DCNv2", *common, "--save", crossed, *small]) == 0
    assert main(["fit", "ECKD", *common, "--start", dnn, crossed, "--save", both, *small]) == 0
    data = load_table(clicks, label="clicked", fields=["shop", "hour"], min_count=1)
    learned = load_model(Path(both), data)
    assert [name for name, _ in learned.settings.teachers] == ["DNN", "DCNv2"]
    ids = torch.as_tensor(data.test.ids[:7])
    for path, teacher in zip((dnn, crossed), learned.teachers, strict=True):
        assert torch.equal(teacher(ids), load_model(Path(path), data)(ids))
    assert main(["fit", "DNN", *common, "--start", dnn, crossed]) == 1
    assert "only ECKD learns from several" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "T9x"], "Unknown model 'T9x'"),
        (["fit", "T9", "--dataset", "ml100k"], "Did you mean 'ml-100k'"),
        (["fit", "T9", "--preset", "qnns"], "Did you mean 'qnn'"),
        (["fit", "T9", "--start", "a.st", "--save", "./a.st"], "would replace the weights to start from"),
        (["run", "activations"], "Did you mean 'activation'"),
        (["run", "activation", "--profile", "quik"], "Did you mean 'quick'"),
        (["run", "17", "--records"], "The chapter of your-data leaves no run records"),
        (["run", "1", "--profile", "quick", "--records"], "The profile quick leaves no run records"),
        (["run", "1", "--dataset", "ml100k"], "Did you mean 'ml-100k'"),
        (["run", "1", "--profile", "quick", "--dataset", "ml-100k"], "leave --dataset out"),
        (["run", "2", "--dataset", "ml-100k"], "does not vary its data set"),
        (["run", "boundaries", "--records"], "The chapter of boundaries leaves no run records"),
        (["book", "--profile", "papers"], "Did you mean 'paper'"),
        (["records", "verify"], "No completed record"),
        (["claims"], "No run of activation on ml-100k is recorded"),
        (["claims", "boundaries"], "leaves no run records"),
        (["claims", "17"], "your-data leaves no run records"),
        (["claims", "activations"], "Did you mean 'activation'"),
        (["bench", "steps", "row"], "Did you mean 'rows'"),
        (["bench", "peers", "DCNv"], "Did you mean 'DCNv2'"),
        (["bench", "peers", "T9", "--repeats", "0"], "repeats must be at least 1"),
        (["bench", "steps", "--threads", "0"], "so must threads"),
        (["claims", "1", "--dataset", "ml100k"], "Did you mean 'ml-100k'"),
        (["records", "--experiment", "nope"], "Unknown experiment 'nope'"),
        (["records", "verify", "-3"], "must be at least 1"),
        (["fit", "T9", "--device", "gpu"], "'gpu' is not a device"),
        (["fit", "T9", "--fields", "user"], "--fields and --label belong to --table"),
        (["fit", "T9", "--label", "click"], "--fields and --label belong to --table"),
        (["run", "1", "--device", "gpu"], "'gpu' is not a device"),
        (["fit", "T9", "--set", "seed=3"], "'seed' is not set here"),
        (["fit", "T9", "--protocol", "preset=bars"], "'preset' is not set here"),
        (["fit", "T9", "--protocol", "max_epochs=ten"], "a whole number"),
    ],
)
def test_errors_are_one_line_and_status_1(
    words: list[str], message: str, clicks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[:2] == ["fit", "T9x"]:
        words = [*words, "--table", str(clicks), "--label", "clicked", "--fields", "shop,hour"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("ctrlib: ") and message in error and "Traceback" not in error


def test_an_option_given_twice_adds_to_the_first(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "DNN", "--table", str(clicks), "--label", "clicked", "--fields", "shop, hour"]
    words += ["--protocol", "max_epochs=1", "--protocol", "batch_size=50"]
    assert main([*words, "--set", "hidden_units=(8,)", "embedding_dim=3"]) == 0
    once = capsys.readouterr().out
    assert main([*words, "--set", "hidden_units=(8,)", "--set", "embedding_dim=3"]) == 0
    seconds = re.compile(r"\d+\.\d s")
    assert seconds.sub("", capsys.readouterr().out) == seconds.sub("", once)


def test_fields_with_a_rule_are_numbers() -> None:
    price = Field("price", kind="numeric", buckets="quantile:20")
    assert table_fields("shop, price = quantile:20,hour") == ["shop", price, "hour"]
    named = [Field("price, net", kind="numeric", buckets="log2"), "a=b", 'size 5"']
    assert table_fields('"price, net"=log2, "a=b" ,size 5"') == named
    for text in ("shop,,hour", "shop,", "", '"price, net', '""'):
        with pytest.raises(SettingError, match=r"needs a name between two commas.*stands in double quotes"):
            table_fields(text)
    with pytest.raises(SettingError, match="Did you mean 'quantile:N'"):
        table_fields("price=quantil")


def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "out/page.html")

    monkeypatch.setattr("ctrlib.cli.run_doctor", full)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "ctrlib: out/page.html: No space left on device. Free some space.\n"


def test_settings_are_read_as_python_values() -> None:
    assert settings(["layers=2", "dropout=0.2", "post_activation=relu", "batch_norm=True"]) == {
        "layers": 2,
        "dropout": 0.2,
        "post_activation": "relu",
        "batch_norm": True,
    }
    assert settings(["rows={[]: 1}"]) == {"rows": "{[]: 1}"}  # a text, which the model refuses
    with pytest.raises(SettingError, match="NAME=VALUE"):
        settings(["layers"])


def test_claims_prints_a_verdict_for_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    assert main(["claims", "activation", "--dataset", "ml-100k"]) == 0
    out = capsys.readouterr().out
    assert "mlp-collapses" in out and "share-without-relu" in out


@pytest.mark.parametrize("experiment", sorted(name for name in EXPERIMENTS if EXPERIMENTS[name].recorded))
def test_claims_prints_the_books_verdicts(
    experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    if experiment not in {claim.experiment for claim in load_claims()}:
        pytest.skip("makes no claim")
    frames = judged_frames(experiment)
    if "ml-100k" not in frames:
        pytest.skip("has no record on ml-100k")
    assert main(["claims", experiment, "--dataset", "ml-100k"]) == 0
    printed = capsys.readouterr().out
    for claim in evaluate_claims(frames["ml-100k"], experiment, "ml-100k").itertuples():
        assert re.search(rf"^{re.escape(claim.verdict)} +{claim.id}$", printed, flags=re.MULTILINE), claim.id


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "ml-100k" in capsys.readouterr().out
    assert main(["records"]) == 0
    assert "No records yet" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out
