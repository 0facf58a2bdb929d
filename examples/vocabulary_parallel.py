"""A language model whose vocabulary is divided among processes: no rank has all logits of a token.

    python examples/vocabulary_parallel.py
    torchrun --nproc-per-node 4 examples/vocabulary_parallel.py

The last layer has a row of weights for each word of the vocabulary, which is what is large.  Each rank has
some of the rows, computes the logits of its words, and calls `cross_entropy` with the group: five numbers a
token go through the network (three without label smoothing), and the gradient of the weights stays where they
are.  The model, an embedding and that layer, learns which word follows which.
"""

import torch
from parallel import copied, part, run
from torch import nn

import softgrad.torch as st

WORDS, WIDTH, TOKENS, STEPS = 512, 24, 256, 80


def text(steps):
    """Tokens, each followed by one of two others; the second one less often."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(WORDS, (steps, TOKENS), generator=generator)
    other = torch.rand(steps, TOKENS, generator=generator) < 0.2
    return tokens, torch.where(other, 7 * tokens + 3, 3 * tokens + 1) % WORDS


def train(group, steps=STEPS, dtype=torch.float32):
    """The loss of each step, with the vocabulary divided in `group` (None: not divided)."""
    torch.manual_seed(0)  # the same on all ranks
    embedding = nn.Parameter(torch.randn(WORDS, WIDTH, dtype=dtype))
    weights = nn.Parameter(part(torch.randn(WORDS, WIDTH, dtype=dtype) * WIDTH**-0.5, group).clone())
    optimizer = torch.optim.Adam([embedding, weights], lr=0.05)
    losses = []
    for tokens, following in zip(*text(steps), strict=True):
        hidden = copied(embedding[tokens], group)
        logits = hidden @ weights.T  # of the words of this rank
        loss = st.cross_entropy(logits, following, label_smoothing=0.01, group=group)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    run(train)
