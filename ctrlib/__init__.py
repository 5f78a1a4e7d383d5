"""ctrlib: the systems of two papers on click-through-rate prediction, trained and compared with many seeds."""

from typing import TYPE_CHECKING, Any

from ctrlib.data import load_dataset, load_table
from ctrlib.ds_mlp import DSMLP
from ctrlib.eckd import ECKD
from ctrlib.lab import Grid, run_grid
from ctrlib.models import MODELS, build_model
from ctrlib.neurons import FORMATS
from ctrlib.train import Protocol, evaluate, fit

if TYPE_CHECKING:
    from ctrlib.classifier import CTRClassifier

__version__ = "0.1.0"
__all__ = [
    "DSMLP",
    "ECKD",
    "FORMATS",
    "MODELS",
    "CTRClassifier",
    "Grid",
    "Protocol",
    "build_model",
    "evaluate",
    "fit",
    "load_dataset",
    "load_table",
    "run_grid",
]


def __getattr__(name: str) -> Any:
    """Import `CTRClassifier` when it is asked for; scikit-learn takes a second that the rest need not wait."""
    if name == "CTRClassifier":
        from ctrlib.classifier import CTRClassifier

        return CTRClassifier
    raise AttributeError(f"module 'ctrlib' has no attribute '{name}'")
