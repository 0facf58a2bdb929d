"""The same with PyTorch."""

import torch


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        output = torch.softmax(input, -1)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return output * (1 - output) * grad_output


class Module(torch.nn.Module):
    def forward(self, x):
        return torch.sigmoid(x)


def no_mean(grad_output, output):
    return torch.mul(grad_output, output)
