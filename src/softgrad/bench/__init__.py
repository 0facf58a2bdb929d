"""Measurements: the commands `softgrad bench` and `softgrad reproduce`, and the tools of benchmarks/.

Reading order: timing.py and memory.py (measure a call); cases.py, implementations.py and limits.py (the
calls); compare.py (the run); report.py and plot.py.  reproduce.py is the article's experiment: some of the
same implementations on the article's arrays.
"""
