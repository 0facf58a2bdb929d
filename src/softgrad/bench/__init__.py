"""Measuring: what `softgrad bench` and `softgrad reproduce` run, and what benchmarks/ measures with.

To read on: measure.py (how time and memory are measured).  For `softgrad bench` cases.py (what is measured),
implementations.py (what is called), limits.py, pinned.py, compare.py (the run), then compare_report.py,
compare_plot.py and compare_page.py.  For `softgrad reproduce` reproduce.py, exact.py, judges.py, report.py
and plot.py.
"""
