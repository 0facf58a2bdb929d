"""The implementations that have a name: how each is reached, and why one is not there.

A function is asked what the checks ask: the vjp for the y and dy that are given.  Where a library has its
backward pass in autograd alone, it runs there, with the given y in the place of the one that the forward
pass saved.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
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
    module: str = "softgrad"
    package: str = "softgrad"  # as pip knows it
    arrays: str = "numpy"
    lacks: str = ""  # why what is not in `functions` is not
    max_n: int | None = None
    device: str = "cpu"
    compiler: bool = False  # whether it needs one for C++


# --- softgrad, and the formulas on NumPy --------------------------------------------------------------


def softgrads(map: str, what: str) -> Function:
    name = map if what == "forward" else f"{map}_{what.replace('-', '_')}"
    function: Function = getattr(importlib.import_module("softgrad"), name)
    return function


FORMULAS = {
    "softmax": {"forward": "softmax", "vjp": "vjp", "jvp": "vjp", "double-backward": "double_backward"},
    "log_softmax": {
        "forward": "log_softmax",
        "vjp": "vjp",
        "jvp": "jvp",
        "double-backward": "double_backward",
    },
    "sparsemax": {"forward": "sparsemax", "vjp": "vjp", "jvp": "vjp"},
    "entmax": {"forward": "entmax", "vjp": "vjp", "jvp": "vjp"},
}


def formula(map: str, name: str, xp: str = "numpy") -> Function:
    """A function of softgrad.formulas, in the namespace `xp`."""
    page = importlib.import_module("softgrad.formulas")
    parameters = {"alpha": ALPHA} if map == "entmax" else {}
    function = getattr(page, name if name == map else f"{map}_{name}")
    return functools.partial(function, **parameters, xp=importlib.import_module(xp))


def attribute(module: str, name: str) -> Function:
    function: Function = getattr(importlib.import_module(module), name)
    return function


# --- PyTorch, and what is built on it -----------------------------------------------------------------


def torch_forward(name: str) -> Function:
    forward = attribute("torch", name)
    return lambda x, dim=-1: forward(x, dim)  # a signature that tells the name of the axis


def torch_vjp(name: str) -> Function:
    """What autograd calls, with the result's dtype as its last argument."""
    backward = attribute("torch", name)
    return lambda y, dy, dim=-1: backward(dy, y, dim, y.dtype)


def torch_compiled(loader: Loader) -> Function:
    """What torch.compile makes of a function, for any number of rows and any n at once.

    It warns of what PyTorch itself makes use of, when it is imported and when it compiles; that is kept back.
    """
    function = loader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torch._dynamo").config.recompile_limit = 64  # beyond, nothing is compiled
        compiled: Function = importlib.import_module("torch").compile(function, dynamic=True)

    @functools.wraps(function)
    def called(*given: Any, dim: int = -1) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compiled(*given, dim=dim)

    return called


def torch_twice(vjp: Function) -> Function:
    """The gradients of ⟨v, vjp(y, dy)⟩ by autograd: for dy at once, and for x from that for y."""
    torch = importlib.import_module("torch")

    def double_backward(y: Any, dy: Any, v: Any, dim: int = -1) -> Any:
        y, dy = (a.detach().requires_grad_() for a in (y, dy))
        dx = vjp(y, dy, dim=dim)
        through_y, grad_dy = torch.autograd.grad(dx, (y, dy), v, materialize_grads=True)
        return vjp(y.detach(), through_y, dim=dim), grad_dy

    return double_backward


def on_given(y: Any, forward: Function, dim: int) -> tuple[Any, Any]:
    """x, and forward(x) as autograd sees it, had it put out y: of what the forward pass saved, numbers are
    replaced by y, and a count (the size of the support) by that of y."""
    torch = importlib.import_module("torch")

    def shape_of_numbers(saved: Any) -> Any:
        return saved.shape if saved.is_floating_point() else None

    def given(shape: Any) -> Any:
        return (y > 0).sum(dim, keepdim=True) if shape is None else y.reshape(shape).contiguous()

    x = torch.zeros_like(y).requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(shape_of_numbers, given):
        return x, forward(x, dim=dim)


def through_autograd(forward: Function) -> Function:
    """A backward pass as autograd runs it."""
    torch = importlib.import_module("torch")

    def vjp(y: Any, dy: Any, dim: int = -1) -> Any:
        x, result = on_given(y, forward, dim)
        return torch.autograd.grad(result, x, dy)[0]

    return vjp


def twice_through_autograd(forward: Function) -> Function:
    """The gradients of the same for x and dy."""
    torch = importlib.import_module("torch")

    def double_backward(y: Any, dy: Any, v: Any, dim: int = -1) -> Any:
        dy = dy.detach().requires_grad_()
        x, result = on_given(y, forward, dim)
        dx = torch.autograd.grad(result, x, dy, create_graph=True)[0]
        return torch.autograd.grad(dx, (x, dy), v, materialize_grads=True)

    return double_backward


def rows_through_autograd(forward: Function) -> Function:
    """The same for a forward pass that knows the last axis only."""
    vjp = through_autograd(lambda x, dim: forward(x))
    return lambda y, dy: vjp(y, dy)


def entmaxs(map: str) -> Function:
    return attribute("entmax", {"sparsemax": "sparsemax", "entmax": "entmax15"}[map])


def liger(map: str) -> Function:
    function: Any = attribute(f"liger_kernel.ops.{map}", f"Liger{map.capitalize()}Function")
    arguments = () if map == "softmax" else (-1,)
    return lambda x: function.apply(x, *arguments)


# --- JAX ----------------------------------------------------------------------------------------------


def jax_forward(name: str) -> Function:
    jax = importlib.import_module("jax")
    jitted: Function = jax.jit(attribute("jax.nn", name), static_argnames="axis")
    return lambda x, axis=-1: jitted(x, axis=axis)


def jax_formula(map: str, name: str) -> Function:
    jitted: Function = importlib.import_module("jax").jit(formula(map, name, "jax.numpy"))
    return jitted


def jax_twice(map: str) -> Function:
    """As `torch_twice`, by `jax.vjp`."""
    jax, vjp = importlib.import_module("jax"), formula(map, "vjp", "jax.numpy")

    def double_backward(y: Any, dy: Any, v: Any) -> Any:
        through_y, grad_dy = jax.vjp(vjp, y, dy)[1](v)
        return vjp(y, through_y), grad_dy

    jitted: Function = jax.jit(double_backward)
    return jitted


# --- the table ----------------------------------------------------------------------------------------

later = functools.partial


def each(*maps: str, functions: Callable[[str], dict[str, Loader]]) -> dict[tuple[str, str], Loader]:
    return {(map, what): loader for map in maps for what, loader in functions(map).items()}


PEERS = {
    "softgrad": Peer(
        about="the functions of this library",
        functions=each(*MAPS, functions=lambda map: {what: later(softgrads, map, what) for what in WHATS}),
    ),
    "numpy": Peer(
        about="the closed form, written out in NumPy",
        package="numpy",
        module="numpy",
        functions=each(
            *FORMULAS,
            functions=lambda map: {what: later(formula, map, name) for what, name in FORMULAS[map].items()},
        ),
        lacks="it is not written out",
    ),
    "jacobian": Peer(
        about="the dense Jacobian and a product, in NumPy",
        package="numpy",
        module="numpy",
        functions=each(
            "softmax",
            functions=lambda map: {what: later(formula, map, "vjp_by_jacobian") for what in ("vjp", "jvp")},
        ),
        lacks="it is the product of softmax's Jacobian and a vector",
        max_n=512,
    ),
    "scipy": Peer(
        about="scipy.special",
        package="scipy",
        module="scipy",
        functions=each(
            "softmax",
            "log_softmax",
            functions=lambda map: {"forward": later(attribute, "scipy.special", map)},
        ),
        lacks="SciPy has softmax and log_softmax, and no derivative of them",
    ),
    "torch": Peer(
        about="torch.softmax, and what autograd calls: torch._softmax_backward_data (log_softmax alike)",
        package="torch",
        module="torch",
        arrays="torch",
        functions=each(
            "softmax",
            "log_softmax",
            functions=lambda map: {
                "forward": later(torch_forward, map),
                "vjp": later(torch_vjp, f"_{map}_backward_data"),
                "double-backward": lambda: torch_twice(torch_vjp(f"_{map}_backward_data")),
            },
        ),
        lacks="PyTorch has softmax and log_softmax, and its forward mode starts from the logits",
    ),
    "torch.compile": Peer(
        about="what torch.compile makes of the functions of `torch`",
        package="torch",
        module="torch",
        arrays="torch",
        functions=each(
            "softmax",
            "log_softmax",
            functions=lambda map: {
                "forward": lambda: torch_compiled(later(torch_forward, map)),
                "vjp": lambda: torch_compiled(later(torch_vjp, f"_{map}_backward_data")),
            },
        ),
        lacks="PyTorch has softmax and log_softmax, their double backward by autograd, which is not compiled",
        compiler=True,
    ),
    "jax": Peer(
        about="jax.nn.softmax, and the closed form under jax.jit, since JAX's own vjp starts from the logits",
        package="jax",
        module="jax",
        arrays="jax",
        functions=each(
            "softmax",
            "log_softmax",
            functions=lambda map: {
                "forward": later(jax_forward, map),
                "vjp": later(jax_formula, map, "vjp"),
                "jvp": later(jax_formula, map, FORMULAS[map]["jvp"]),
                "double-backward": later(jax_twice, map),
            },
        ),
        lacks="JAX has softmax and log_softmax",
    ),
    "entmax": Peer(
        about="entmax.sparsemax and entmax.entmax15, their backward through autograd on the y that is given",
        package="entmax",
        module="entmax",
        arrays="torch",
        functions=each(
            "sparsemax",
            "entmax",
            functions=lambda map: {
                "forward": later(entmaxs, map),
                "vjp": lambda: through_autograd(entmaxs(map)),
                "double-backward": lambda: twice_through_autograd(entmaxs(map)),
            },
        ),
        lacks="entmax has sparsemax and entmax, and no forward mode",
    ),
    "liger": Peer(
        about="the Triton kernels of Liger-Kernel, through autograd on the y that is given",
        package="liger-kernel",
        module="liger_kernel",
        arrays="torch",
        functions=each(
            "softmax",
            "sparsemax",
            functions=lambda map: {
                "forward": later(liger, map),
                "vjp": lambda: rows_through_autograd(liger(map)),
            },
        ),
        lacks="Liger has softmax and sparsemax, forward and vjp",
        device="cuda",
    ),
    "quack": Peer(
        about="the CuTe kernels of QuACK, through autograd on the y that is given",
        package="quack-kernels",
        module="quack",
        arrays="torch",
        functions=each(
            "softmax",
            functions=lambda map: {
                "forward": later(attribute, "quack", map),
                "vjp": lambda: rows_through_autograd(attribute("quack", map)),
            },
        ),
        lacks="QuACK has softmax and its vjp",
        device="cuda",
    ),
}


def version(peer: Peer) -> str:
    if peer.package == "softgrad":
        return __version__
    try:
        return importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        return "?"  # it can be imported, but pip did not install it


def why_not(peer: Peer) -> str:
    """What keeps a peer from running here; "" if nothing does."""
    if importlib.util.find_spec(peer.module) is None:
        return f"not installed: pip install {peer.package}"
    if peer.device == "cuda" and not importlib.import_module("torch").cuda.is_available():
        return "needs a CUDA device, and PyTorch finds none"
    if peer.compiler and not shutil.which(os.environ.get("CXX", "g++")):
        return "needs a C++ compiler: install g++, or name another in CXX"
    return ""
