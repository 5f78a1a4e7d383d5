"""Training: the protocol, the loop, exact metrics, checkpoints, weights to start from."""

from ctrlib.train.fit import FitResult, TrainingError, evaluate, fit, predict
from ctrlib.train.metrics import Scores, auc, logloss
from ctrlib.train.protocol import PRESETS, Protocol
from ctrlib.train.weights import load_model, read_weights, save_weights, start_from

NUMERICS = 1
"""Raised by hand when the same run may give other numbers than before."""

__all__ = [
    "NUMERICS",
    "PRESETS",
    "FitResult",
    "Protocol",
    "Scores",
    "TrainingError",
    "auc",
    "evaluate",
    "fit",
    "load_model",
    "logloss",
    "predict",
    "read_weights",
    "save_weights",
    "start_from",
]
