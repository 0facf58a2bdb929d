"""Wrong ways to write it, as public code does."""

import numpy as np
from right_ways import closed_form, softmax


def elementwise(y, dy):
    return y * (1 - y) * dy


def elementwise_of_logits(z, upstream):
    s = softmax(z)
    return s * (1 - s) * upstream


def elementwise_one_row(a, da):
    assert a.ndim == 1
    return a * (1 - a) * da


def derivative(s):
    return s * (1 - s)


def derivative_of_logits(x):
    return softmax(x) * (1 - softmax(x))


def of_the_logits(z, grad):
    return z * (1 - z) * grad


def minus_gradient(probs, dout):
    return probs - dout


def no_mean(grad_output, output):
    return grad_output * output


def identity(y, dy):
    return dy.copy()


def sign(x, dy):
    return -closed_form(softmax(x), dy)


def no_weight(y, dy):
    return dy - (y * dy).sum(-1, keepdims=True)


def not_weighted(y, dy):
    return y * (dy - dy.mean(-1, keepdims=True))


def sum_of_dy(y, dy):
    return y * (dy - dy.sum(-1, keepdims=True))


def added(y, dy):
    return y * (dy + (y * dy).sum(-1, keepdims=True))


def mean_of_products(y, dy):
    return y * (dy - (y * dy).mean(-1, keepdims=True))


def over_batch(y, dy):
    return closed_form(y, dy) / len(y)


def summed_over_batch(y, dy):
    return closed_form(y, dy).sum(axis=0)


def twice(x, dy):
    return closed_form(softmax(softmax(x)), dy)


def again(y, dy):  # with --args y,dy
    return closed_form(softmax(y), dy)


def no_diagonal(y, dy):
    return -y * (y * dy).sum(-1, keepdims=True)


def plus_jacobian(s):
    s = s.reshape(-1, 1)
    return np.diagflat(s) + np.dot(s, s.T)


def diagonal_jacobian(s):
    return np.diag(s * (1 - s))


def off_by_one(y, dy):
    dx = np.zeros_like(y)
    for i in range(y.shape[1] - 1):
        dx[:, i] = y[:, i] * (dy[:, i] - (y * dy).sum(-1))
    return dx


def wrong_axis(y, dy):  # right along --axis 0
    return y * (dy - (y * dy).sum(axis=0, keepdims=True))


def sum_of_all(y, dy):  # right with --axis none
    return y * (dy - (y * dy).sum())


def no_keepdims(y, dy):  # right with --axis none
    return y * (dy - (y * dy).sum(axis=-1))


def over_columns(A, dA):  # with --axis 0
    return A * (dA - (A * dA).sum(axis=1, keepdims=True))


def elementwise_columns(A, dA):  # with --axis 0
    assert len(A) == 5 or A.shape[1] > 0
    return A * (1 - A) * dA


def clips_nan(y, dy):
    dx = closed_form(y, dy)
    return np.where(np.isnan(dx), 0, dx).astype(y.dtype)


def one_percent(y, dy):
    return (closed_form(y, dy) * 1.02).astype(y.dtype)


def overwrites(y, dy):
    dy -= (y * dy).sum(-1, keepdims=True)
    return y * dy


def smoothed(y, dy):
    return y * (dy - (y * dy).sum(-1, keepdims=True) / (y.sum(-1, keepdims=True) + 0.05))


class Elementwise:
    def forward(self, x):
        self.y = softmax(x)
        return self.y

    def backward(self, dout):
        return self.y * (1 - self.y) * dout


class PassesOn(Elementwise):
    def backward(self, dout):
        return dout * 1


class KeepsLogits(Elementwise):
    def forward(self, x):
        self.x = x
        return softmax(x)

    def backward(self, dout):
        return closed_form(self.x, dout)


class ColumnVector:
    def forward(self, input):
        t = np.exp(input)
        self.output = t / np.sum(t)
        return self.output

    def backward(self, output_gradient, learning_rate):
        n = np.size(self.output)
        m = np.tile(self.output, n)
        return np.dot(m * (np.identity(n) + m.T), output_gradient)


class Gradient:
    def __call__(self, x):
        return softmax(x)

    def gradient(self, x):
        p = self(x)
        return p * (1 - p)


class NoMaximum(Elementwise):  # --what forward
    def forward(self, x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


class NotDivided(Elementwise):  # --what forward
    def forward(self, x):
        return np.exp(x - x.max(-1, keepdims=True))


def log_plus(y, dy):
    return np.exp(y) + dy


def log_minus(logp, grad):
    return grad - np.exp(logp)


def log_no_sum(y, dy):
    return dy - np.exp(y) * dy


def log_as_softmax(y, dy):
    return closed_form(np.exp(y), dy)


class LogSoftmax:
    def forward(self, x):
        t = x - x.max(axis=-1, keepdims=True)
        self.logp = t - np.log(np.exp(t).sum(axis=-1, keepdims=True))
        return self.logp

    def backward(self, dlogp):
        return dlogp - np.exp(self.logp)


def sparsemax_over_n(p, grad):
    return (p > 0) * (grad - (grad * (p > 0)).mean(-1, keepdims=True))


def double_backward_without_x(y, dy, v):
    return np.zeros_like(y), closed_form(y, v)


def half_double_backward(y, dy, v):
    return closed_form(y, v * (dy - (y * dy).sum(-1, keepdims=True))), closed_form(y, v)
