"""Every model of the registry as a scikit-learn classifier: a table in, click probabilities out.

`CTRClassifier` joins what stands in other rooms: an `Encoder` turns columns into ids, `build_model` makes the network,
`fit` trains it by the papers' protocol. It follows scikit-learn's conventions, so it goes into pipelines,
cross-validation and grid search.

Dimension letters: N samples, F columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

import ctrlib.ds_mlp
import ctrlib.eckd  # noqa: F401  both enter their models into the registry
from ctrlib.data import CTRDataset, Field, Split
from ctrlib.data.checks import check_columns, holds_times, read_numbers
from ctrlib.data.encode import Ids
from ctrlib.data.encoder import ENOUGH, Encoder
from ctrlib.data.schema import declared_fields
from ctrlib.errors import CtrlibError, DataError, DeviceError, InputError, RecordError, SettingError, unknown
from ctrlib.layers import Dropout
from ctrlib.models import MODELS, CTRModel, build_model, own_entries
from ctrlib.models.base import checked
from ctrlib.train import FitResult, Protocol, fit, predict
from ctrlib.train.fit import Epoch, checked_device, out_of_memory_explained
from ctrlib.train.metrics import Scores
from ctrlib.train.weights import read_tensors, write_tensors

FORMAT = 2  # of the files that `save` writes
OWN = "entry of the registry"  # key in a pickle
STEPS_AN_EPOCH = 50  # at least, where batch_size is left open
SMALLEST_BATCH = 32
CHANGEABLE = ("max_epochs", "patience", "learning_rate", "embedding_regularizer", "min_count")  # None: the preset's


class CTRClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn brings no types
    """A click model for a table of your own.

    model: a name in `ctrlib.MODELS`. settings: what differs from the model's defaults.
    fields: columns to learn from, names (categorical) or `Field` objects; None takes all columns: those of floats are
    numeric with the bucketing rule `buckets`, all others categorical; `fit` warns of dates and durations among these.
    preset: of `Protocol`, "qnn" or "bars". max_epochs, patience, learning_rate, embedding_regularizer, min_count: as
    there; None leaves the preset's. batch_size: None takes the preset's, but never so many that an epoch has fewer than
    50 steps.
    validation_fraction: share of each class that is kept from training and chooses the epoch.
    device: "cpu" or "cuda". random_state: an int gives the same model each time on the same computer.

    A model that learns from others trains them first: DS-MLP its teacher, then distillation and alignment; ECKD its
    teachers. All stages see the same rows.

    After `fit`: classes_ (2,), n_features_in_, feature_names_in_ (where X is a table with names), encoder_, model_,
    protocol_, epochs_ (of the last stage), best_epoch_, n_iter_, validation_scores_, which are optimistic, since these
    rows chose the epoch.

    A search over settings takes whole dicts, which scikit-learn does not look into:
    GridSearchCV(CTRClassifier("DNN"), {"settings": [{"hidden_units": (64,)}, {"hidden_units": (64, 64)}]}).

    Values not met in training are out-of-vocabulary, and so is a missing cell of a categorical field;
    `encoder_.unseen(encoder_.ids(X))` counts them. `fit` warns of a field whose values are mostly new in the validation
    rows, as ids and times are. A numeric field must hold finite numbers. All rows weigh the same.
    """

    classes_: NDArray[Any]
    encoder_: Encoder
    model_: CTRModel

    def __init__(
        self,
        model: str = "QNN-alpha",
        settings: Mapping[str, Any] | None = None,
        *,
        fields: Sequence[str | Field] | None = None,
        buckets: str = "quantile:20",
        preset: str = "qnn",
        max_epochs: int | None = None,
        patience: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        embedding_regularizer: float | None = None,
        min_count: int | None = None,
        validation_fraction: float = 0.1,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.fields = fields
        self.buckets = buckets
        self.preset = preset
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.embedding_regularizer = embedding_regularizer
        self.min_count = min_count
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    # ---- scikit-learn's methods --------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> CTRClassifier:
        """Train on a table X (N, F), a DataFrame or an array, and labels y (N,) of two classes.

        Raises `InputError` for rows that cannot be used and `SettingError` for a wrong setting. A call that fails or
        is interrupted leaves the classifier as it was.
        """
        before = vars(self).copy()
        try:
            return self._fit(X, y)
        except BaseException:
            self.__dict__ = before
            raise

    def _fit(self, X: Any, y: Any) -> CTRClassifier:
        table = self._table(X, y, reset=True)
        labels = self._labels(y, len(table))
        seed = self._seed()
        train, valid = _split(labels, self.validation_fraction, seed, self.classes_)
        protocol = self._protocol(len(train))
        settings = _settings(self.settings)
        fields = _fields(table, self.fields, self.buckets)
        try:
            check_columns(table, [field.name for field in fields], "X")
            for field in fields:  # all rows, so that an error counts those for validation too
                if field.kind == "numeric":
                    read_numbers(table[field.name], "X")
            self.encoder_ = Encoder.fit(table.iloc[train], fields, protocol.min_count)
            rows_ids = self.encoder_.ids(table, "X")
        except DataError as error:
            raise InputError(str(error)) from None
        _warn_of_new_values(self.encoder_, rows_ids[train], rows_ids[valid])
        ids = torch.from_numpy(rows_ids)
        known = torch.from_numpy(labels)
        parts = {name: Split(ids[rows], known[rows]) for name, rows in (("train", train), ("valid", valid))}
        # `fit` wants test rows, which it only scores. A classifier has none, so they are those of validation.
        data = CTRDataset("X", self.encoder_.schema, **parts, test=parts["valid"], fingerprint="", notes={})
        self.protocol_ = protocol
        with out_of_memory_explained():
            self.model_, result = train_in_stages(self.model, settings, data, protocol, seed, self.device)
        self.epochs_, self.best_epoch_, self.n_iter_ = result.epochs, result.best_epoch, len(result.epochs)
        self.validation_scores_ = result.valid
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the logits (N,) of the class `classes_[1]`."""
        check_is_fitted(self, "model_")
        table = self._table(X, reset=False)
        try:
            ids = torch.from_numpy(self.encoder_.ids(table, "X"))
        except DataError as error:
            raise InputError(str(error)) from None
        with out_of_memory_explained():
            logits = predict(self.model_, Split(ids, torch.zeros(len(ids)))).double().cpu()
        found: NDArray[np.float64] = logits.numpy()
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities (N, 2) of the two classes, in the order of `classes_`."""
        positive = torch.sigmoid(torch.from_numpy(self.decision_function(X))).numpy()
        return np.stack([1.0 - positive, positive], axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likelier class (N,) of each row."""
        positive = self.decision_function(X) > 0
        labels: NDArray[Any] = self.classes_[positive.astype(np.intp)]
        return labels

    def __getstate__(self) -> dict[str, Any]:
        # A system of one's own goes along, since scikit-learn's processes have only those of ctrlib in their registry.
        own = own_entries([self.model] if isinstance(self.model, str) else [])
        return {**super().__getstate__(), **({OWN: own[self.model]} if own else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if (entry := state.pop(OWN, None)) is not None:
            MODELS.setdefault(state["model"], entry)
        super().__setstate__(state)

    # ---- files -------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the trained classifier into one safetensors file, whose header holds all else as JSON.

        Raises `RecordError` when it cannot be written and `SettingError` for classes that JSON cannot hold.
        """
        check_is_fitted(self, "model_")
        parameters = {name: _parameter(name, value) for name, value in self.get_params(deep=False).items()}
        about = {
            "format": FORMAT,
            "parameters": parameters,
            "classes": _plain_classes(self.classes_),
            "n_features_in": self.n_features_in_,
            "feature_names_in": getattr(self, "feature_names_in_", np.array([])).tolist(),
            "encoder": self.encoder_.to_dict(),
            "model": self.model_.name,
            "settings": dataclasses.asdict(self.model_.settings),
            "protocol": self.protocol_.to_dict(),
            "best_epoch": self.best_epoch_,
            "epochs": [dataclasses.asdict(epoch) for epoch in self.epochs_],
            "validation_scores": self.validation_scores_.to_dict(),
        }
        about = _plain(about)
        write_tensors(Path(path), self.model_.state_dict(), {"classifier": about, "classifier_digest": _digest(about)})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> CTRClassifier:
        """Return the classifier in a file, ready to predict on `device`.

        Raises `RecordError` for a file that is missing, damaged, of another kind or of another version of ctrlib.
        """
        header, tensors = read_tensors(Path(path))
        if "classifier" not in header:
            raise RecordError(f"{path} holds the weights of a model and no classifier. Read it with load_model.")
        about = header["classifier"]
        if about.get("format") != FORMAT:
            raise RecordError(
                f"{path} has format {about.get('format')!r}; this version of ctrlib reads {FORMAT}. Install the "
                "version that wrote it, or train again."
            )
        if header.get("classifier_digest") != _digest(about):
            raise RecordError(f"{path} is damaged: its header's digest differs. Train again.")
        try:
            found = cls(**_parameters(about["parameters"] | {"device": device}))
            found._restore(about, tensors)
        except DeviceError:
            raise
        except (CtrlibError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{path} does not fit this version of ctrlib: {error} Train again.") from error
        return found

    def _restore(self, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self.encoder_ = Encoder.from_dict(about["encoder"])
        if about["model"] not in MODELS:
            raise unknown("model", about["model"], MODELS)
        model = build_model(about["model"], self.encoder_.schema, **about["settings"])
        model.load_state_dict(tensors)
        self.model_ = model.to(checked_device(self.device)).eval()
        kind, values = about["classes"]
        self.classes_ = np.array(values, dtype=kind)
        self.n_features_in_ = about["n_features_in"]
        if about["feature_names_in"]:
            self.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
        self.protocol_ = Protocol(**about["protocol"])
        self.epochs_ = [Epoch(**epoch) for epoch in about["epochs"]]
        self.best_epoch_, self.n_iter_ = about["best_epoch"], len(self.epochs_)
        self.validation_scores_ = Scores(**about["validation_scores"])

    # ---- what comes in -----------------------------------------------------------------------------------

    def _table(self, X: Any, y: Any = "no_validation", *, reset: bool) -> pd.DataFrame:
        """Return X as a table with named columns, after scikit-learn's checks of shape and names.

        An array has the names that `fit` was given, or x0, x1, ... where there were none.
        """
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            if X.empty:
                raise InputError(f"X is empty: its shape is {X.shape}. It needs at least one row and one column.")
            table = X.reset_index(drop=True)
            table.columns = pd.Index([str(name) for name in X.columns])
            if table.columns.has_duplicates:
                twice = table.columns[table.columns.duplicated()][0]
                raise InputError(f"X has several columns called '{twice}'. Rename all but one.")
        else:
            if y is None:
                validate_data(self, X, y, skip_check_array=True)  # raises: y is needed
            numeric = getattr(getattr(X, "dtype", None), "kind", "O") in "biuf"
            cells = validate_data(
                self, X, reset=reset, dtype=None, ensure_all_finite=numeric, ensure_min_samples=2 if reset else 1
            )
            unnamed = [f"x{number}" for number in range(cells.shape[1])]
            table = pd.DataFrame(cells, columns=list(getattr(self, "feature_names_in_", unnamed)))
        return table.infer_objects()

    def _labels(self, y: Any, rows: int) -> NDArray[np.float32]:
        """Set `classes_` and return the labels (N,) as 0 and 1."""
        y = column_or_1d(y, warn=True)
        check_consistent_length(range(rows), y)
        if y.dtype.kind == "O" and pd.isna(y).any():
            raise InputError(f"y lacks {int(pd.isna(y).sum())} labels of {len(y)}. Leave those rows out.")
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) > 2:
            raise InputError(
                f"Only binary classification is supported. The type of the target is {type_of_target(y)}, with "
                f"{len(self.classes_)} classes. Map them to two, such as click and no click."
            )
        if len(self.classes_) < 2:
            only = self.classes_.tolist()[0]
            raise InputError(f"y holds one class, {only!r}; a click model needs rows of two classes.")
        labels: NDArray[np.float32] = (y == self.classes_[1]).astype(np.float32)
        return labels

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _protocol(self, rows: int) -> Protocol:
        changes = {name: getattr(self, name) for name in CHANGEABLE if getattr(self, name) is not None}
        if self.batch_size is not None:
            return Protocol.named(self.preset, **changes, batch_size=self.batch_size)
        return with_enough_steps(Protocol.named(self.preset, **changes), rows)


# ---- training --------------------------------------------------------------------------------------------


def with_enough_steps(protocol: Protocol, rows: int) -> Protocol:
    """Return the protocol with batches so small that an epoch over `rows` training rows has at least 50 steps.

    Batches have at least 32 rows all the same, and never more than the protocol says.
    """
    return protocol.replace(batch_size=min(protocol.batch_size, max(SMALLEST_BATCH, rows // STEPS_AN_EPOCH)))


def train_in_stages(
    name: str, settings: Mapping[str, Any], data: CTRDataset, protocol: Protocol, seed: int, device: str = "cpu"
) -> tuple[CTRModel, FitResult]:
    """Return a trained model, ready to predict, and what its last stage gave; models that it learns from come first.

    settings: what differs from the model's defaults; the embedding is as wide as the protocol says unless they do.
    """
    full = {"embedding_dim": protocol.embedding_dim, **settings}
    if name == "DS-MLP":
        return _dual_stream(full, data, protocol, seed, device)
    model = build_model(name, data.schema, seed=seed, **full)
    if name == "ECKD":
        for teacher, own in model.settings.teachers:  # type: ignore[attr-defined]
            model.start_from(train_in_stages(teacher, own, data, protocol, seed, device)[0].origin())
    return _trained(model, data, protocol, seed, device)


def _dual_stream(
    settings: dict[str, Any], data: CTRDataset, protocol: Protocol, seed: int, device: str
) -> tuple[CTRModel, FitResult]:
    """Train DS-MLP's teacher, distil it (unless the teacher itself is the main stream), and align."""
    if "stage" in settings:
        raise SettingError("Leave stage out: all stages of DS-MLP are trained. Alone they are a matter of ctrlib.fit.")
    stages = ("align",) if settings.get("main") == "teacher" else ("distill", "align")
    wanted: Any = checked(MODELS["DS-MLP"].settings, "DS-MLP", {**settings, "stage": stages[0]})
    own = {"embedding_dim": wanted.embedding_dim, "pooling": wanted.pooling, **wanted.teacher_settings}
    model, result = train_in_stages(wanted.teacher, own, data, protocol, seed, device)
    for stage in stages:
        after = build_model("DS-MLP", data.schema, seed=seed, **{**settings, "stage": stage})
        after.start_from(model.origin())
        model, result = _trained(after, data, protocol, seed, device)
    return model, result


def _trained(
    model: CTRModel, data: CTRDataset, protocol: Protocol, seed: int, device: str
) -> tuple[CTRModel, FitResult]:
    result = fit(model, data, protocol, seed=seed, device=device)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = None  # a random stream can be neither pickled nor copied
    return model.eval(), result


def _split(
    labels: NDArray[np.float32], fraction: float, seed: int, classes: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows for training and for validation, each in order; every class has rows in both."""
    if not isinstance(fraction, int | float | np.number) or not 0.0 < fraction < 1.0:
        raise SettingError(f"validation_fraction is {fraction!r}; give a share between 0 and 1, such as 0.1.")
    draw = np.random.RandomState(seed % 2**32)
    kept = []
    for number, name in enumerate(classes.tolist()):
        rows = np.flatnonzero(labels == number)
        if len(rows) < 2:
            raise InputError(
                f"y has 1 row of class {name!r}; at least 2 are needed, to train on one and to validate on another."
            )
        count = min(len(rows) - 1, max(1, round(fraction * len(rows))))
        kept.append(draw.permutation(rows)[:count])
    valid = np.sort(np.concatenate(kept))
    return np.setdiff1d(np.arange(len(labels)), valid), valid


def _fields(table: pd.DataFrame, declared: Sequence[str | Field] | None, buckets: str) -> list[Field]:
    """Return the fields as declared; else one for each column, numeric where it holds floats. Warns of times."""
    if declared is not None:
        return list(declared_fields(declared))
    if times := [str(name) for name in table.columns if holds_times(table[name])]:
        warnings.warn(
            f"Taken as categorical, one token for each value: the times in {', '.join(times)}. Later rows bring values "
            "that are new. Make hour and weekday of a date, seconds of a duration (.dt.total_seconds()), or name the "
            "columns in fields.",
            stacklevel=4,
        )
    floats = {name for name in table.columns if pd.api.types.is_float_dtype(table[name].dtype)}
    return [
        Field(name, kind="numeric", buckets=buckets) if name in floats else Field(name)
        for name in map(str, table.columns)
    ]


def _settings(settings: Any) -> dict[str, Any]:
    """Return the model's settings; raises `SettingError` unless they are a dict or None."""
    if settings is not None and not isinstance(settings, Mapping):
        raise SettingError(f"settings is {settings!r}; give a dict such as {{'layers': 1}}.")
    return dict(settings or {})


def _warn_of_new_values(encoder: Encoder, train: Ids, valid: Ids) -> None:
    """Warn of fields most of whose values are new among the rows for validation, ids (N, C), and not in training."""
    rows, taught = len(valid), encoder.unseen(train)
    for name, count in encoder.unseen(valid).items() if rows >= ENOUGH else ():
        if count > rows / 2 and taught[name] < len(train) / 2:
            warnings.warn(
                f"Field '{name}': {count} values in {rows} rows for validation were not met in training, so the model "
                "learns little from it. Leave out what names a single row. Make hour and weekday of a time. Declare an "
                "amount as numeric: Field(name, kind='numeric', buckets='quantile:20').",
                stacklevel=4,
            )


# ---- what goes into a file -------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: numpy's numbers and arrays, inner ones too, as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _parameter(name: str, value: Any) -> Any:
    """Return a parameter as `load` can give it back."""
    if name == "random_state" and not isinstance(value, int | np.integer | None):
        return None  # a generator: the next `fit` draws a seed of its own
    if name == "fields" and value is not None:
        return [one if isinstance(one, str) else dataclasses.asdict(one) for one in value]
    return value


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = values.get("fields")
    read = None if fields is None else [one if isinstance(one, str) else Field(**one) for one in fields]
    return {**values, "fields": read}


def _plain_classes(classes: NDArray[Any]) -> tuple[str, list[Any]]:
    values = classes.tolist()
    if not all(isinstance(value, str | int | float) for value in values):
        raise SettingError(f"The classes {values} cannot be saved; use strings, numbers or booleans as labels.")
    return "object" if classes.dtype.kind == "O" else classes.dtype.str, values


def _digest(about: Mapping[str, Any]) -> str:
    # Through JSON and back, so that a tuple is the list that the file gives.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(about)), sort_keys=True).encode()).hexdigest()
