"""softgrad for JAX: the functions of `jax.nn`, exact, under every transform.

On the CPU they run the kernels of `softgrad`, without a callback to Python; elsewhere XLA fuses the formulas.
`softgrad.softmax(x)` of a JAX array comes to the same code.  From the call to the kernel: functions.py →
maps.py → primitives.py → lowering.py → cpu/xla.py.  `pip install 'softgrad[jax]'`.
"""

try:
    import jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"softgrad.jax needs JAX, which could not be imported ({error}): pip install 'softgrad[jax]'"
    ) from error

from .functions import (
    cross_entropy,
    entmax,
    entropy,
    log_softmax,
    logsumexp,
    segment_softmax,
    sink_softmax,
    softmax,
    softmax_vjp,
    sparsemax,
)
from .objectives import (
    entmax_loss,
    entropy_of_probabilities,
    js_divergence,
    kl_divergence,
    softmax_vjp_hessian_diagonal,
    sparsemax_loss,
)

__all__ = [
    "cross_entropy",
    "entmax",
    "entmax_loss",
    "entropy",
    "entropy_of_probabilities",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "logsumexp",
    "segment_softmax",
    "sink_softmax",
    "softmax",
    "softmax_vjp",
    "softmax_vjp_hessian_diagonal",
    "sparsemax",
    "sparsemax_loss",
]
