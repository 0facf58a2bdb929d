"""Dask arrays: softmax, log_softmax, their vjp and jvp, and logsumexp, lazily and chunk by chunk.

Where no row is cut, each block is a call of the function for NumPy arrays.  Where rows are, each block gives
a few numbers of its rows (`softgrad.distributed`), a tree combines them, and each block is made a second
time to be finished: so memory holds a few chunks, not a row of them.  From the call to the blocks:
calls.py → graph.py → blocks.py.  The first call with one of its arrays imports this.
"""
