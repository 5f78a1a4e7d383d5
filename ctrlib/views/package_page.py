"""The page on the package: public functions and classes with their signatures, straight from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from ctrlib import data, khatri_rao, lab, losses, models, neurons, train
from ctrlib.classifier import CTRClassifier
from ctrlib.errors import unknown
from ctrlib.lab import stats, tables
from ctrlib.paths import root

SECTIONS: dict[str, tuple[Any, ...]] = {
    "data": (data.load_dataset, data.load_table, data.Field, data.Schema, data.CTRDataset, data.Split),
    "systems": (models.build_model, models.CTRModel, models.ModelSettings, models.ModelEntry),
    "layers and losses": (
        neurons.NeuronLayer,
        khatri_rao.MultiHeadKhatriRao,
        losses.self_ensemble_loss,
        losses.distillation_loss,
    ),
    "training": (
        train.Protocol,
        train.fit,
        train.FitResult,
        train.evaluate,
        train.predict,
        train.save_weights,
        train.load_model,
    ),
    "grids": (
        lab.Grid,
        lab.Run,
        lab.run_grid,
        lab.load_records,
        lab.frame,
        tables.paired_table,
        stats.paired,
        stats.verdict,
    ),
    "estimator": (CTRClassifier,),
}
WIDTH = 88
"""Characters of a signature's line."""
COLUMN = re.compile(r"(\w+) {2,}(\S.*)")


class Package:
    """The page's entries. where: what `repository` gave, for links to the code; without it there are none."""

    def __init__(self, where: Mapping[str, str] | None = None) -> None:
        self.code = f"{where['address']}/blob/{where['branch']}" if where else ""

    def section(self, name: str) -> Markdown:
        """Return the entries of a section. Raises `SettingError` for an unknown one."""
        if name not in SECTIONS:
            raise unknown("section of the package", name, SECTIONS)
        return Markdown("\n\n".join(self._entry(thing) for thing in SECTIONS[name]))  # type: ignore[no-untyped-call]

    def _entry(self, thing: Any) -> str:
        name = thing.__name__
        lines = [
            f'<div id="api-{name}" class="ctr-entry"></div>',
            f"**`{name}`** from `{_module(thing)}`{self._link(thing)}",
            f"```python\n{signature(thing)}\n```",
            prose(_listed(inspect.cleandoc(thing.__doc__))),
        ]
        return "\n\n".join(lines + _methods(thing))

    def _link(self, thing: Any) -> str:
        if not self.code:
            return ""
        thing = inspect.unwrap(thing)
        file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
        path = Path(str(file)).resolve().relative_to(root())
        return f", [code]({self.code}/{path.as_posix()}#L{line})"


def _module(thing: Any) -> str:
    """Return where a person imports a thing from: the shortest name of a room that exports it."""
    parts = thing.__module__.split(".")
    for count in range(1, len(parts) + 1):
        module = __import__(".".join(parts[:count]), fromlist=["_"])
        if getattr(module, thing.__name__, None) is thing:
            return ".".join(parts[:count])
    return str(thing.__module__)


def signature(thing: Any, name: str = "") -> str:
    """Return a function's or a class's signature, on several lines where one would be too long."""
    told = inspect.signature(thing)
    words: list[str] = []
    keyword = False
    for parameter in told.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            words.append("*")
            keyword = True
        keyword = keyword or parameter.kind is parameter.VAR_POSITIONAL
        words.append(_parameter(parameter))
    returned = "" if told.return_annotation is told.empty or inspect.isclass(thing) else told.return_annotation
    arrow = f" -> {_annotation(returned)}" if returned else ""
    name = name or thing.__name__
    line = f"{name}({', '.join(words)}){arrow}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" * (parameter.kind is parameter.VAR_KEYWORD)
    typed = parameter.annotation is not parameter.empty
    text = f"{stars}{parameter.name}" + (f": {_annotation(parameter.annotation)}" if typed else "")
    if parameter.default is parameter.empty:
        return text
    default = repr(parameter.default) if "<" not in repr(parameter.default) else "..."  # a factory
    return f"{text} = {default}" if typed else f"{text}={default}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _methods(thing: Any) -> list[str]:
    """Return one line for each public method and property that a class defines and describes."""
    lines = []
    for name, member in vars(thing).items() if inspect.isclass(thing) else ():
        method = getattr(member, "__func__", member)
        if name.startswith("_") or not getattr(method, "__doc__", None):
            continue
        first = prose(inspect.cleandoc(method.__doc__).split("\n\n")[0])
        if isinstance(member, property):
            lines.append(f"- `.{name}`: {first}")
        elif inspect.isfunction(method):
            called = " ".join(signature(method, f".{name}").replace(",\n)", "\n)").split())
            bare = called.replace("( ", "(").replace(" )", ")").replace("(cls, ", "(").replace("(cls)", "()")
            lines.append(f"- `{bare}`: {first}")
    return ["\n".join(lines)] if lines else []


def _listed(text: str) -> str:
    """Return a docstring whose columns, a name and what is told of it, have become a list."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if column := COLUMN.fullmatch(line):
            lines += ([] if inside else [""]) + [f"- `{column[1]}`: {column[2]}"]
            inside = True
        elif inside and line.startswith("  "):
            lines.append(f"  {line.strip()}")
        else:
            inside = False
            lines.append(line)
    return "\n".join(lines)


def prose(text: str) -> str:
    """Return a docstring as Markdown: what is neither code nor formula keeps its stars and brackets."""
    pieces = re.split(r"(\$\$.*?\$\$|\$[^$]+\$|`[^`]+`)", text, flags=re.DOTALL)
    return "".join(piece if k % 2 else re.sub(r"([*<_\[\]])", r"\\\1", piece) for k, piece in enumerate(pieces))
