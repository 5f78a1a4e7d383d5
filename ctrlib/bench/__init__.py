"""Measurements of speed: repeated, in turn with peers, median and spread. Never a limit in a test."""

from ctrlib.bench.peers import measure_peers
from ctrlib.bench.systems import SYSTEMS

__all__ = ["SYSTEMS", "measure_peers"]
