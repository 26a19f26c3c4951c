"""Benchmarks. Each begins as a command of bwpipe does, so that what it measures is what users get."""

from bwpipe.cli.main import start_lightly

start_lightly()
