"""Measurements of speed: repeated, in turn with a peer, median and spread. Never a limit in a test."""

from ctrlib.bench.epoch import measure

__all__ = ["measure"]
