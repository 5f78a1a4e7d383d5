r"""Quadratic neuron formats: one layer each, written as an equation that is both run and printed.

Source: QNN-alpha paper, Table 1 (T1 to T25), the authors' code (T26 to T30, not in the paper), DCNv2
(CrossNetV2) and a plain linear layer (MLP).

A format is data. `output` is an expression in the layer input `x`, the network input `x0`, and the format's
maps; `where` names the equal chunks of one map's output. `NeuronFormat.function` compiles the expression,
`NeuronFormat.latex` prints the same expression, so the table in the book cannot differ from what is trained.

Widths are given in units of the layer's input and output width (both d, except for MLP). `W(x)` is an affine
map with bias, `B(x, x)` a bilinear form, `alpha` a vector of length d that starts at one. A product followed by
a sum, `a * b + c`, runs as one fused operation.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ctrlib.errors import SettingError
from ctrlib.layers import Bilinear, add_product, residual_product

HALF = Fraction(1, 2)
Widths = tuple[Fraction | int, Fraction | int]
ONE_MAP: dict[str, Widths] = {"W": (1, 1)}
TWO_ROWS: dict[str, Widths] = {"W": (1, 2)}


def concat(*parts: Tensor) -> Tensor:
    """Join tensors (B, *) along their last axis."""
    return torch.cat(parts, dim=-1)


def _chunks(x: Tensor, count: int) -> tuple[Tensor, ...]:
    return x.chunk(count, dim=-1)


class _Fuse(ast.NodeTransformer):
    """Turn a * b + c into add_product(c, a, b), x * W(x) + x into residual_product(x, W): fewer passes over memory."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        product = node.left
        if not (isinstance(node.op, ast.Add) and isinstance(product, ast.BinOp)):
            return node
        if not isinstance(product.op, ast.Mult) or isinstance(product.left, ast.Constant):
            return node
        match product.left, product.right, node.right:
            case ast.Name(id=x), ast.Call(func=ast.Name() as linear, args=[ast.Name(id=inner)]), ast.Name(id=rest) if (
                x == inner == rest and linear.id not in OPERATIONS
            ):
                return ast.Call(ast.Name("residual_product", ast.Load()), [node.right, linear], [])
        return ast.Call(ast.Name("add_product", ast.Load()), [node.right, product.left, product.right], [])


OPERATIONS: dict[str, Any] = {
    "add_product": add_product,
    "chunks": _chunks,
    "concat": concat,
    "relu": torch.relu,
    "residual_product": residual_product,
}


@dataclass(frozen=True)
class NeuronFormat:
    """One layer x (B, in) -> (B, out), given by an equation.

    name: as in Table 1. output, where: the equation. maps: input and output width of each affine map, in units
    of the layer's widths. bilinear: the format has a tensor B and runs at the compressed width. like: the
    published model that the paper compares it with. in_paper: False for the authors' unpublished formats.
    """

    name: str
    output: str
    maps: dict[str, Widths] = field(default_factory=dict)
    where: str = ""
    bilinear: bool = False
    scale_vector: bool = False
    like: str = ""
    in_paper: bool = True

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        """Return f(x, x0, **maps) for the equation."""
        body = f"    return {self.output}\n"
        if self.where:
            names, source = (part.strip() for part in self.where.split("="))
            count = names.count(",") + 1
            source = f"chunks({source}, {count})" if count > 1 else source
            body = f"    {names} = {source}\n{body}"
        arguments = ", ".join(["x", "x0", *self.arguments])
        tree = _Fuse().visit(ast.parse(f"def layer({arguments}):\n{body}"))
        names_in_scope = dict(OPERATIONS)
        exec(compile(ast.fix_missing_locations(tree), f"<neuron format {self.name}>", "exec"), names_in_scope)
        return names_in_scope["layer"]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the function out of a pickle; it is made again from the equation."""
        return {name: value for name, value in vars(self).items() if name != "function"}

    @property
    def arguments(self) -> list[str]:
        """Names of the maps and parameters in the equation."""
        return [*self.maps, *(["B"] if self.bilinear else []), *(["alpha"] if self.scale_vector else [])]

    @property
    def latex(self) -> str:
        """The equation for the book, made from the expression that runs."""
        text = _latex(ast.parse(self.output, mode="eval").body)
        if self.where:
            names, source = (part.strip() for part in self.where.split("="))
            left = names if "," not in names else f"({names})"
            text += rf",\quad {left} = {_latex(ast.parse(source, mode='eval').body)}"
        return text

    def check_width(self, width: int) -> None:
        """Raise `SettingError` when `width` cannot be cut into the chunks that the format needs."""
        pieces = [Fraction(part) * width for shape in self.maps.values() for part in shape]
        chunks = self.where.count(",") + 1 if "," in self.where else 1
        pieces += [Fraction(self.maps["W"][1]) * width / chunks] if chunks > 1 and "W" in self.maps else []
        if any(piece.denominator != 1 for piece in pieces):
            raise SettingError(f"Format {self.name} needs an even width, got {width}. Change embedding_dim.")


class NeuronLayer(nn.Module):
    """The layer of one format: x (B, in_width), x0 (B, in_width) -> (B, out_width)."""

    def __init__(self, form: NeuronFormat, in_width: int, out_width: int | None = None) -> None:
        super().__init__()
        self.form = form
        out_width = in_width if out_width is None else out_width
        form.check_width(in_width)
        for name, (fan_in, fan_out) in form.maps.items():
            self.add_module(name, nn.Linear(int(fan_in * in_width), int(fan_out * out_width)))
        if form.bilinear:
            self.B = Bilinear(in_width, out_width)
        if form.scale_vector:
            self.alpha = nn.Parameter(torch.ones(in_width))

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        return self.form.function(x, x0, **{name: getattr(self, name) for name in self.form.arguments})

    def extra_repr(self) -> str:
        return f"{self.form.name}: {self.form.output}"


def _latex(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=0.5):
            return r"\tfrac12"
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id="alpha"):
            return r"\alpha"
        case ast.Name(id=name):
            return name if len(name) == 1 else f"{name[0]}_{name[1:]}"
        case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
            return rf"{_grouped(base)}^{{\odot {_latex(exponent)}}}"
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            sign = r"\," if isinstance(left, ast.Constant) else r" \odot "
            return _grouped(left) + sign + _grouped(right)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return f"{_latex(left)} + {_latex(right)}"
        case ast.Call(func=ast.Name(id="relu"), args=[inner]):
            return rf"\rho({_latex(inner)})"
        case ast.Call(func=ast.Name(id="concat"), args=parts):
            return r"[\," + r" \,\|\, ".join(map(_latex, parts)) + r"\,]"
        case ast.Call(func=ast.Name(id="B"), args=parts):
            return rf"\mathcal B({', '.join(map(_latex, parts))})"
        case ast.Call(func=func, args=[ast.Name() as inner]):
            return f"{_latex(func)} {_latex(inner)}"
        case ast.Call(func=func, args=[inner]):
            text = _latex(inner)
            brackets = isinstance(inner, ast.BinOp)
            return f"{_latex(func)}({text})" if brackets else rf"{_latex(func)}\,{text}"
    raise SettingError(f"A neuron format cannot contain {ast.unparse(node)}.")


def _grouped(node: ast.expr) -> str:
    """Bracket what a product or a power would otherwise tear apart."""
    text = _latex(node)
    is_map = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in OPERATIONS
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
    is_power_base = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
    return f"({text})" if is_map or is_sum or (is_power_base and r"\odot" in text) else text


_TABLE = [
    NeuronFormat("T1", "B(x, x) + W(x)", ONE_MAP, bilinear=True, like="FM"),
    NeuronFormat("T2", "B(x, x)", bilinear=True),
    NeuronFormat("T3", "W(x * x)", ONE_MAP),
    NeuronFormat("T4", "h * h", ONE_MAP, "h = W(x)"),
    NeuronFormat("T5", "u * v", TWO_ROWS, "u, v = W(x)", like="PEPNet"),
    NeuronFormat("T6", "B(x, x) + W(x * x)", ONE_MAP, bilinear=True),
    NeuronFormat("T7", "u * v + W2(x * x)", {"W1": (1, 2), "W2": (1, 1)}, "u, v = W1(x)"),
    NeuronFormat("T8", "u * v + w", {"W": (1, 3)}, "u, v, w = W(x)"),
    NeuronFormat("T9", "x * W(x) + x", ONE_MAP, like="ECN"),
    NeuronFormat("T10", "x * u + v", TWO_ROWS, "u, v = W(x)"),
    NeuronFormat("T11", "concat(u, v * v)", ONE_MAP, "u, v = W(x)"),
    NeuronFormat("T12", "concat(u * v, W2(x * x))", {"W1": (1, 1), "W2": (1, HALF)}, "u, v = W1(x)"),
    NeuronFormat("T13", "concat(u * v, w)", {"W": (1, 3 * HALF)}, "u, v, w = W(x)", like="FINAL"),
    NeuronFormat("T14", "concat(u * v, v)", ONE_MAP, "u, v = W(x)"),
    NeuronFormat("T15", "concat(u * u, u)", {"W": (1, HALF)}, "u = W(x)"),
    NeuronFormat("T16", "x * (u * v) + x", TWO_ROWS, "u, v = W(x)", like="GCN"),
    NeuronFormat("T17", "x * u + v + x", TWO_ROWS, "u, v = W(x)"),
    NeuronFormat("T18", "W2(concat(x * W1(x), x))", {"W1": (1, 1), "W2": (2, 1)}),
    NeuronFormat("T19", "x * relu(W(x)) + x", ONE_MAP),
    NeuronFormat("T20", "x * h + h + x", ONE_MAP, "h = W(x)"),
    NeuronFormat("T21", "(x * W(x)) ** 2 + x", ONE_MAP),
    NeuronFormat("T22", "x * W(x) + alpha * x", ONE_MAP, scale_vector=True),
    NeuronFormat("T23", "u * v + x", TWO_ROWS, "u, v = W(x)"),
    NeuronFormat("T24", "u * relu(v) + x", TWO_ROWS, "u, v = W(x)", like="MaskNet"),
    NeuronFormat("T25", "x * W2(relu(W1(x))) + x", {"W1": (1, HALF), "W2": (HALF, 1)}),
    NeuronFormat("T26", "0.5 * (relu(u) + relu(v)) * x + x", TWO_ROWS, "u, v = W(x)", in_paper=False),
    NeuronFormat("T27", "0.5 * (relu(u) + relu(v)) * x ** 2 + x", TWO_ROWS, "u, v = W(x)", in_paper=False),
    NeuronFormat("T28", "0.5 * (relu(u) ** 2 + relu(v) ** 2) * x + x", TWO_ROWS, "u, v = W(x)", in_paper=False),
    NeuronFormat("T29", "0.5 * (relu(u) + relu(v) ** 2) * x + x", TWO_ROWS, "u, v = W(x)", in_paper=False),
    NeuronFormat("T30", "0.5 * (relu(u) * x + relu(v) * x ** 2) + x", TWO_ROWS, "u, v = W(x)", in_paper=False),
    NeuronFormat("CrossNetV2", "x0 * W(x) + x", ONE_MAP, like="CrossNetV2"),
    NeuronFormat("MLP", "W(x)", ONE_MAP, like="DNN"),
]
FORMATS: dict[str, NeuronFormat] = {form.name: form for form in _TABLE}
QUADRATIC = [form.name for form in _TABLE if form.name.startswith("T")]
