"""Measurements of speed: repeated, in turn with peers, median and spread. Never a limit in a test."""
