"""Right ways to write it, as public code does: what tests/test_ways.py gives to `softgrad verify`."""

import numpy as np


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def closed_form(y, dy):
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


def grad_first(grad_output, output):
    return closed_form(output, grad_output)


def no_names(a, b):
    return closed_form(b, a)


def other_names(probs, grad_output):
    inner = np.einsum("ij,ij->i", probs, grad_output)
    return probs * (grad_output - inner[:, None])


def s_and_dout(s, dout):
    return s * dout - s * np.sum(s * dout, axis=1, keepdims=True)


def of_logits(z, upstream):
    return closed_form(softmax(z), upstream)


def of_logits_dy_first(dout, x):
    return closed_form(softmax(x), dout)


def of_three(bottom, top, top_diff):
    return closed_form(top, top_diff)


def of_x_y_dy(x, y, dy):
    return closed_form(y, dy)


def keywords(*, dy, y):
    return closed_form(y, dy)


def with_an_axis(y, dy, axis=0):
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


def one_row(y, dy):
    return y * (dy - np.dot(dy, y))


def one_row_by_jacobian(s, d_s):
    s = s.reshape(-1, 1)
    return (np.diagflat(s) - s @ s.T) @ d_s


def one_row_of_logits(z, dL_da):
    a = np.exp(z) / np.sum(np.exp(z))
    return (np.diag(a) - np.outer(a, a)).dot(dL_da)


def one_row_summed(y, dy):  # with --axis none
    return y * (dy - np.sum(y * dy))


def one_row_of_lists(y, dy):
    total = sum(a * b for a, b in zip(y, dy, strict=True))
    return [a * (b - total) for a, b in zip(y, dy, strict=True)]


def lists(y, dy):
    return [one_row_of_lists(*rows) for rows in zip(y, dy, strict=True)]


def of_heads(P, dP):
    delta = np.sum(dP * P, axis=3)
    return P * (dP - delta[..., None])


def jacobian(s):
    s = s.reshape(-1, 1)
    return np.diagflat(s) - np.dot(s, s.T)


def jacobian_of_logits(x):
    y = softmax(x)
    return np.einsum("ij,jk->ijk", y, np.eye(y.shape[-1])) - np.einsum("ij,ik->ijk", y, y)


def jacobian_by_loops(s):
    n = len(s)
    jac = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            jac[i, j] = s[i] * (1 - s[i]) if i == j else -s[i] * s[j]
    return jac


def by_loops(y, dy):
    dx = np.zeros(y.shape)
    for r in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[1]):
                dx[r, i] += dy[r, j] * y[r, j] * ((i == j) - y[r, i])
    return dx


def batched_jacobian(y, dy):
    jac = y[:, :, None] * np.eye(y.shape[1], dtype=y.dtype) - y[:, :, None] * y[:, None, :]
    return np.matmul(jac, dy[:, :, None])[:, :, 0]


def into_dx(y, dy, dx):
    for i in range(len(y)):
        dx[i] = y[i] * (dy[i] - (y[i] * dy[i]).sum())


def a_pair(dy, y):
    return closed_form(y, dy), None


def of_columns(A, dA):  # with --axis 0
    return A * (dA - (A * dA).sum(axis=0))


def in_float64(y, dy):
    return closed_form(y.astype(np.float64), dy.astype(np.float64))


class Stateful:
    """As in a book on networks from scratch: the results are attributes."""

    def forward(self, inputs):
        e = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = e / np.sum(e, axis=1, keepdims=True)

    def backward(self, dvalues):
        self.dinputs = np.empty_like(dvalues)
        for i, (one, d) in enumerate(zip(self.output, dvalues, strict=True)):
            one = one.reshape(-1, 1)
            self.dinputs[i] = np.dot(np.diagflat(one) - np.dot(one, one.T), d)


class ColumnVector:
    def forward(self, input):
        t = np.exp(input)
        self.output = t / np.sum(t)
        return self.output

    def backward(self, output_gradient, learning_rate):
        n = np.size(self.output)
        return np.dot((np.identity(n) - self.output.T) * self.output, output_gradient)


class Called:
    def __init__(self, axis=1):
        self.axis = axis

    def __call__(self, x):
        self.y = softmax(x, self.axis)
        return self.y

    def backward(self, grad):
        return self.y * (grad - (self.y * grad).sum(self.axis, keepdims=True))


class Columns:  # with --axis 0
    def forward(self, Z):
        self.A = softmax(Z, axis=0)
        return self.A

    def backward(self, dA):
        return self.A * (dA - np.sum(self.A * dA, axis=0, keepdims=True))


class WithInputs:
    def forward(self, x):
        return softmax(x)

    def backward(self, y, grad_y):
        return closed_form(y, grad_y)


class Static:
    @staticmethod
    def forward(ctx, x):
        y = softmax(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        (y,) = ctx.saved_tensors
        return closed_form(y, grad_output)


class NeedsSize:
    def __init__(self, size):
        self.size = size

    def forward_pass(self, x):
        self.y = softmax(x)
        return self.y

    def backward_pass(self, accum_grad):
        return closed_form(self.y, accum_grad)


def make_layer():
    return NeedsSize(10)


a_layer = Called()


def log_softmax_backward(grad_output, log_probs):
    return grad_output - np.exp(log_probs) * grad_output.sum(axis=-1, keepdims=True)


class LogSoftmax:
    def forward(self, x):
        t = x - x.max(axis=-1, keepdims=True)
        self.logp = t - np.log(np.exp(t).sum(axis=-1, keepdims=True))
        return self.logp

    def backward(self, dlogp):
        return dlogp - np.exp(self.logp) * np.sum(dlogp, axis=-1, keepdims=True)


def sparsemax_backward(grad, p):
    support = (p > 0).astype(p.dtype)
    return support * (grad - (grad * support).sum(-1, keepdims=True) / support.sum(-1, keepdims=True))


class Sparsemax:
    def forward(self, z):
        n = z.shape[-1]
        u = -np.sort(-z, axis=-1)
        sums = np.cumsum(u, axis=-1)
        k = (1 + np.arange(1, n + 1) * u > sums).sum(axis=-1, keepdims=True)
        tau = (np.take_along_axis(sums, k - 1, -1) - 1) / k
        self.p = np.maximum(z - tau, 0).astype(z.dtype)
        return self.p

    def backward(self, dp):
        return sparsemax_backward(dp, self.p)


def jvp(x, dx):
    y = softmax(x)
    return y * dx - y * (y * dx).sum(-1, keepdims=True)


def double_backward(v, y, dy):
    g = v * (dy - (y * dy).sum(-1, keepdims=True)) - dy * (y * v).sum(-1, keepdims=True)
    return closed_form(y, g), closed_form(y, v)
