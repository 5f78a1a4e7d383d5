"""The house: data flows one way, importing ctrlib needs little, and the project keeps to itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ctrlib"
ORDER = [
    ["errors", "paths", "seeds", "typed"],
    ["data"],
    ["layers"],
    ["neurons", "khatri_rao", "losses"],
    ["models"],
    ["ds_mlp", "eckd"],
    ["train", "plane"],
    ["classifier"],
    ["lab", "scoring"],
    ["figures", "bench", "repository"],
    ["views"],
    ["book"],
    ["cli"],
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of ctrlib that a file imports from, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "ctrlib":
            names += [f"ctrlib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.split(".")[1] for name in names if name.startswith("ctrlib.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_what_comes_before_it(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = {other for other in imported_rooms(path) if RANK[other] > RANK[room]}
    assert not wrong, f"{room} imports from {wrong}, which come after it"


WITHOUT_EXTRAS = """
import sys
extras = "plotly tqdm polars papermill jupytext pyarrow safetensors IPython contourpy numba"
for name in extras.split():
    sys.modules[name] = None  # importing it now fails
import pandas as pd
import ctrlib.lab, ctrlib.plane, ctrlib.classifier
from ctrlib import Protocol, build_model, fit, load_table
table = pd.DataFrame({"a": [1, 2, 3, 4] * 50, "b": [1, 2, 3, 4, 5] * 40, "y": [0, 1, 1, 0, 1] * 40})
data = load_table(table, label="y", fields=["a", "b"])
print(fit(build_model("T9", data.schema), data, Protocol(max_epochs=1)).epochs[0].epoch)
"""


def test_importing_and_training_needs_only_the_core_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_EXTRAS]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert found.stdout.strip() == "1", found.stderr


def test_public_names_stay() -> None:
    import ctrlib

    promised = ["load_dataset", "build_model", "MODELS", "FORMATS", "fit", "evaluate", "Protocol", "Grid", "run_grid"]
    assert all(hasattr(ctrlib, name) for name in promised)


@pytest.mark.parametrize("oldest", ["3.11.0", "3.12.0"])
def test_every_pin_installs_on_the_oldest_python_of_each_series(oldest: str) -> None:
    """Distributions keep their first patch release for years; a pin that asks for a later one fails there."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf8").splitlines()
    names = [line.split("==")[0] for line in lines if "==" in line]
    asked = {name: metadata(name)["Requires-Python"] for name in names}
    refused = {name: range_ for name, range_ in asked.items() if range_ and oldest not in SpecifierSet(range_)}
    assert names and not refused, f"not on Python {oldest}: {refused}; pin an earlier version"
