"""ctrlib: the systems of two papers on click-through-rate prediction, trained and compared with many seeds."""

from ctrlib.data import load_dataset, load_table
from ctrlib.ds_mlp import DSMLP
from ctrlib.eckd import ECKD
from ctrlib.lab import Grid, run_grid
from ctrlib.models import MODELS, build_model
from ctrlib.neurons import FORMATS
from ctrlib.train import Protocol, evaluate, fit

__version__ = "0.1.0"
__all__ = [
    "DSMLP",
    "ECKD",
    "FORMATS",
    "MODELS",
    "Grid",
    "Protocol",
    "build_model",
    "evaluate",
    "fit",
    "load_dataset",
    "load_table",
    "run_grid",
]
