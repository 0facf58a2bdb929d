"""Attention over a sequence that is divided among processes: each has the keys and values of its positions.

    python examples/sequence_parallel_attention.py
    torchrun --nproc-per-node 4 examples/sequence_parallel_attention.py

A query looks at all positions, so a row of attention weights lies across the ranks.  `softmax` with the group
makes it sum to 1 there: two numbers a query go through the network forward, three backward, and neither keys
nor values do; what comes out of each rank's values is summed.  The task is recall: a sequence has symbols
with marks; the model is asked for the mark that came with a symbol, and some positions are masked.
"""

import torch
from parallel import copied, part, run, summed
from torch import nn

import softgrad.torch as st

SYMBOLS, MARKS, LENGTH, BATCH, WIDTH, STEPS = 64, 8, 48, 64, 32, 56


def sequences(steps):
    """Symbols, all different, their marks, which positions are there, and the position that is asked for."""
    generator = torch.Generator().manual_seed(1)
    symbols = torch.rand(steps, BATCH, SYMBOLS, generator=generator).argsort(-1)[..., :LENGTH]
    marks = torch.randint(MARKS, (steps, BATCH, LENGTH), generator=generator)
    there = torch.rand(steps, BATCH, LENGTH, generator=generator) < 0.9
    asked = torch.randint(LENGTH, (steps, BATCH, 1), generator=generator)
    return symbols, marks, there.scatter(-1, asked, True), asked


def train(group, steps=STEPS, dtype=torch.float32):
    """The loss of each step, with the sequence divided in `group` (None: not divided)."""
    torch.manual_seed(0)  # the same on all ranks
    sizes = (SYMBOLS, WIDTH), (SYMBOLS, WIDTH), (MARKS, WIDTH), (WIDTH, MARKS)
    parameters = [nn.Parameter(torch.randn(size, dtype=dtype) * 0.3) for size in sizes]
    of_query, of_key, of_mark, readout = parameters
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    losses = []
    for symbols, marks, there, asked in zip(*sequences(steps), strict=True):
        symbol, right = symbols.gather(-1, asked)[:, 0], marks.gather(-1, asked)[:, 0]
        # each rank's positions; what all ranks have gets the sum of the gradients that come from them
        query = copied(of_query[symbol], group)
        keys = copied(of_key, group)[part(symbols, group, 1)]
        values = copied(of_mark, group)[part(marks, group, 1)]
        scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
        weights = st.softmax(scores, scale=WIDTH**-0.5, where=part(there, group, 1).contiguous(), group=group)
        found = summed((weights.unsqueeze(-2) @ values).squeeze(-2), group)
        loss = st.cross_entropy(found @ readout, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    run(train)
