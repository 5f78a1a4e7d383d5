"""Grids of runs, their records, tables, statistics and verdicts."""

from ctrlib.lab.grid import Grid, run_anew, run_grid
from ctrlib.lab.records import frame, load_records
from ctrlib.lab.run import Run

__all__ = ["Grid", "Run", "frame", "load_records", "run_anew", "run_grid"]
