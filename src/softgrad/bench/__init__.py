"""Measuring: what `softgrad bench` and `softgrad reproduce` run, and what benchmarks/ measures with.

Reading order: timing.py and memory.py (how time and memory are measured); cases.py, implementations.py and
limits.py (what is called); compare.py (the run); report.py and plot.py.  reproduce.py is the article's
experiment: some of the same implementations on the article's arrays.
"""
