"""Measuring: what `softgrad reproduce` runs, and what the scripts in benchmarks/ measure with."""
