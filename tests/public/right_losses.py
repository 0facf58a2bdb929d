"""Right gradients of cross-entropy, with --map cross_entropy."""

import numpy as np
import torch
from right_ways import softmax


def of_labels(X, y):
    m = y.shape[0]
    grad = softmax(X)
    grad[range(m), y] -= 1
    return grad / m


def of_probabilities(probs, labels):
    return probs - np.eye(probs.shape[-1])[labels]


def of_targets(logits, targets):
    return softmax(logits) - targets


def with_loss(x, t):
    p = softmax(x)
    log_p = x - x.max(-1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    return -(t * log_p).sum(), p * t.sum(-1, keepdims=True) - t


class Loss:
    def forward(self, logits, labels):
        self.p, self.labels = softmax(logits), labels
        return -np.log(self.p[np.arange(len(labels)), labels]).mean()

    def backward(self):
        dx = self.p.copy()
        dx[np.arange(len(dx)), self.labels] -= 1
        return dx / len(dx)


class Stateful:
    """As in a book on networks from scratch: its backward takes the probabilities and the labels."""

    def backward(self, dvalues, y_true):
        samples = len(dvalues)
        self.dinputs = dvalues.copy()
        self.dinputs[range(samples), y_true] -= 1
        self.dinputs = self.dinputs / samples


def by_autograd(input, target):
    return torch.nn.functional.cross_entropy(input, target)
