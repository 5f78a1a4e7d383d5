"""Diagrams of networks: a line of words such as "ids -> embedding -> (first order | MLP) -> sum -> logit", drawn.

    chain  steps joined by "->", from top to bottom
    step   a block of `KINDS`, with a remark in brackets: "cross layer [full map]"
           branches side by side, which meet in the next step: "(chain | chain)"
           a chain that is repeated or shared, in a frame: "{L layers: chain}"
    pass   a branch that hands on what it got

A branch that ends in a loss acts in training alone; it is drawn dashed and joins nothing. The same kind of block has
one look in all diagrams; colours come from the page (`book/assets/gallery.css`), and without it a diagram is drawn in
lines of the text's colour.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ctrlib.errors import SettingError, unknown

KINDS: dict[str, tuple[str, ...]] = {
    "table": ("embedding", "first order"),
    "map": (
        "linear map",
        "row sum",
        "batch norm",
        "layer norm",
        "field norm",
        "dropout",
        "cosine and sine",
        "generator",
        "GRU",
    ),
    "mlp": ("MLP", "MLP layer", "amplifier"),
    "pairs": ("inner products", "pair products", "bilinear products", "bilinear form"),
    "cross": ("cross layer", "gated cross layer", "masked cross layer", "CIN"),
    "attention": ("attention", "graph layer", "rotation", "encoder"),
    "gate": ("gate", "mask", "random mask"),
    "quadratic": ("quadratic layer", "QNN-alpha layers", "gate rows", "factorized layers"),
    "order": ("logarithmic neurons", "powers"),
    "teacher": ("teacher",),
    "loss": ("loss",),
    "join": ("sum", "mean", "product", "concatenation", "weighted sum"),
    "end": ("ids", "logit"),
}
"""The blocks that a diagram may hold, by kind."""

SYMBOLS = {"sum": "+", "mean": "µ", "product": "⊙", "concatenation": "∥", "weighted sum": "Σ"}
PASS = "pass"
_KIND_OF = {block: kind for kind, blocks in KINDS.items() for block in blocks}
_TOKENS = re.compile(r"->|[(){}|]|(?:[^(){}|\[\]-]|-(?!>))+(?:\[[^\]]*\])?")

LETTER, SMALL = 6.9, 5.6  # width of a character of a label and of a remark, in pixels
HEIGHT, NOTED = 24, 36  # of a block without and with a remark
GAP, APART, INSIDE = 18, 12, 10  # between steps, between branches, within a frame
RADIUS = 9  # of a join


@dataclass(frozen=True)
class Block:
    """One step that is drawn as a box, or as a circle where branches meet."""

    label: str
    note: str = ""

    @property
    def kind(self) -> str:
        return _KIND_OF[self.label]


@dataclass(frozen=True)
class Branches:
    """Chains side by side."""

    chains: tuple[Chain, ...]


@dataclass(frozen=True)
class Frame:
    """A chain that is repeated or shared, as its label says."""

    label: str
    chain: Chain


Step = Block | Branches | Frame


@dataclass(frozen=True)
class Chain:
    """Steps from top to bottom; none for a branch that hands on what it got."""

    steps: tuple[Step, ...]

    @property
    def trains(self) -> bool:
        """Whether the chain acts in training alone."""
        last = self.steps[-1] if self.steps else None
        return isinstance(last, Block) and last.kind == "loss"

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, those of branches and frames included."""
        for step in self.steps:
            if isinstance(step, Block):
                yield step
            elif isinstance(step, Frame):
                yield from step.chain.blocks()
            else:
                for chain in step.chains:
                    yield from chain.blocks()


def parsed(text: str) -> Chain:
    """Return what the words describe.

    Raises `SettingError` for a block that is not in `KINDS`, naming the nearest, and for brackets that do not match.
    """
    reader = _Reader(text)
    chain = reader.chain()
    if reader.rest:
        raise SettingError(f"A diagram cannot go on with '{reader.rest[0]}': {text}")
    return chain


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.rest = [" ".join(token.split()) for token in _TOKENS.findall(text) if token.strip()]

    def take(self, wanted: str = "") -> str:
        if not self.rest or (wanted and self.rest[0] != wanted):
            found = f"'{self.rest[0]}'" if self.rest else "the end"
            raise SettingError(f"A diagram needs {wanted or 'a block'} in place of {found}: {self.text}")
        return self.rest.pop(0)

    def chain(self) -> Chain:
        if self.rest[:1] == [PASS]:
            self.take()
            return Chain(())
        steps = [self.step()]
        while self.rest[:1] == ["->"]:
            self.take()
            steps.append(self.step())
        return Chain(tuple(steps))

    def step(self) -> Step:
        token = self.take()
        if token == "(":
            chains = [self.chain()]
            while self.rest[:1] == ["|"]:
                self.take()
                chains.append(self.chain())
            self.take(")")
            return Branches(tuple(chains))
        if token == "{":
            label, colon, first = self.take().partition(":")
            if not colon:
                raise SettingError(f"A frame needs a label and a colon, such as {{L layers: ...}}: {self.text}")
            if first.strip():
                self.rest.insert(0, first.strip())
            frame = Frame(label.strip(), self.chain())
            self.take("}")
            return frame
        label, _, note = token.partition("[")
        return _block(label.strip(), note.removesuffix("]").strip())


def _block(label: str, note: str) -> Block:
    name = "loss" if label.endswith(" loss") else label
    if name not in _KIND_OF:
        raise unknown("block of a diagram", label, [*_KIND_OF, PASS])
    return Block(name, label if name != label else note)


def words(chain: Chain) -> str:
    """Return a diagram as a sentence's worth of words, for those who hear the page."""
    return ", then ".join(_told(step) for step in chain.steps) or "unchanged"


def _told(step: Step) -> str:
    if isinstance(step, Block):
        if step.kind == "loss":
            return step.note or step.label
        return f"{step.label} ({step.note})" if step.note else step.label
    if isinstance(step, Frame):
        return f"{step.label} of: {words(step.chain)};"
    return "side by side: " + " / ".join(words(chain) for chain in step.chains) + ";"


Point = tuple[float, float]


@dataclass
class _Drawing:
    """What is drawn so far, and where it can be entered and left; the origin is its upper left corner."""

    width: float
    height: float
    starts: list[Point]
    ends: list[Point]
    boxes: list[tuple[float, float, float, float, Block, bool]] = field(default_factory=list)
    frames: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    lines: list[tuple[Point, Point, float, bool]] = field(default_factory=list)

    def moved(self, x: float, y: float) -> _Drawing:
        return _Drawing(
            self.width,
            self.height,
            [(a + x, b + y) for a, b in self.starts],
            [(a + x, b + y) for a, b in self.ends],
            [(a + x, b + y, *rest) for a, b, *rest in self.boxes],  # type: ignore[misc]
            [(a + x, b + y, *rest) for a, b, *rest in self.frames],  # type: ignore[misc]
            [((a + x, b + y), (c + x, d + y), t + y, dashed) for (a, b), (c, d), t, dashed in self.lines],
        )

    def take(self, other: _Drawing) -> None:
        self.boxes += other.boxes
        self.frames += other.frames
        self.lines += other.lines


def _drawn(step: Step, dashed: bool) -> _Drawing:
    if isinstance(step, Block):
        return _drawn_block(step, dashed)
    if isinstance(step, Frame):
        return _drawn_frame(step, dashed)
    return _drawn_branches(step, dashed)


def _drawn_block(block: Block, dashed: bool) -> _Drawing:
    if block.kind == "join":
        width, height = 2.0 * RADIUS, 2.0 * RADIUS
        if block.note:  # beside the circle; both sides get the room, so that circles stay in the middle
            width += 2 * (SMALL * len(block.note) + 6)
    else:
        shown = block.note if block.kind == "loss" else block.label
        note = "" if block.kind == "loss" else block.note
        width = max(LETTER * len(shown), SMALL * len(note)) + 16
        width, height = max(width, 44.0), float(NOTED if note else HEIGHT)
    middle = width / 2
    return _Drawing(width, height, [(middle, 0)], [(middle, height)], [(0, 0, width, height, block, dashed)])


def _drawn_frame(frame: Frame, dashed: bool) -> _Drawing:
    inner = _drawn_chain(Chain((Branches((Chain(()),)), *frame.chain.steps)), dashed)  # one entry, which may branch
    width = max(inner.width + 2 * INSIDE, SMALL * len(frame.label) + 2 * INSIDE)
    height = inner.height + 2 * INSIDE
    placed = inner.moved((width - inner.width) / 2, INSIDE)
    placed.frames.append((0, 0, width, height, frame.label))
    placed.width, placed.height = width, height
    return placed


def _drawn_branches(step: Branches, dashed: bool) -> _Drawing:
    parts = [_drawn_chain(chain, dashed or chain.trains) for chain in step.chains]
    whole = _Drawing(-APART, max(part.height for part in parts), [], [])
    for part, chain in zip(parts, step.chains, strict=True):
        placed = part.moved(whole.width + APART, 0)
        whole.take(placed)
        whole.starts += placed.starts
        whole.ends += [] if chain.trains else placed.ends
        whole.width += APART + part.width
    return whole


def _drawn_chain(chain: Chain, dashed: bool = False) -> _Drawing:
    if not chain.steps:
        return _Drawing(16, 0, [(8, 0)], [(8, 0)])
    parts = [_drawn(step, dashed) for step in chain.steps]
    width = max(part.width for part in parts)
    whole = _Drawing(width, 0, [], [])
    for number, (part, step) in enumerate(zip(parts, chain.steps, strict=True)):
        y = whole.height + GAP if number else 0.0
        placed = part.moved((width - part.width) / 2, y)
        whole.take(placed)
        if number:
            training = dashed or (isinstance(step, Block) and step.kind == "loss")
            entered = [(point, training) for point in placed.starts]
            if isinstance(step, Branches):
                entered = [
                    (point, training or one.trains)
                    for one, start in zip(step.chains, _starts(step, placed), strict=True)
                    for point in start
                ]
            turn = whole.height + GAP / 2
            whole.lines += [(a, b, turn, dash) for a in whole.ends for b, dash in entered]
        else:
            whole.starts = placed.starts
        whole.ends = placed.ends
        whole.height = y + part.height
    return whole


def _starts(step: Branches, placed: _Drawing) -> list[list[Point]]:
    """Return the entries of each branch."""
    counts = [len(_drawn_chain(chain).starts) for chain in step.chains]
    points = iter(placed.starts)
    return [[next(points) for _ in range(count)] for count in counts]


def svg(chain: Chain, title: str) -> str:
    """Return the diagram as an inline SVG with `title` and the diagram's words for screen readers."""
    drawing = _drawn_chain(chain)
    width, height = drawing.width + 4, drawing.height + 4
    drawing = drawing.moved(2, 2)
    parts = [f'<rect class="frame" {_box(x, y, w, h)} rx="6"/>' for x, y, w, h, _ in drawing.frames]
    for dashed in (False, True):
        lines = [(a, b, turn) for a, b, turn, dash in drawing.lines if dash == dashed]
        if lines:
            paths = dict.fromkeys(path for a, b, turn in lines for path in _path(a, b, turn))
            kind = ' class="training"' if dashed else ""
            parts.append(f'<path{kind} d="{"".join(paths)}"/>')
    tips = dict.fromkeys(b for _, b, _, _ in drawing.lines)
    passed = {b for b in tips if not _enters(b, drawing)}
    if marks := "".join(f"M{_n(x - 3)} {_n(y - 5)}h6l-3 5z" for x, y in tips if (x, y) not in passed):
        parts.append(f'<path class="tip" d="{marks}"/>')
    parts += [_shape(*box) for box in drawing.boxes]
    texts = [text for box in drawing.boxes for text in _texts(*box)]
    texts += [
        f'<text class="note" x="{_n(x + w - 6)}" y="{_n(y + 13)}" text-anchor="end">{html.escape(label)}</text>'
        for x, y, w, _, label in drawing.frames
    ]
    told = html.escape(f"{title}: {words(chain)}".replace(";,", ";").rstrip(";"))
    return (
        f'<svg class="ctr-net" role="img" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" fill="none" stroke="currentColor"><title>{told}</title>'
        f'{"".join(parts)}<g fill="currentColor" stroke="none" text-anchor="middle">{"".join(texts)}</g></svg>'
    )


def legend() -> dict[str, str]:
    """Return kind -> a small SVG of its look, for a legend."""
    shown = {kind: Chain((Block(blocks[0], blocks[0] if kind == "loss" else ""),)) for kind, blocks in KINDS.items()}
    return {kind: svg(chain, kind) for kind, chain in shown.items()}


def _enters(point: Point, drawing: _Drawing) -> bool:
    """Tell whether a line's end touches a block, not just a branch that passes on."""
    x, y = point
    return any(abs(y - top) < 0.1 and left <= x <= left + w for left, top, w, *_ in drawing.boxes)


def _path(a: Point, b: Point, turn: float) -> list[str]:
    (x1, y1), (x2, y2) = a, b
    if abs(x1 - x2) < 0.5:
        return [f"M{_n(x1)} {_n(y1)}V{_n(y2)}"]
    return [f"M{_n(x1)} {_n(y1)}V{_n(turn)}H{_n(x2)}V{_n(y2)}"]


def _shape(x: float, y: float, width: float, height: float, block: Block, dashed: bool) -> str:
    kind = f"of-{block.kind} training" if dashed or block.kind in ("teacher", "loss") else f"of-{block.kind}"
    if block.kind == "join":
        return f'<circle class="{kind}" cx="{_n(x + width / 2)}" cy="{_n(y + RADIUS)}" r="{RADIUS}"/>'
    round_ = {"end": height / 2, "gate": height / 2, "mlp": 0}.get(block.kind, 4)
    shape = f'<rect class="{kind}" {_box(x, y, width, height)} rx="{_n(round_)}"/>'
    if block.kind == "table":  # a row of fields
        cells = "".join(f"M{_n(x + width * k / 5)} {_n(y + height)}v-4" for k in range(1, 5))
        shape += f'<path d="{cells}"/>'
    if block.kind == "mlp":  # layers
        sides = f"M{_n(x + 4)} {_n(y)}v{_n(height)}M{_n(x + width - 4)} {_n(y)}v{_n(height)}"
        shape += f'<path d="{sides}"/>'
    return shape


def _texts(x: float, y: float, width: float, height: float, block: Block, dashed: bool) -> list[str]:
    middle = _n(x + width / 2)
    if block.kind == "join":
        found = [f'<text x="{middle}" y="{_n(y + RADIUS + 4)}">{SYMBOLS[block.label]}</text>']
        if block.note:
            place = f'x="{_n(x + width / 2 + RADIUS + 4)}" y="{_n(y + RADIUS + 4)}"'
            found.append(f'<text class="note" {place} text-anchor="start">{html.escape(block.note)}</text>')
        return found
    shown, note = (block.note, "") if block.kind == "loss" else (block.label, block.note)
    found = [f'<text x="{middle}" y="{_n(y + 16)}">{html.escape(shown)}</text>']
    if note:
        found.append(f'<text class="note" x="{middle}" y="{_n(y + 29)}">{html.escape(note)}</text>')
    return found


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
