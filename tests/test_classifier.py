"""CTRClassifier: scikit-learn's own checks, what it adds to them, and files that come back as they were."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from ctrlib import MODELS, CTRClassifier, Protocol, build_model, fit, load_table
from ctrlib.classifier import train_in_stages
from ctrlib.data import Field, Schema
from ctrlib.data.encoder import Encoder
from ctrlib.errors import DataError, DeviceError, InputError, RecordError, SettingError
from ctrlib.layers import pair_sum
from ctrlib.models import CTRModel, ModelEntry, ModelSettings

SMALL = {"hidden_units": (8,), "dropout": 0.0}
STREAMS = {**SMALL, "parallel_units": (8,), "teacher": "DNN", "teacher_settings": SMALL}
QUICK = {"max_epochs": 20, "learning_rate": 1e-2, "batch_size": 64, "random_state": 0}


class OnFloats(CTRClassifier):
    """The same, but scikit-learn's checks hand it floats and no categories."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = False
        return tags


@parametrize_with_checks(
    [
        CTRClassifier("LR", max_epochs=30, learning_rate=3e-2, random_state=0),
        CTRClassifier("DNN", SMALL, **QUICK),
        OnFloats("DNN", SMALL, **QUICK),
        CTRClassifier("DS-MLP", STREAMS, **QUICK),
        CTRClassifier("QNN-alpha", {"rows": 1, "layers": 1}, embedding_regularizer=0.0, **QUICK),
    ],
    # Nothing to list: where a check cannot apply, the tags say so (two classes, no sparse matrices, no NaN).
    expected_failed_checks=lambda estimator: {},
)
def test_scikit_learns_own_checks(estimator: CTRClassifier, check: Any) -> None:
    check(estimator)


def shop(rows: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """A table of every kind of column; whoever meets a shop at its hour clicks."""
    draw = np.random.RandomState(seed)
    table = pd.DataFrame(
        {
            "shop": draw.choice(["north", "south", "east"], rows),
            "hour": draw.randint(0, 4, rows),
            "price": draw.lognormal(size=rows).round(2),
            "member": draw.rand(rows) < 0.5,
            "tags": draw.choice(["a|b", "b|c|d", "", "a"], rows),
        }
    )
    logit = 3.0 * ((table["shop"] == "north") == (table["hour"] < 2)) - 1.5
    return table, pd.Series(np.where(draw.rand(rows) < 1 / (1 + np.exp(-logit)), "click", "none"))


def quick(**changes: Any) -> CTRClassifier:
    return CTRClassifier(**{"model": "DNN", "settings": {"hidden_units": (16,)}, **QUICK, **changes})


# ---- what goes in ----------------------------------------------------------------------------------------


def test_columns_become_fields_by_their_type_and_labels_keep_their_names() -> None:
    X, y = shop()
    model = quick(max_epochs=3).fit(X, y)
    kinds = {field.name: (field.kind, field.buckets) for field in model.encoder_.fields}
    assert kinds.pop("price") == ("numeric", "quantile:20")
    assert set(kinds.values()) == {("categorical", None)}
    assert model.classes_.tolist() == ["click", "none"] and set(model.predict(X)) <= {"click", "none"}
    assert model.feature_names_in_.tolist() == list(X) and model.n_features_in_ == 5
    proba = model.predict_proba(X)
    assert proba.shape == (400, 2) and np.allclose(proba.sum(axis=1), 1)
    assert np.allclose(proba[:, 1], 1 / (1 + np.exp(-model.decision_function(X))))


def test_it_learns_what_there_is_to_learn() -> None:
    (X, y), (X_new, y_new) = shop(3000), shop(1000, seed=1)
    model = quick(max_epochs=10).fit(X, y)
    score = roc_auc_score(y_new == "none", model.predict_proba(X_new)[:, 1])
    assert score > 0.72, score  # the law itself reaches 0.82; a model without interactions 0.5


def test_declared_fields_are_the_ones_that_are_learnt_from() -> None:
    X, y = shop()
    tags = Field("tags", kind="sequence", max_len=2, splitter="|")
    model = quick(fields=["shop", tags, Field("price", kind="numeric", buckets="log2")], max_epochs=2).fit(X, y)
    assert [field.name for field in model.encoder_.fields] == ["shop", "tags", "price"]
    changed = X.assign(hour=3 - X["hour"], member=~X["member"])
    assert np.array_equal(model.decision_function(X), model.decision_function(changed))
    assert not np.array_equal(model.decision_function(X), model.decision_function(X.assign(tags="c")))


def test_an_array_of_objects_gives_what_its_table_gives() -> None:
    X, y = shop()
    named, array = quick(max_epochs=3).fit(X, y), quick(max_epochs=3).fit(X.to_numpy(), y.to_numpy())
    assert [field.kind for field in array.encoder_.fields] == [field.kind for field in named.encoder_.fields]
    assert np.array_equal(named.decision_function(X), array.decision_function(X.to_numpy()))
    assert not hasattr(array, "feature_names_in_")


def test_unseen_values_and_missing_cells_are_out_of_vocabulary() -> None:
    X, y = shop()
    model = quick(max_epochs=3).fit(X, y)
    unseen = model.decision_function(X.assign(shop="west"))
    assert np.array_equal(unseen, model.decision_function(X.assign(shop=None)))
    assert np.array_equal(unseen, model.decision_function(X.assign(shop="nowhere")))
    column = model.encoder_.ids(X.assign(shop="west"))[:, 0]
    assert set(column) == {model.encoder_.schema.vocab_sizes[0] - 1}


def test_a_row_is_scored_alike_alone_and_in_company() -> None:
    # A declared category of floats: "3" must not become "3.0" where a fraction stands in the same batch.
    X, y = shop()
    X = X.assign(price=X["price"].round())
    model = quick(fields=["shop", "hour", "price"], max_epochs=3).fit(X, y)
    company = pd.concat([X.iloc[:4], X.iloc[:1].assign(price=0.5)])
    alone = np.concatenate([model.decision_function(X.iloc[[row]]) for row in range(4)])
    assert np.allclose(alone, model.decision_function(company)[:4], rtol=1e-5)


def test_the_encoding_is_that_of_load_table() -> None:
    X, y = shop()
    fields = [
        "shop",
        "hour",
        Field("price", kind="numeric", buckets="quantile:5"),
        Field("tags", kind="sequence", max_len=2, splitter="|"),
    ]
    parts = {name: X.iloc[start:stop] for name, start, stop in (("train", 0, 300), ("valid", 300, 350))}
    parts["test"] = X.iloc[350:].assign(shop="west")
    labelled = {name: part.assign(y=(y[part.index] == "click").astype(int)) for name, part in parts.items()}
    data = load_table(*labelled.values(), label="y", fields=fields, min_count=2)
    encoder = Encoder.fit(parts["train"], data.schema.fields, min_count=2)
    assert encoder.schema == data.schema
    for name, part in parts.items():
        assert np.array_equal(encoder.ids(part), getattr(data, name).ids.numpy())
    assert Encoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y: (X.assign(price=np.nan), y), "numeric field 'price' must hold finite numbers"),
        (lambda X, y: (X.assign(tags=[["a"]] * len(X)), y), "lists or other compound cells"),
        (lambda X, y: (pd.concat([X, X[["shop"]]], axis=1), y), r"several columns called 'shop'|unique column names"),
        (lambda X, y: (X.head(0), y.head(0)), "X is empty"),
        (lambda X, y: (X, y.where(y == "click", "click")), "one class, 'click'"),
        (lambda X, y: (X, pd.Series(["a", *["b"] * (len(X) - 1)])), "1 row of class 'a'"),
        (lambda X, y: (X, X["hour"]), "Only binary classification.*4 classes"),
        (lambda X, y: (X, y.head(7)), "inconsistent numbers of samples"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quick().fit(*change(*shop()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "DNNN"}, "Did you mean 'DNN'"),
        ({"settings": {"hiden_units": (8,)}}, "Did you mean 'hidden_units'"),
        ({"preset": "bar"}, "Did you mean 'bars'"),
        ({"fields": "shop"}, "list"),
        ({"fields": ["shop", "shop"]}, "more than once"),
        ({"fields": ["shoop"]}, "no column 'shoop'.*Did you mean 'shop'"),
        ({"buckets": "log3"}, "Did you mean 'log2'"),
        ({"validation_fraction": 1.0}, "between 0 and 1"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"model": "DS-MLP", "settings": {"stage": "align"}}, "Leave stage out"),
    ],
)
def test_wrong_settings_are_refused_by_fit_and_not_before(settings: dict[str, Any], words: str) -> None:
    model = quick(**settings)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        model.fit(*shop(100))


def test_rows_with_other_columns_are_refused() -> None:
    X, y = shop(100)
    model = quick(max_epochs=1)
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"shop": "store"}))
    with pytest.raises(InputError, match="'price' must hold finite numbers, but data row 3 has inf"):
        model.predict(X.assign(price=[1.0, 2.0, np.inf, *[1.0] * 97]))


# ---- training --------------------------------------------------------------------------------------------


def test_validation_rows_are_stratified_seeded_and_kept_from_training() -> None:
    X, y = shop(200)
    y = pd.Series(np.arange(200) < 20).astype(int)
    X["shop"] = [f"s{row}" for row in range(200)]  # the vocabulary tells which rows were trained on
    kept = []
    for seed in (1, 1, 2):
        model = quick(fields=["shop"], validation_fraction=0.2, max_epochs=1, random_state=seed).fit(X, y)
        kept.append(set(range(200)) - {int(token[1:]) for token in model.encoder_.tokens[0]})
    assert kept[0] == kept[1] != kept[2]
    assert all(len(rows) == 40 and sum(row < 20 for row in rows) == 4 for rows in kept)


def test_one_seed_gives_one_model_and_a_model_of_the_library() -> None:
    X, y = shop()
    first, again = (quick(settings={"dropout": 0.5}, max_epochs=3).fit(X, y) for _ in range(2))
    assert np.array_equal(first.decision_function(X), again.decision_function(X))
    other = quick(settings={"dropout": 0.5}, max_epochs=3, random_state=1).fit(X, y)
    assert not np.array_equal(first.decision_function(X), other.decision_function(X))
    drawn = quick(max_epochs=1, random_state=np.random.RandomState(3)).fit(X, y)
    assert drawn.n_iter_ == len(drawn.epochs_) == 1


def test_batches_leave_an_epoch_enough_steps() -> None:
    X, y = shop(2000)
    sizes = {
        rows: quick(max_epochs=1, batch_size=None).fit(X.head(rows), y.head(rows)).protocol_.batch_size
        for rows in (100, 2000)
    }
    assert sizes == {100: 32, 2000: 36}
    model = quick(preset="bars", batch_size=512, min_count=3, max_epochs=1).fit(X, y)
    assert model.protocol_ == Protocol.named(
        "bars", batch_size=512, min_count=3, max_epochs=1, learning_rate=QUICK["learning_rate"]
    )
    assert model.model_.settings.embedding_dim == 10


def test_ds_mlp_is_trained_in_the_same_three_stages_as_by_hand(tiny: Any) -> None:
    protocol = Protocol(max_epochs=2, batch_size=64)
    found, result = train_in_stages("DS-MLP", STREAMS, tiny, protocol, seed=3)
    dim = {"embedding_dim": protocol.embedding_dim}
    teacher = build_model("DNN", tiny.schema, seed=3, **dim, **SMALL)
    fit(teacher, tiny, protocol, seed=3)
    before = teacher
    for stage in ("distill", "align"):
        model = build_model("DS-MLP", tiny.schema, seed=3, stage=stage, **dim, **STREAMS)
        model.start_from(before.origin())
        by_hand = fit(model, tiny, protocol, seed=3)
        before = model
    assert found.settings.stage == "align" and result.test == by_hand.test
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), model.state_dict().values(), strict=True))


def test_other_systems_that_learn_from_teachers(tiny: Any) -> None:
    protocol = Protocol(max_epochs=1, batch_size=64)
    eckd = {**SMALL, "teachers": [("DNN", SMALL), ("LR", {})]}
    with pytest.raises(SettingError, match="setting of model LR 'nonsense'"):
        train_in_stages("ECKD", {**eckd, "teachers": [("LR", {"nonsense": 1})]}, tiny, protocol, seed=1)
    model, result = train_in_stages("ECKD", eckd, tiny, protocol, seed=1)
    assert model.filled == {0, 1} and result.best_epoch == 1
    aligned, _ = train_in_stages("DS-MLP", {**STREAMS, "main": "teacher"}, tiny, protocol, seed=1)
    assert aligned.main is None


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_can_be_built_by_its_name(name: str) -> None:
    assert CTRClassifier(name).get_params()["model"] == name


# ---- scikit-learn around it ------------------------------------------------------------------------------


def test_pipeline_cross_validation_and_grid_search() -> None:
    X, y = shop(300)
    bins = make_column_transformer(
        (KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), ["price"]),
        remainder="passthrough",
    )
    pipeline = make_pipeline(bins.set_output(transform="pandas"), quick(max_epochs=2))
    assert cross_val_score(pipeline, X, y, cv=3, scoring="roc_auc", error_score="raise").shape == (3,)
    grid = {
        "ctrclassifier__settings": [{"hidden_units": (4,)}, {"hidden_units": (8,)}],
        "ctrclassifier__model": ["DNN"],
    }
    search = GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", error_score="raise").fit(X, y)
    assert search.best_params_["ctrclassifier__settings"] in grid["ctrclassifier__settings"]
    assert search.predict(X).shape == (300,)


class Own(CTRModel):
    """A system that a person has entered into the registry."""

    def interact(self, e_BFD: torch.Tensor) -> torch.Tensor:
        return pair_sum(e_BFD)


def build_own(name: str, schema: Schema, settings: ModelSettings) -> Own:
    return Own(schema, settings)


def test_a_system_of_ones_own_goes_along_into_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = shop(100)
    monkeypatch.setitem(MODELS, "Own", ModelEntry(ModelSettings, build_own))
    fresh = pickle.dumps(quick(model="Own", settings=None, max_epochs=1))
    fitted = pickle.dumps(quick(model="Own", settings=None, max_epochs=1).fit(X, y))
    monkeypatch.delitem(MODELS, "Own")  # as in a process that has only imported ctrlib
    assert "entry" not in "".join(vars(pickle.loads(fresh)))
    again = pickle.loads(fresh).fit(X, y)
    assert np.array_equal(again.predict_proba(X), pickle.loads(fitted).predict_proba(X))
    monkeypatch.delitem(MODELS, "Own")
    assert b"ModelEntry" not in pickle.dumps(quick())


def test_clones_and_pickles() -> None:
    X, y = shop(100)
    model = quick(settings={"dropout": 0.2}, fields=["shop", Field("price", kind="numeric", buckets="log2")])
    assert clone(model).get_params() == model.get_params()
    model.set_params(max_epochs=1).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.decision_function(X), model.decision_function(X))
    assert not hasattr(clone(model), "model_")


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"fields": ["shop", Field("tags", kind="sequence", max_len=2, splitter="|")]},
        {"model": "QNN-alpha", "settings": {"rows": 2}, "random_state": np.random.RandomState(0)},
        {"model": "DS-MLP", "settings": STREAMS},
        {"model": "LR", "settings": None, "random_state": np.int64(3)},
    ],
)
def test_a_saved_classifier_comes_back(tmp_path: Path, settings: dict[str, Any]) -> None:
    X, y = shop(200)
    model = quick(max_epochs=2, **settings).fit(X, y)
    model.save(tmp_path / "model.safetensors")
    again = CTRClassifier.load(tmp_path / "model.safetensors")
    unseen = X.assign(shop="west", hour=9)
    for rows in (X, unseen):
        assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert again.predict(X).dtype == model.predict(X).dtype and again.classes_.tolist() == model.classes_.tolist()
    assert again.encoder_ == model.encoder_ and again.protocol_ == model.protocol_
    assert again.feature_names_in_.tolist() == list(X)
    assert (again.epochs_, again.n_iter_, again.best_epoch_) == (model.epochs_, model.n_iter_, model.best_epoch_)
    assert again.validation_scores_ == model.validation_scores_
    clone(again).fit(X, y)  # what was read is a classifier like any other
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(model.model_.state_dict())


@pytest.mark.parametrize("labels", [[0, 1], [False, True], [1.0, 2.0], ["no", "yes"]])
def test_labels_keep_their_type(tmp_path: Path, labels: list[Any]) -> None:
    X, y = shop(100)
    named = np.array(labels)[(y == "click").to_numpy().astype(int)]
    model = quick(max_epochs=1).fit(X, named)
    model.save(tmp_path / "m")
    again = CTRClassifier.load(tmp_path / "m")
    assert again.classes_.tolist() == labels and again.classes_.dtype == named.dtype


def rewritten(path: Path, change: Any) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["ctrlib"])
    tensors = load_file(path)
    change(header, tensors)
    save_file(tensors, path, {"ctrlib": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header, tensors: header.pop("classifier"), "no classifier. Read it with load_model"),
        (lambda header, tensors: header["classifier"].update(format=99), "has format 99"),
        (lambda header, tensors: header["classifier"]["encoder"]["tokens"][0].reverse(), "header's digest differs"),
        (lambda header, tensors: tensors["embedding.weight"].mul_(2), "damaged: their digest differs"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "model.safetensors"
    quick(max_epochs=1).fit(*shop(100)).save(path)
    rewritten(path, change)
    with pytest.raises(RecordError, match=words):
        CTRClassifier.load(path)


def test_settings_of_another_version_are_refused_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    quick(max_epochs=1).fit(*shop(100)).save(path)
    monkeypatch.delitem(MODELS, "DNN")
    with pytest.raises(RecordError, match="does not fit this version of ctrlib: Unknown model 'DNN'"):
        CTRClassifier.load(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no weights at"):
        CTRClassifier.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RecordError, match="cannot be read"):
        CTRClassifier.load(tmp_path / "text")
    with pytest.raises(NotFittedError):
        quick().save(tmp_path / "unfitted")


def test_an_encoder_whose_parts_differ_is_refused() -> None:
    encoder = Encoder.fit(shop(50)[0], [Field("shop")])
    values = encoder.to_dict()
    with pytest.raises(DataError, match="do not have the sizes"):
        Encoder.from_dict(values | {"tokens": [["north"]]})
    with pytest.raises(DataError, match="lacks edges"):
        Encoder.from_dict({name: value for name, value in values.items() if name != "edges"})
    with pytest.raises(SettingError, match="key of an encoder 'tokns'"):
        Encoder.from_dict(values | {"tokns": []})


def test_the_default_model_learns_from_any_number_of_rows() -> None:
    rng = np.random.default_rng(0)
    for rows in range(105, 111):  # one of them leaves a batch of a single row
        table = pd.DataFrame({"a": rng.choice(list("xyz"), rows), "b": rng.choice(list("uv"), rows)})
        CTRClassifier(random_state=1, max_epochs=1).fit(table, rng.integers(0, 2, rows))


def test_one_odd_cell_does_not_make_a_column_unknown() -> None:
    hours = pd.Series(np.arange(200) % 24)
    table = pd.DataFrame({"hour": hours.astype("category")})
    encoder = Encoder.fit(table, [Field("hour")])
    known = encoder.ids(table)
    with_gap = pd.Series([np.nan, *hours[1:]])
    odd = pd.Series(["?", *hours[1:].astype(float)], dtype=object)
    for cells in (with_gap, with_gap.astype("category"), odd, pd.Series([0.5, *hours[1:]])):
        assert np.array_equal(encoder.ids(pd.DataFrame({"hour": cells}))[1:], known[1:])


def test_a_fit_that_fails_leaves_the_classifier_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = shop(100)
    model = quick(max_epochs=1).fit(X, y)
    before = model.predict_proba(X)
    other = X.assign(shop=[f"s{row}" for row in range(100)])[["shop", "hour", "price", "member"]]
    with pytest.raises(SettingError):
        model.set_params(model="DNM").fit(other, y == "none")

    def interrupted(*arguments: Any, **settings: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("ctrlib.classifier.fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(model="DNN").fit(other, y == "none")
    assert np.array_equal(model.predict_proba(X), before) and model.classes_.tolist() == ["click", "none"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": [0]}, "fields holds 0; give the names of columns as text"),
        ({"fields": ["shop", None]}, "fields holds None"),
        ({"fields": 3}, "at least one column name"),
        ({"buckets": 10}, "a numeric field needs buckets, one of: .*, not 10"),
        ({"validation_fraction": "0.1"}, "validation_fraction is '0.1'"),
        ({"validation_fraction": None}, "validation_fraction is None"),
        ({"settings": "layers=1"}, "settings is 'layers=1'; give a dict"),
        ({"settings": [("layers", 1)]}, "give a dict"),
        ({"patience": 0}, "patience is 0; it must be positive"),
    ],
)
def test_settings_of_another_type_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        quick(**changes).fit(*shop(50))


def test_patience_is_the_protocols() -> None:
    assert quick(patience=7, max_epochs=1).fit(*shop(50)).protocol_.patience == 7


def test_a_gap_is_counted_over_all_rows() -> None:
    X, y = shop(100)
    with pytest.raises(InputError, match=r"X: numeric field 'price' .* data row 1 has an empty cell \(100 such rows\)"):
        quick().fit(X.assign(price=np.nan), y)
    with pytest.raises(InputError, match=r"X: no column 'shops'\. Did you mean 'shop'"):
        quick(fields=["shops"]).fit(X, y)


def test_names_of_single_rows_are_told(recwarn: pytest.WarningsRecorder) -> None:
    X, y = shop(200)
    quick(max_epochs=1).fit(X, y)
    quick(max_epochs=1).fit(X.assign(nothing=None)[["shop", "nothing"]].head(12), y.head(12))  # missing is not new
    assert not [one for one in recwarn.list if "validation" in str(one.message)]
    times = pd.date_range("2024", periods=200, freq="h")
    with pytest.warns(UserWarning, match=r"Field 'time': 20 values in 20 rows for validation .*hour and weekday"):
        model = quick(max_epochs=1).fit(X.assign(time=times), y)
    unseen = model.encoder_.unseen(model.encoder_.ids(X.assign(time=times, shop=["north", "west"] * 100)))
    assert unseen["shop"] == 100 and unseen["hour"] == 0 and unseen["time"] == 20


@pytest.mark.parametrize("repeated", [1, 40])
def test_dates_and_durations_are_told_alike(repeated: int) -> None:
    X, y = shop(200)
    hours = pd.Series(np.arange(200) // repeated)
    cells = {
        "date": pd.Timestamp("2024") + pd.to_timedelta(hours, unit="h"),
        "duration": pd.to_timedelta(hours, unit="h"),
        "period": pd.PeriodIndex.from_ordinals(hours, freq="h"),
    }
    for name, times in cells.items():
        with pytest.warns(UserWarning, match=rf"one token for each value: the times in {name}\. .*total_seconds"):
            quick(max_epochs=1).fit(X.assign(**{name: times}), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(max_epochs=1, fields=["shop"]).fit(X.assign(**cells), y)


def test_arrays_take_the_names_of_the_table_that_was_learnt_from() -> None:
    X, y = shop(100)
    model = quick(max_epochs=1).fit(X, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert np.array_equal(model.predict_proba(X.to_numpy()), model.predict_proba(X))
    polars = pytest.importorskip("polars")
    fields = ["hour", Field("price", kind="numeric", buckets="log2")]
    named = polars.DataFrame({name: X[name].tolist() for name in X})
    learnt = quick(fields=fields, max_epochs=1).fit(named, y)
    assert np.array_equal(learnt.predict_proba(named), quick(fields=fields, max_epochs=1).fit(X, y).predict_proba(X))


def test_numpy_settings_are_saved_as_plain_ones(tmp_path: Path) -> None:
    X, y = shop(100)
    model = quick(settings={"hidden_units": np.array([8, 4])}, max_epochs=np.int64(1)).fit(X, y)
    model.save(tmp_path / "m")
    again = CTRClassifier.load(tmp_path / "m")
    assert again.get_params()["settings"] == {"hidden_units": [8, 4]} and again.get_params()["max_epochs"] == 1


def test_too_little_memory_names_what_to_lower() -> None:
    with pytest.raises(DeviceError, match="Out of memory: lower batch_size or embedding_dim"):
        quick(settings={"embedding_dim": 10**11}).fit(*shop(50))


def test_missing_labels_are_named() -> None:
    with pytest.raises(InputError, match="y lacks 1 labels of 4"):
        CTRClassifier("LR").fit(pd.DataFrame({"a": list("abab")}), np.array(["no", None, "yes", "no"], dtype=object))


def test_a_column_written_in_another_way_is_told(recwarn: pytest.WarningsRecorder) -> None:
    encoder = Encoder.fit(pd.DataFrame({"paid": [True, False] * 10}), [Field("paid")])
    encoder.ids(pd.DataFrame({"paid": [True, False] * 10}))
    encoder.ids(pd.DataFrame({"paid": ["maybe"]}))  # a single new value is nothing special
    tags = Encoder.fit(pd.DataFrame({"tags": ["a b", "b"] * 10}), [Field("tags", kind="sequence", max_len=2)])
    tags.ids(pd.DataFrame({"tags": [""] * 20}))  # lists without an entry have no value at all
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"Field 'paid' \(rows\): no value was seen in training"):
        encoder.ids(pd.DataFrame({"paid": [1, 0] * 10}))
