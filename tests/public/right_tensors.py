"""The same with PyTorch."""

import torch
import torch.nn.functional as F


def with_dim(grad_output, output, dim=-1):
    return output * (grad_output - (grad_output * output).sum(dim, keepdim=True))


def of_one_row(p, g):
    return p * (g - p @ g)


def forward_alone(x):
    return torch.exp(x - torch.logsumexp(x, -1, keepdim=True))


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, dim):
        output = torch.softmax(input, dim)
        ctx.save_for_backward(output)
        ctx.dim = dim
        return output

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        sums = (output * grad_output).sum(ctx.dim, keepdim=True)
        return output * (grad_output - sums), None


class Module(torch.nn.Module):
    def __init__(self, dim=1):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return Function.apply(x, self.dim)


class Layer:
    def forward(self, x):
        self.y = F.softmax(x, dim=1)
        return self.y

    def backward(self, grad):
        return torch.einsum(
            "bij,bj->bi", torch.diag_embed(self.y) - self.y[:, :, None] * self.y[:, None], grad
        )


double = Module()
