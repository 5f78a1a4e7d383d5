"""Training: the protocol, the loop, exact metrics, checkpoints, stages."""

from ctrlib.train.fit import FitResult, TrainingError, evaluate, fit, predict
from ctrlib.train.metrics import Scores, auc, logloss
from ctrlib.train.protocol import PRESETS, Protocol
from ctrlib.train.stages import run_stages

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
    "logloss",
    "predict",
    "run_stages",
]
