"""How the model gallery looks: overview, cards and diagrams as HTML (`ctrlib.views.gallery` says what is in them).

The page's script and colours are `book/assets/gallery.js` and `gallery.css`; without them all cards are there, closed.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from torch import nn

from ctrlib.errors import unknown
from ctrlib.figures import Table
from ctrlib.lab.experiments import EXPERIMENTS
from ctrlib.lab.overall import EXPERIMENT
from ctrlib.models import MODELS, CTRModel, ModelSettings
from ctrlib.models.dnn import DNNSettings
from ctrlib.models.sfg import SFGCross
from ctrlib.neurons import FORMATS
from ctrlib.views import diagrams
from ctrlib.views.gallery import (
    CONDITIONS,
    COUNTED,
    FAMILIES,
    NEURONS,
    OF_OTHERS,
    Card,
    cards,
    counted_settings,
    describe,
    family_of,
    left_out,
    parameters,
    schemas,
)
from ctrlib.views.words import setting

LEGEND = {
    "table": "a look-up table",
    "map": "a map, a norm, a function",
    "mlp": "a multilayer perceptron",
    "pairs": "products of pairs of fields",
    "cross": "explicit interactions, layer by layer",
    "attention": "fields look at each other",
    "gate": "weights that depend on the input",
    "quadratic": "quadratic neurons",
    "order": "products of learned powers",
    "teacher": "another model, trained before",
    "loss": "in training alone",
    "join": "branches meet: + sum, µ mean, ⊙ product, ∥ side by side, Σ weighted",
}
OTHER_FORMS: dict[str, dict[str, type[CTRModel]]] = {"SFG": {'host="DCNv2"': SFGCross}}
"""Forms of a system that are a class of their own."""
LINE = 42
"""Characters of an equation that fit beside a diagram."""
SHARED_BY = 4
"""Parts of so many systems are explained once, before the cards."""
NO_BREAK = "\N{NO-BREAK SPACE}"
OVERALL = EXPERIMENTS[EXPERIMENT].chapter


class Gallery:
    """The page's tables and cards. where: what `repository` gave, for links to the code; without it paths are shown."""

    def __init__(self, where: Mapping[str, str] | None = None) -> None:
        self.code = f"{where['address']}/blob/{where['branch']}" if where else ""
        self.cards = cards()
        uses: dict[type[nn.Module], int] = {}
        for card in self.cards:
            for part in card.parts:
                uses[part] = uses.get(part, 0) + 1
        self.shared = [part for part, count in uses.items() if count >= SHARED_BY]

    def legend(self) -> Table:
        """Return what the blocks of a diagram look like."""
        looks = diagrams.legend()
        entries = "".join(f"<li>{looks[kind]} <span>{html.escape(told)}</span></li>" for kind, told in LEGEND.items())
        text = "\n".join(f"{kind}: {told}" for kind, told in LEGEND.items())
        return Table(f'<div class="ctr-gallery"><ul class="ctr-legend">{entries}</ul></div>', text)

    def overview(self) -> Table:
        """Return the table of all systems, sortable, with a menu of schemas and buttons for the families."""
        data = sorted(set(self._all("results")["dataset"])) if len(self._all("results")) else []
        heads = [("system", ""), ("family", ""), ("parameters", "number"), ("ms a step", "number")]
        heads += [head for name in data for head in ((f"AUC %, {name}", "number"), ("±", "number"))]
        heads += [("most seeds", "number")]
        head = "".join(
            f'<th scope="col"{" class=number data-type=number" if kind else ""}>{html.escape(text)}</th>'
            for text, kind in heads
        )
        rows = "".join(self._row(card, data) for card in self.cards)
        menu = "".join(
            f"<option value={k}>{html.escape(name)}: {schema.num_fields} fields, {schema.table_rows:,} ids</option>"
            for k, (name, schema) in enumerate(schemas().items())
        )
        buttons = '<button type="button" aria-pressed="true" data-family="">all</button>' + "".join(
            f'<button type="button" aria-pressed="false" data-family="{name}">{name}</button>' for name in FAMILIES
        )
        caption = (
            "All systems. Parameters, and ms a step of training on 4,096 rows of Frappe, are those of the overall "
            "table's settings on Frappe; of a system that is not in that table, of the default settings. AUC, with "
            "half its 95 % interval over seeds, is from the overall table or the chapter beside it. *: the runs had "
            "other settings than the parameters, which the card tells. A dash: not measured; the figures of the "
            f"neuron formats are on their card.{self._devices()}"
        )
        return Table(
            f'<div class="ctr-gallery"><div class="ctr-controls" hidden><label>Parameters for <select>{menu}</select>'
            f'</label><div role="group" aria-label="Family">{buttons}</div><span role="status"></span></div>'
            f'<div class="ctr-table"><div class="ctr-scroll"><table><caption>{caption}</caption><thead><tr>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div></div></div>",
            "\n".join(f"{card.name}: {family_of(card.name)}" for card in self.cards),
        )

    def family(self, name: str) -> Table:
        """Return the cards of a family. Raises `SettingError` for an unknown one."""
        if name not in FAMILIES:
            raise unknown("family", name, FAMILIES)
        chosen = [card for card in self.cards if card.name in FAMILIES[name]]
        body = "".join(self._card(card) for card in chosen)
        return Table(
            f'<div class="ctr-gallery ctr-cards" data-family="{name}">{body}</div>',
            "\n\n".join("\n".join([card.name, *card.description.equations]) for card in chosen),
        )

    def parts(self) -> Table:
        """Return the parts that many systems share."""
        items = "".join(_part(part, shared=True) for part in sorted(self.shared, key=lambda part: part.__name__))
        return Table(f'<div class="ctr-gallery ctr-shared">{items}</div>', ", ".join(p.__name__ for p in self.shared))

    def settings(self) -> Table:
        """Return what is told of the settings that many systems share."""
        items = "".join(
            f"<div>{_prose(inspect.cleandoc(cls.__doc__ or ''))}</div>" for cls in (ModelSettings, DNNSettings)
        )
        return Table(f'<div class="ctr-gallery ctr-shared">{items}</div>', "")

    def _devices(self) -> str:
        """Say on which devices the times of the page were measured."""
        names = dict.fromkeys([*self._all("steps")["device_name"], *self._all("latencies")["device_name"]])
        return f" All times are of: {html.escape(', '.join(names))}." if names else ""

    def _all(self, what: str) -> pd.DataFrame:
        rows: list[pd.DataFrame] = [getattr(card, what) for card in self.cards]
        return pd.concat(rows)

    def _row(self, card: Card, data: Iterable[str]) -> str:
        step = _own(card.steps, card.label)
        step = step[step["group"] == "overall"] if len(step) else step
        cells = [_link(card.name), html.escape(family_of(card.name)), _counts(card.counts, "td")]
        cells.append(_number(float(step["step"].iloc[0]) if len(step) else None, ".0f"))
        mine = card.results[card.results["label"] == card.label]
        for name in data:
            found = mine[mine["dataset"] == name]
            auc = 100 * float(found["test_auc"].iloc[0]) if len(found) else None
            half = 50 * float((found["test_auc_high"] - found["test_auc_low"]).iloc[0]) if len(found) else None
            notes = "".join(map(_notes, found.to_dict("records")))
            cells += [_number(auc, ".2f", notes), _number(half, ".2f")]
        cells.append(_number(float(mine["seeds"].max()) if len(mine) else None, ".0f"))
        row = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
        return f'<tr data-family="{family_of(card.name)}">{row}</tr>'

    def _card(self, card: Card) -> str:
        told = card.description
        facts = f"{_counts(card.counts)} parameters" if card.counts else f"{len(FORMATS)} layers"
        head = f'<span role="heading" aria-level="3">{html.escape(card.name)}</span> <span>{facts}</span>'
        drawn = diagrams.svg(diagrams.parsed(told.structure), card.name)
        entries = {
            "Parameters": _inline(_capital(told.parameters)) + _all_counts(card),
            "Speed": _speed(card),
            "Results": self._results(card),
            "Settings": _settings(card),
            "Parts": self._parts(card),
            "Paper and code": _inline(_capital(told.differences)),
            "Source": _inline(_capital(told.source)),
            "Code": self._code(card),
        }
        listed = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in entries.items() if text)
        others = "".join(_other_form(when, cls) for when, cls in OTHER_FORMS.get(card.name, {}).items())
        formats = _formats(card.results) if card.name == NEURONS else ""
        anchor = html.escape(f"model-{card.name.replace(' ', '-')}")
        return (
            f'<details class="ctr-card" id="{anchor}"><summary>{head}</summary>'
            f'<a class="ctr-perma" href="#{anchor}" aria-label="Link to this card" title="Link to this card">#</a>'
            f"{_two(_paragraphs(told.prose), drawn)}{formats}{others}"
            f"<dl>{listed}</dl></details>"
        )

    def _results(self, card: Card) -> str:
        if card.name == NEURONS and len(card.results):
            chapter = card.results["chapter"].iloc[0]
            return f"In the table of all formats above, from {_chapter(chapter)}."
        told = []
        for row in card.results.to_dict("records"):
            mean, low, high = (100 * row[f"test_auc{end}"] for end in ("", "_low", "_high"))
            auc = _interval(mean, low, high, ".2f", " %")
            failed = f", {row['failed']} failed" if row["failed"] else ""
            seeds = f"{row['seeds']} seed{'s' if row['seeds'] != 1 else ''}"
            where = f" ({_chapter(row['chapter'])})" if row["chapter"] != OVERALL else ""
            settings = f", with {_written(row['settings'])}" if row["settings"] else ""
            told.append(
                f"{html.escape(row['label'])} on {html.escape(row['dataset'])}{where}: test AUC {auc}, {seeds}{failed}"
                f"{settings}"
            )
        listed = "".join(f"<li>{line}.</li>" for line in told) or "<li>Not measured.</li>"
        links = ", ".join(f'<a href="../chapters/{name}.html">{int(name[:2])}</a>' for name in card.chapters)
        where = f"<li>Its runs: chapter{'s' if len(card.chapters) > 1 else ''} {links}.</li>" if links else ""
        return f"<ul>{listed}{where}</ul>"

    def _parts(self, card: Card) -> str:
        own = "".join(_part(part) for part in card.parts if part not in self.shared)
        shared = [part for part in card.parts if part in self.shared]
        links = ", ".join(f'<a href="#part-{part.__name__}"><code>{part.__name__}</code></a>' for part in shared)
        return own + (f"<p>{'Also ' if own else ''}{links}.</p>" if links else "")

    def _code(self, card: Card) -> str:
        path = f"<code>{card.path}</code>"
        shown = f'<a href="{html.escape(self.code)}/{card.path}">{path}</a>' if self.code else path
        name = next(iter(FORMATS)) if card.name == NEURONS else card.name
        given = "".join(f", {key}={value!r}" for key, value in COUNTED.get(card.name, {}).items())
        return f"{shown}, class <code>{type(card.model).__name__}</code>: " + (
            f"<code>build_model({html.escape(f'{name!r}, schema{given}', quote=False)})</code>"
        )


def _own(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of a label, those of the overall table first."""
    found = rows[rows["label"] == label] if len(rows) else rows
    return found.sort_values("group") if len(found) else found


def _link(name: str) -> str:
    return f'<a href="#{html.escape("model-" + name.replace(" ", "-"))}">{html.escape(name)}</a>'


def _counts(counts: tuple[int, ...], tag: str = "span") -> str:
    """Return parameters of the first schema, with the others for the page's script."""
    if not counts:
        return '<td class="number" data-value="">&ndash;</td>'
    values = "|".join(map(str, counts))
    more = f' class="number" data-value="{counts[0]}"' if tag == "td" else ""
    return f'<{tag}{more} data-counts="{values}">{counts[0]:,}</{tag}>'


def _all_counts(card: Card) -> str:
    """Return a card's parameters for each schema with the settings at which they are counted."""
    told = [f"{name} {count:,}" for name, count in zip(schemas(), card.counts, strict=False)]
    settings = counted_settings(card.name)
    at = f"With {_written(settings)}, as in the overall table on Frappe" if settings else "With the default settings"
    at += "".join(f", without {name}, whose tables depend on the data" for name in left_out(card.name))
    return f"<p>{at}: {html.escape('; '.join(told))}.</p>" if told else ""


def _written(settings: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name}={_value(value)}" for name, value in settings.items() if name not in OF_OTHERS)
    return f"<code>{html.escape(told, quote=False)}</code>"


def _chapter(name: str) -> str:
    return f'<a href="../chapters/{name}.html">chapter {int(name[:2])}</a>'


def _notes(row: Mapping[Any, Any]) -> str:
    """Return what stands beside a result: a star where its settings are its own, the chapter where it is not usual."""
    return ("*" if row["settings"] else "") + (
        f" <small>{_chapter(row['chapter'])}</small>" if row["chapter"] != OVERALL else ""
    )


def _number(value: float | None, digits: str, notes: str = "") -> str:
    if value is None or pd.isna(value):
        return '<td class="number" data-value="">&ndash;</td>'
    return f'<td class="number" data-value="{value:.6g}">{value:{digits}}{notes}</td>'


def _interval(value: float, low: float, high: float, digits: str, unit: str) -> str:
    interval = "" if pd.isna(low + high) else f" [{low:{digits}}, {high:{digits}}]"
    return f"{value:{digits}}{unit}{interval}"


def _speed(card: Card) -> str:
    """Return the measured times with their settings, those of the same conditions together."""
    told = [
        *_timed(card, card.steps, "Training step on {batch:,} rows of Frappe", _step),
        *_timed(card, card.latencies, "Scoring 100 rows, {batch:,} at a time", _latency),
    ]
    return f"<ul>{''.join(told)}</ul>" if told else "Not measured."


def _timed(card: Card, rows: pd.DataFrame, what: str, told: Callable[[Mapping[Any, Any]], str]) -> Iterator[str]:
    """Yield an item for each batch and conditions, a line for each row; labels are told unless all are the card's."""
    for (batch, _, precision, threads), part in rows.groupby(["batch", *CONDITIONS], sort=False):
        where = f"{precision}, {threads} thread{'s' if threads != 1 else ''}"
        named = set(part["label"]) != {card.name}
        lines = [
            f"<li>{html.escape(row['label']) + ', ' if named else ''}{told(row)}.</li>"
            for row in part.to_dict("records")
        ]
        yield f"<li>{what.format(batch=batch)}, {where}:<ul>{''.join(lines)}</ul></li>"


def _step(row: Mapping[Any, Any]) -> str:
    time = _interval(row["step"], row["low"], row["high"], ".0f", " ms")
    return f"{_written(row['settings'])}{' (overall table)' if row['group'] == 'overall' else ''}: {time}"


def _latency(row: Mapping[Any, Any]) -> str:
    time = _interval(row["latency"], row["low"], row["high"], ".3g", " ms")
    return f"{html.escape(row['data'])}, {row['parameters']:,} parameter{'s' if row['parameters'] != 1 else ''}: {time}"


def _settings(card: Card) -> str:
    """Return the settings' text and all defaults."""
    cls = type(card.model.settings)
    text = inspect.cleandoc(cls.__doc__ or "") if cls not in (ModelSettings, DNNSettings) else ""
    values = dataclasses.asdict(MODELS[next(iter(FORMATS)) if card.name == NEURONS else card.name].settings())
    listed = ", ".join(f"<code>{name}={html.escape(_value(value))}</code>" for name, value in values.items())
    return f"{_prose(text)}<p class=ctr-defaults>{listed}</p>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping) or (isinstance(value, list | tuple) and value and not isinstance(value[0], int)):
        return str(value)
    return str(setting(value)) if value not in ((), []) else "none"


def _part(cls: type[nn.Module], shared: bool = False) -> str:
    """Return a part's name and equations; a shared one is what cards link to."""
    told = describe(cls)
    equations = "".join(_display(equation) for equation in told.equations)
    first = _inline(told.prose[0]) if "$$" not in told.prose[0] else ""
    anchor = f' id="part-{cls.__name__}"' if shared else ""
    return f'<div class="ctr-part"{anchor}><code>{cls.__name__}</code> {first}{equations}</div>'


def _other_form(when: str, cls: type[CTRModel]) -> str:
    told = describe(cls)
    drawn = diagrams.svg(diagrams.parsed(told.structure), when)
    prose = _paragraphs(told.prose) + f"<p>Parameters: {_inline(told.parameters)}</p>"
    return f"<p>With <code>{html.escape(when)}</code>:</p>{_two(prose, drawn)}"


def _two(text: str, drawn: str) -> str:
    return f'<div class="ctr-two"><div>{text}</div><div class="ctr-drawn" tabindex="0">{drawn}</div></div>'


def _formats(results: pd.DataFrame) -> str:
    """Return the equations of all neuron formats, folded, each with a link of its own, its size and its results."""
    data = sorted(set(results["dataset"])) if len(results) else []
    sides = [(name, side) for name in data for side in ("none", "relu")]
    found = {(row["label"], row["dataset"]): row for row in results.to_dict("records")}
    rows = "".join(
        f'<tr id="model-{name}"><th scope="row"><a href="#model-{name}">{name}</a></th>'
        f'<td><span class="ctr-math notranslate">\\({html.escape(form.latex)}\\)</span></td>'
        f"<td>{html.escape(form.like) or '&ndash;'}</td>{_counts(parameters(name), 'td')}"
        f"{''.join(_of_format(found.get((f'{name}.{side}', where))) for where, side in sides)}</tr>"
        for name, form in FORMATS.items()
    )
    heads = ["parameters", *(f"AUC %, {name}{', ReLU' if side == 'relu' else ''}" for name, side in sides)]
    numbers = "".join(f'<th scope="col" class="number">{html.escape(head)}</th>' for head in heads)
    told = (
        f"<p>Parameters and AUC are those of the default settings; AUC is the mean over seeds from "
        f"{_chapter(results['chapter'].iloc[0])}, with half its 95 % interval, and the number of seeds in brackets.</p>"
        if len(results)
        else "<p>Parameters are those of the default settings.</p>"
    )
    return (
        '<details class="ctr-formats"><summary>The equations of all formats</summary><div class="ctr-scroll"><table>'
        '<thead><tr><th scope="col">format</th><th scope="col">layer</th><th scope="col">like</th>'
        f"{numbers}</tr></thead><tbody>{rows}</tbody></table></div>{told}</details>"
        '<p>Which of them need a ReLU: <a href="../chapters/01_activation.html">the chapter on activations</a>.</p>'
    )


def _of_format(row: Mapping[Any, Any] | None) -> str:
    """Return the cell of a format's result: mean, half the interval, seeds."""
    if row is None or not row["seeds"]:
        return '<td class="number">&ndash;</td>'
    half = 50 * (row["test_auc_high"] - row["test_auc_low"])
    spread = "" if pd.isna(half) else f" ± {half:.2f}"
    told = f"{100 * row['test_auc']:.2f}{spread} ({row['seeds']})".replace(" ", NO_BREAK)
    return f'<td class="number">{told}</td>'


def _paragraphs(prose: Iterable[str]) -> str:
    """Return a docstring's prose as HTML; a reader of the card knows the shape of what comes out."""
    text = "\n\n".join(prose)
    return _prose(re.sub(r"^Logits \(B,\)(?:\.|(?=\W))", lambda found: "" if found[0][-1] == "." else "Logits", text))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _prose(text: str) -> str:
    """Return paragraphs with displayed equations as HTML."""
    found = []
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        pieces = re.split(r"\$\$(.*?)\$\$", paragraph, flags=re.DOTALL)
        for number, piece in enumerate(pieces):
            if number % 2:
                found.append(_display(piece))
            elif piece.strip():
                found.append(f"<p>{_inline(piece)}</p>")
    return "".join(found)


def _display(equation: str) -> str:
    lines = _lines(" ".join(equation.split()))
    set_ = lines[0] if len(lines) == 1 else r"\begin{gathered}" + r"\\".join(lines) + r"\end{gathered}"
    return f'<div class="ctr-math notranslate">\\[{html.escape(set_)}\\]</div>'


def _lines(equation: str) -> list[str]:
    """Return an equation cut where there is a space between its statements, so that each line fits beside a diagram."""
    lines: list[str] = []
    for piece in re.split(r"\\q?quad(?![a-z])", equation):
        whole = rf"{lines[-1]}\quad {piece.strip()}" if lines else ""
        open_ = bool(lines) and (lines[-1].count("{") != lines[-1].count("}") or _is_word(lines[-1], piece))
        if lines and (open_ or _width(whole) <= LINE):
            lines[-1] = whole
        else:
            lines.append(piece.strip())
    return lines


def _is_word(before: str, after: str) -> bool:
    """Tell whether the space is one beside a word such as "or"."""
    return after.strip().startswith(r"\text{") or bool(re.search(r"\\text\{[^}]*\}$", before))


def _width(equation: str) -> int:
    """Return about how many characters of an equation are seen."""
    bare = re.sub(r"\\(?:cos|sin|exp|max)(?![a-z])", "abc", equation)
    bare = re.sub(r"\\(?:mathrm|mathcal|mathbb|big|Big|tfrac|,|\|)", "", bare)
    return len(re.sub(r"[{}_^\s]", "", re.sub(r"\\[A-Za-z]+", "x", bare)))


def _inline(text: str) -> str:
    """Return text with formulas between dollar signs and code between backticks as HTML."""
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`)", " ".join(text.split()))
    found = []
    for piece in pieces:
        if piece.startswith("$"):
            found.append(f'<span class="ctr-math notranslate">\\({html.escape(piece[1:-1])}\\)</span>')
        elif piece.startswith("`"):
            found.append(f"<code>{html.escape(piece[1:-1])}</code>")
        else:
            found.append(html.escape(piece, quote=False))
    return "".join(found)
