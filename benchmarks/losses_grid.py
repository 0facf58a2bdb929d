"""Divergences and losses of softgrad.torch beside compositions of PyTorch operations, or the entmax package.

    python benchmarks/losses_grid.py [--quick]

Forward and backward through autograd on one thread, pairs in turns in one loop; a ratio is that of the
medians, below 1 where softgrad is faster.  Prints a table and writes benchmarks/results/losses_grid.json.
"""

import itertools
import math
import sys
from pathlib import Path

import torch
from entmax import entmax15_loss
from entmax import sparsemax_loss as their_sparsemax_loss
from records import as_text

import softgrad.torch as st
from softgrad.bench.timing import interleaved, spread
from softgrad.commands.machine import environment

F = torch.nn.functional
SHAPES = [(1000, 1000), (64, 32768), (50000, 64)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def kl(x, u):
    log_p, log_t = F.log_softmax(x, -1), F.log_softmax(u, -1)
    return F.kl_div(log_p, log_t, reduction="none", log_target=True).sum(-1)


def kl_of_probs(x, t):
    return F.kl_div(F.log_softmax(x, -1), t, reduction="none").sum(-1)


def reverse_kl(x, u):
    log_p, log_t = F.log_softmax(x, -1), F.log_softmax(u, -1)
    return (log_p.exp() * (log_p - log_t)).sum(-1)


def js(x, u):
    log_p, log_t = F.log_softmax(x, -1), F.log_softmax(u, -1)
    log_m = torch.logaddexp(log_p, log_t) - math.log(2)
    return 0.5 * ((log_p.exp() * (log_p - log_m)).sum(-1) + (log_t.exp() * (log_t - log_m)).sum(-1))


def entropy(p, _):
    return -(p * p.clamp_min(1e-30).log()).sum(-1)


def hessian_diagonal(y, dy):
    return (1 - 2 * y) * y * (dy - (y * dy).sum(-1, keepdim=True))


def z_loss(x, classes):
    log_s = torch.logsumexp(x, -1)
    return F.cross_entropy(x, classes, reduction="none") + 1e-4 * log_s**2


def weighted(x, classes):
    weight = torch.ones(x.shape[-1], dtype=x.dtype)
    return F.cross_entropy(x, classes, weight=weight, reduction="none")


# ours, theirs, what x and the other argument are, and whether there is a backward
CELLS = {
    "kl_divergence, logits": (lambda x, u: st.kl_divergence(x, target_logits=u), kl, "xu"),
    "kl_divergence, probabilities": (lambda x, t: st.kl_divergence(x, target_probs=t), kl_of_probs, "xt"),
    "kl_divergence, reverse": (
        lambda x, u: st.kl_divergence(x, target_logits=u, direction="reverse"),
        *(reverse_kl, "xu"),
    ),
    "js_divergence": (lambda x, u: st.js_divergence(x, target_logits=u), js, "xu"),
    "entropy_of_probabilities": (lambda p, _: st.entropy_of_probabilities(p), entropy, "tu"),
    "entmax_loss": (lambda x, c: st.entmax_loss(x, c, reduction="none"), entmax15_loss, "xc"),
    "sparsemax_loss": (lambda x, c: st.sparsemax_loss(x, c, reduction="none"), their_sparsemax_loss, "xc"),
    "cross_entropy, z_loss": (
        lambda x, c: st.cross_entropy(x, c, z_loss=1e-4, reduction="none"),
        *(z_loss, "xc"),
    ),
    "cross_entropy, weight": (
        lambda x, c: st.cross_entropy(x, c, weight=torch.ones(x.shape[-1]), reduction="none"),
        *(weighted, "xc"),
    ),
    "softmax_vjp_hessian_diagonal": (st.softmax_vjp_hessian_diagonal, hessian_diagonal, "tu forward"),
}


def cells(quick):
    torch.set_num_threads(1)
    rounds = {"rounds": 3, "fewest": 3, "budget": 0.2} if quick else {"rounds": 21, "budget": 1.0}
    for shape, (kind, dtype) in itertools.product(SHAPES, DTYPES.items()):
        x, u = (torch.randn(shape).to(dtype) for _ in range(2))
        given = {"x": x, "u": u, "t": torch.softmax(u.float(), -1).to(dtype)}
        given["c"] = torch.randint(shape[1], shape[:1])
        dy = torch.ones(shape[0], dtype=dtype)
        for name, (ours, theirs, what) in CELLS.items():
            if dtype is torch.bfloat16 and theirs in (entmax15_loss, their_sparsemax_loss):
                continue  # the package has no such types
            first, other = given[what[0]].clone(), given[what[1]]

            def call(function, first=first, other=other, alone="forward" in what, dy=dy):
                if alone:
                    return function(first, other)
                return torch.autograd.grad(function(first.requires_grad_(), other), first, dy)

            samples = interleaved(
                {"ours": lambda f=ours, call=call: call(f), "theirs": lambda f=theirs, call=call: call(f)},
                **rounds,
            )
            times = {who: spread(own).median for who, own in samples.items()}
            cell = {"what": name, "shape": shape, "dtype": kind}
            yield cell | times | {"ratio": times["ours"] / times["theirs"]}


def main():
    quick, found = "--quick" in sys.argv, []
    for cell in cells(quick):
        found.append(cell)
        shape = "×".join(map(str, cell["shape"]))
        print(
            f"{cell['what']:30} {shape:12} {cell['dtype']:9} {cell['ours'] * 1e3:9.2f} ms "
            f"{cell['ratio']:6.2f}",
            flush=True,
        )
    if not quick:
        path = Path(__file__).parent / "results" / "losses_grid.json"
        path.write_text(as_text({"environment": environment("torch", "entmax"), "cells": found}))


if __name__ == "__main__":
    main()
