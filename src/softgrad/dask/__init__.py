"""Dask arrays: softmax, log_softmax, their vjp and jvp, logsumexp and entropy, lazily and chunk by chunk.

Where no row is cut, each block is a call of the function for NumPy arrays.  Where rows are, each block tells
a few numbers of its rows (`softgrad.distributed`), one task merges those of a row, and each block is made a
second time to be finished: so memory holds a few chunks, not a row of them.  calls.py has the functions and
what they do to blocks, graph.py the graphs.  The first call with one of its arrays imports this.
"""
