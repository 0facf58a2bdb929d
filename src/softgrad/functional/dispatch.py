"""Which room of the house an array belongs to."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .. import checks
from .. import numpy as of_numpy


def library(value: Any) -> Any:
    """The package whose functions work on this: `softgrad.torch` for tensors, `softgrad.dlpack` for arrays of
    other libraries on a CUDA device, or else `softgrad.numpy`.

    Without `torch` having been imported there is no tensor.
    """
    if type(value) is not np.ndarray:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            from .. import torch as of_torch

            return of_torch
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in checks.ON_DEVICE:
            from .. import dlpack

            return dlpack
    return of_numpy
