"""The implementations that have a name: how each is reached, and why one is not here.

Each is asked what the checks ask: the vjp for the y and dy that are given.  Where a library has its backward
pass in autograd alone, it runs there, with the given y in the place of the one that the forward pass saved.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..specs import MAPS

Function = Callable[..., Any]
Loader = Callable[[], Function]

WHATS = "vjp", "forward", "jvp", "double-backward"
ALPHA = 1.5  # of the map "entmax"


@dataclass(frozen=True)
class Peer:
    """One implementation: a row of the table."""

    about: str
    functions: dict[tuple[str, str], Loader]  # by map and what; a call imports the library
    package: str = "softgrad"  # as pip knows it
    module: str = ""  # what is imported of it, where that has another name
    arrays: str = "numpy"
    lacks: str = ""  # why what is not in `functions` is not
    max_n: int | None = None
    device: str = "cpu"
    compiler: bool = False  # whether it needs one for C++


def version(peer: Peer) -> str:
    if peer.package == "softgrad":
        return __version__
    try:
        return importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        return "?"  # it can be imported, but pip did not install it


def why_not(peer: Peer) -> str:
    """Why a peer can't run here; "" if it can."""
    if importlib.util.find_spec(peer.module or peer.package) is None:
        return f"not installed: pip install {peer.package}"
    if peer.device == "cuda" and not importlib.import_module("torch").cuda.is_available():
        return "needs a CUDA device, and PyTorch finds none"
    if peer.compiler and not shutil.which(os.environ.get("CXX", "g++")):
        return "needs a C++ compiler: install g++, or name another in CXX"
    return ""


def attribute(module: str, name: str) -> Function:
    function: Function = getattr(importlib.import_module(module), name)
    return function


# --- softgrad, and the formulas on NumPy --------------------------------------------------------------


def name_of(map: str, what: str) -> str:
    return map if what == "forward" else f"{map}_{what.replace('-', '_')}"


def softgrad_function(map: str, what: str) -> Function:
    return attribute("softgrad", name_of(map, what))


def formula(map: str, what: str, xp: str = "numpy") -> Function:
    """A function of softgrad.formulas, in the namespace `xp`."""
    if what == "jvp" and map != "log_softmax":
        what = "vjp"  # their Jacobians are symmetric
    parameters = {"alpha": ALPHA} if map == "entmax" else {}
    function = attribute("softgrad.formulas", name_of(map, what))
    return functools.partial(function, **parameters, xp=importlib.import_module(xp))


# --- PyTorch, and what is built on it -----------------------------------------------------------------


def torch_forward(map: str) -> Function:
    forward = attribute("torch", map)
    return lambda x, dim=-1: forward(x, dim)  # a signature that tells the name of the axis


def torch_vjp(map: str) -> Function:
    """The function that autograd calls; its last argument is the result's dtype."""
    backward = attribute("torch", f"_{map}_backward_data")
    return lambda y, dy, dim=-1: backward(dy, y, dim, y.dtype)


def compiled(loader: Callable[[str], Function]) -> Callable[[str], Function]:
    """Such functions under torch.compile, for any number of rows and any n at once.

    PyTorch warns of its own code when it is imported and when it compiles: these warnings are kept back.
    """

    def load(map: str) -> Function:
        function = loader(map)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("torch._dynamo").config.recompile_limit = 64  # beyond, it runs eagerly
            fast: Function = importlib.import_module("torch").compile(function, dynamic=True)

        @functools.wraps(function)
        def quiet(*args: Any, dim: int = -1) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return fast(*args, dim=dim)

        return quiet

    return load


def run_on(y: Any, forward: Function, dim: int) -> tuple[Any, Any]:
    """x, and forward(x) whose backward pass takes y for the result: of what the forward pass saves, numbers
    are replaced by y, and a count (the size of the support) by that of y."""
    torch = importlib.import_module("torch")

    def shape_of_numbers(saved: Any) -> Any:
        return saved.shape if saved.is_floating_point() else None

    def replaced(shape: Any) -> Any:
        return (y > 0).sum(dim, keepdim=True) if shape is None else y.reshape(shape).contiguous()

    x = torch.zeros_like(y).requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(shape_of_numbers, replaced):
        return x, forward(x, dim=dim)


def through_autograd(forward: Function) -> Function:
    """A backward pass as autograd runs it."""
    torch = importlib.import_module("torch")

    def vjp(y: Any, dy: Any, dim: int = -1) -> Any:
        x, result = run_on(y, forward, dim)
        return torch.autograd.grad(result, x, dy)[0]

    return vjp


def twice_through_autograd(forward: Function) -> Function:
    """The gradients of the same for x and dy."""
    torch = importlib.import_module("torch")

    def double_backward(y: Any, dy: Any, v: Any, dim: int = -1) -> Any:
        dy = dy.detach().requires_grad_()
        x, result = run_on(y, forward, dim)
        dx = torch.autograd.grad(result, x, dy, create_graph=True)[0]
        return torch.autograd.grad(dx, (x, dy), v, materialize_grads=True)

    return double_backward


def rows_through_autograd(forward: Function) -> Function:
    """The same for a forward pass that knows the last axis only."""
    vjp = through_autograd(lambda x, dim: forward(x))
    return lambda y, dy: vjp(y, dy)


def entmax(map: str) -> Function:
    return attribute("entmax", {"sparsemax": "sparsemax", "entmax": "entmax15"}[map])


def liger(map: str) -> Function:
    function: Any = attribute(f"liger_kernel.ops.{map}", f"Liger{map.capitalize()}Function")
    arguments = () if map == "softmax" else (-1,)
    return lambda x: function.apply(x, *arguments)


def quack(map: str) -> Function:
    return attribute("quack", map)


# --- JAX ----------------------------------------------------------------------------------------------


def jit(function: Function, **options: Any) -> Function:
    jitted: Function = importlib.import_module("jax").jit(function, **options)
    return jitted


def jax_forward(map: str) -> Function:
    jitted = jit(attribute("jax.nn", map), static_argnames="axis")
    return lambda x, axis=-1: jitted(x, axis=axis)


def jax_formula(map: str, what: str) -> Function:
    return jit(formula(map, what, "jax.numpy"))


def jax_double_backward(map: str) -> Function:
    """The gradients of ⟨v, vjp(y, dy)⟩ by `jax.vjp`: for dy at once, and for x from that for y."""
    jax, vjp = importlib.import_module("jax"), formula(map, "vjp", "jax.numpy")

    def double_backward(y: Any, dy: Any, v: Any) -> Any:
        through_y, grad_dy = jax.vjp(vjp, y, dy)[1](v)
        return vjp(y, through_y), grad_dy

    return jit(double_backward)


# --- the table ----------------------------------------------------------------------------------------


def each(maps: Sequence[str], **loaders: Callable[[str], Function]) -> dict[tuple[str, str], Loader]:
    """The functions of each map: `loaders` are named after what they load, and take the map."""
    named = {name.replace("_", "-"): load for name, load in loaders.items()}
    return {(map, what): functools.partial(load, map) for map in maps for what, load in named.items()}


def any_of(
    load: Callable[[str, str], Function], maps: Sequence[str], *whats: str
) -> dict[tuple[str, str], Loader]:
    """The same of a loader that takes the map and what."""
    return {(map, what): functools.partial(load, map, what) for map in maps for what in whats}


BOTH, SPARSE = ("softmax", "log_softmax"), ("sparsemax", "entmax")

PEERS = {
    "softgrad": Peer(
        "the functions of this library",
        any_of(softgrad_function, list(MAPS), *WHATS),
    ),
    "numpy": Peer(
        "the closed form, written out in NumPy",
        any_of(formula, BOTH, *WHATS) | any_of(formula, SPARSE, "vjp", "forward", "jvp"),
        "numpy",
        lacks="it is not written out",
    ),
    "jacobian": Peer(
        "the dense Jacobian and a product, in NumPy",
        {("softmax", what): lambda: formula("softmax", "vjp_by_jacobian") for what in ("vjp", "jvp")},
        "numpy",
        lacks="it is the product of softmax's Jacobian and a vector",
        max_n=512,
    ),
    "scipy": Peer(
        "scipy.special",
        each(BOTH, forward=functools.partial(attribute, "scipy.special")),
        "scipy",
        lacks="SciPy has softmax and log_softmax, and no derivative of them",
    ),
    "torch": Peer(
        "torch.softmax, and what autograd calls: torch._softmax_backward_data (log_softmax alike)",
        each(
            BOTH,
            forward=torch_forward,
            vjp=torch_vjp,
            double_backward=lambda map: twice_through_autograd(torch_forward(map)),
        ),
        "torch",
        arrays="torch",
        lacks="PyTorch has softmax and log_softmax, and its forward mode starts from the logits",
    ),
    "torch.compile": Peer(
        "what torch.compile makes of the functions of `torch`",
        each(BOTH, forward=compiled(torch_forward), vjp=compiled(torch_vjp)),
        "torch",
        arrays="torch",
        lacks="PyTorch has softmax and log_softmax, their double backward by autograd, which is not compiled",
        compiler=True,
    ),
    "jax": Peer(
        "jax.nn.softmax, and the closed form under jax.jit, since JAX's own vjp starts from the logits",
        each(BOTH, forward=jax_forward, double_backward=jax_double_backward)
        | any_of(jax_formula, BOTH, "vjp", "jvp"),
        "jax",
        arrays="jax",
        lacks="JAX has softmax and log_softmax",
    ),
    "entmax": Peer(
        "entmax.sparsemax and entmax.entmax15, their backward through autograd on the y that is given",
        each(
            SPARSE,
            forward=entmax,
            vjp=lambda map: through_autograd(entmax(map)),
            double_backward=lambda map: twice_through_autograd(entmax(map)),
        ),
        "entmax",
        arrays="torch",
        lacks="entmax has sparsemax and entmax, and no forward mode",
    ),
    "liger": Peer(
        "the Triton kernels of Liger-Kernel, through autograd on the y that is given",
        each(("softmax", "sparsemax"), forward=liger, vjp=lambda map: rows_through_autograd(liger(map))),
        "liger-kernel",
        "liger_kernel",
        arrays="torch",
        lacks="Liger has softmax and sparsemax, forward and vjp",
        device="cuda",
    ),
    "quack": Peer(
        "the CuTe kernels of QuACK, through autograd on the y that is given",
        each(("softmax",), forward=quack, vjp=lambda map: rows_through_autograd(quack(map))),
        "quack-kernels",
        "quack",
        arrays="torch",
        lacks="QuACK has softmax and its vjp",
        device="cuda",
    ),
}
