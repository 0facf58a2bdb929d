"""The maps as modules, for `torch.nn`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..checks import Empty
from . import functions
from .functions import Dim


class Softmax(torch.nn.Module):
    """`softgrad.torch.softmax` as a module; it takes the place of `torch.nn.Softmax`.

    Parameters
    ----------
    dim, scale, empty, reuse_dy
        As for `softgrad.torch.softmax`, for every call.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> layer = softgrad.torch.Softmax(dim=-1)
    >>> layer(torch.tensor([0.0, 0.0]), where=torch.tensor([True, False]))
    tensor([1., 0.])
    """

    function: Any = staticmethod(functions.softmax)

    def __init__(
        self, dim: Dim = -1, *, scale: float | Tensor = 1.0, empty: Empty = "zero", reuse_dy: bool = False
    ) -> None:
        super().__init__()
        checks.choice(empty)
        self.dim = dim
        self.scale: float | Tensor
        if isinstance(scale, Tensor) and not isinstance(scale, torch.nn.Parameter):
            self.register_buffer("scale", scale)
        else:
            self.scale = scale
        self.empty: Empty = empty
        self.reuse_dy = reuse_dy

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        return self.function(
            input, self.dim, where=where, scale=self.scale, empty=self.empty, reuse_dy=self.reuse_dy
        )

    def extra_repr(self) -> str:
        shown = [f"dim={self.dim}"]
        shown += [f"scale={self.scale}"] if isinstance(self.scale, Tensor) or self.scale != 1.0 else []
        shown += [f"empty={self.empty!r}"] if self.empty != "zero" else []
        shown += ["reuse_dy=True"] if self.reuse_dy else []
        return ", ".join(shown)


class LogSoftmax(Softmax):
    """`softgrad.torch.log_softmax` as a module; it takes the place of `torch.nn.LogSoftmax`.

    Parameters are those of `Softmax`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.LogSoftmax()(torch.tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """

    function: Any = staticmethod(functions.log_softmax)


class Sparsemax(Softmax):
    """`softgrad.torch.sparsemax` as a module.

    Parameters are those of `Softmax`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.Sparsemax()(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """

    function: Any = staticmethod(functions.sparsemax)


class Entmax(Softmax):
    """`softgrad.torch.entmax` as a module, with a fixed alpha or one that is learnt.

    Parameters
    ----------
    alpha : float
        At least 1.  Where it is learnt, where it begins.
    dim, scale, empty, reuse_dy
        As for `Softmax`.
    learn_alpha : bool
        Whether alpha is a parameter of the module.  A step of an optimizer may bring it below 1, which the
        next call refuses: clamp it after each step (``layer.alpha.data.clamp_(min=1)``).

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> layer = softgrad.torch.Entmax(1.5, learn_alpha=True)
    >>> layer(torch.tensor([1.0, 0.0, -1.0]))[0].backward()
    >>> layer.alpha.grad
    tensor(0.2485)
    """

    alpha: float | Tensor

    def __init__(
        self,
        alpha: float = 1.5,
        dim: Dim = -1,
        *,
        scale: float | Tensor = 1.0,
        empty: Empty = "zero",
        reuse_dy: bool = False,
        learn_alpha: bool = False,
    ) -> None:
        super().__init__(dim, scale=scale, empty=empty, reuse_dy=reuse_dy)
        checks.alpha(float(alpha))
        self.alpha = torch.nn.Parameter(torch.tensor(float(alpha))) if learn_alpha else alpha

    def forward(self, input: Tensor, where: Tensor | None = None) -> Tensor:
        options = {"where": where, "empty": self.empty, "reuse_dy": self.reuse_dy}
        return functions.entmax(input, self.alpha, self.dim, scale=self.scale, **options)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        learnt = isinstance(self.alpha, Tensor)
        alpha = self.alpha.item() if isinstance(self.alpha, Tensor) else self.alpha
        return f"alpha={alpha:g}, {'learn_alpha=True, ' if learnt else ''}{super().extra_repr()}"
