"""Click probabilities for the rows of a table, by what a file of weights or a saved classifier holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ctrlib.classifier import CTRClassifier
from ctrlib.data import Split
from ctrlib.data.encoder import Encoder
from ctrlib.errors import DataError, RecordError
from ctrlib.models import build_model
from ctrlib.train import predict
from ctrlib.train.fit import checked_device, out_of_memory_explained
from ctrlib.train.weights import ENCODER, read_tensors

PROBABILITY = "click_probability"  # the column that is added to a table


def score(path: Path, rows: pd.DataFrame, device: str = "cpu") -> NDArray[np.float64]:
    """Return the click probability (N,) of each row, which needs the columns that the model was trained on.

    path: what `CTRClassifier.save` or `ctrlib fit --table ... --save` left. Raises `RecordError` for a file that cannot
    be used and `DataError` for rows that cannot.
    """
    header, tensors = read_tensors(path)
    if "classifier" in header:
        return _by_classifier(CTRClassifier.load(path, device), rows)
    if ENCODER not in header:
        raise RecordError(
            f"{path} holds weights without vocabularies (trained on {header.get('dataset', 'unknown data')}), so rows "
            "get no ids. Train on a table of your own: ctrlib fit MODEL --table FILE --fields NAME,NAME --save FILE."
        )
    encoder = Encoder.from_dict(header[ENCODER])
    model = build_model(header["model"], encoder.schema, **header["settings"])
    model.load_state_dict(tensors)
    ids = torch.from_numpy(encoder.ids(rows))
    with out_of_memory_explained():
        logits = predict(model.to(checked_device(device)), Split(ids, torch.zeros(len(ids))))
    return torch.sigmoid(logits.double()).cpu().numpy()  # type: ignore[no-any-return]


def _by_classifier(classifier: CTRClassifier, rows: pd.DataFrame) -> NDArray[np.float64]:
    names = getattr(classifier, "feature_names_in_", None)
    if names is None:
        raise DataError("The classifier was trained on an array, whose columns have no names. Use it in Python.")
    if absent := [str(name) for name in names if name not in rows.columns]:
        raise DataError(f"The rows lack the column '{absent[0]}'. The classifier was trained on {', '.join(names)}.")
    found: NDArray[np.float64] = classifier.predict_proba(rows[list(names)])[:, 1]
    return found
