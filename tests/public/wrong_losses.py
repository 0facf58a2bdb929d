"""Wrong gradients of cross-entropy, with --map cross_entropy."""

import numpy as np
from right_losses import of_labels, of_targets
from right_ways import softmax


def twice(X, y):
    return of_labels(X, y) / len(X)


def sigmoid_as_well(t, y):
    return (y - t) * y * (1 - y)


def of_probabilities(logits, target):
    return -target / softmax(logits)


def no_softmax(logits, labels):
    return logits - np.eye(logits.shape[-1])[labels]


def sign(logits, targets):
    return targets - softmax(logits)


def all_elements(logits, targets):
    return of_targets(logits, targets) / logits.size


def sum_of_all(logits, targets):
    e = np.exp(logits - logits.max())
    return e / e.sum() - targets
