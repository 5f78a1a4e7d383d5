"""Figures and tables of the book."""

from ctrlib.figures.charts import (
    DASHES,
    INK,
    PALETTE,
    boundaries,
    curves,
    intervals,
    levels,
    logarithmic,
    scatter,
    stacked,
    stairs,
    stretches,
)
from ctrlib.figures.tables import Table, figure_table, glue

__all__ = [
    "DASHES",
    "INK",
    "PALETTE",
    "Table",
    "boundaries",
    "curves",
    "figure_table",
    "glue",
    "intervals",
    "levels",
    "logarithmic",
    "scatter",
    "stacked",
    "stairs",
    "stretches",
]
