"""The ways in which a target may be called: a function of some arrays, a layer, autograd.

Each argument has a role: ``x`` (logits), ``y`` (what the map made of them), ``dy``, ``dx``, ``v``.  A way
names the role of each argument; conventions.py finds the one that gives the right numbers.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .autograd import Function, Roles, Way, guarded, own_axis, through_autograd
from .convert import Unusable
from .operations import ARGUMENTS

ROLES = {
    "x": "the logits",
    "y": "the result of the map",
    "dy": "∂L/∂y",
    "dx": "the tangent of x",
    "v": "the cotangent of dx",
    "t": "the targets",
}
# how people name their arguments; where these do not fit, the numbers decide
NAMES = {
    "v": r"v|vv|gg\w*|grad_grad\w*|dd\w*|u",
    "dx": r"dx|x_?dot|t|tangents?|tx|v|dz",
    "dy": r"d[a-z]{1,2}|d_\w+|dl_?d\w+|d?out_?grad\w*|dout\w*|dvalues?|dprobs?|dsoftmax|\w*grad\w*|g|gy|"
    r"delta\w*|upstream\w*|ct|cotangents?|\w*error|output_g\w*|accum\w*",
    "y": r"y|s|p|a|sm|soft\w*|prob\w*|out|outputs?|y_?(hat|pred)|weights?|w|att\w*|act\w*|result|"
    r"forward_out\w*|cache\w*|value|self_output|pred\w*|softmax_\w+",
    "x": r"x|z|h|in|inp|inputs?|logits?|scores?|in_\w+|pre_?act\w*|net\w*|linear\w*|data",
}
OUT = r"out|dx|d_?in\w*|grad_in\w*|result|dst|dest\w*"  # an array that the result is written to
LABELS = r"t|labels?|targets?|y_?true|y_?lab\w*|one_?hot\w*|truth|ground_truth|classes|y_batch"
RATES = r"lr|learning_?rate|eta|step_?size"  # of a layer that has nothing to learn
FORWARDS = ["forward", "__call__", "forward_pass", "forward_prop", "fwd", "call", "activate", "apply"]
BACKWARDS = [
    "backward",
    "backward_pass",
    "backprop",
    "backward_prop",
    "back",
    "bwd",
    "vjp",
    "gradient",
    "grad",
]
GRADIENTS = "dinputs", "dinput", "dx", "grad_input", "input_gradient", "grad", "dz", "dvalues"
METHODS = f"a method {' or '.join(BACKWARDS[:2])}"


# --- a target's ways ------------------------------------------------------------------------------------


def ways(target: Any, name: str, what: str, roles: Roles | None = None) -> Iterator[Way]:
    """All ways to call the target, the most probable first; `roles` are those that the caller gave."""
    if inspect.isclass(target):
        if is_a(target, "torch.autograd", "Function"):
            yield from through_autograd(own_axis(target), f"{name}.apply", what)
            return
        target, name = instance(target, name)
    elif inspect.isroutine(target) and makes_a_layer(target):
        target, name = guarded(target)(), f"{name}()"
    if is_a(type(target), "torch.nn", "Module"):
        yield from through_autograd(target, name, what)
    elif (method := first_of(target, BACKWARDS)) and not inspect.isroutine(target):
        yield from layer(target, method, name, what, roles)
    elif callable(target):
        yield from function(target, name, what, roles)
    else:
        raise Unusable(f"{name} is of type {type(target).__name__}, not a function, and has not {METHODS}")


def is_a(kind: type, module: str, name: str) -> bool:
    """Whether a class comes from that of a module, if the module is there."""
    return module in sys.modules and issubclass(kind, getattr(sys.modules[module], name))


def first_of(target: Any, names: Sequence[str]) -> str:
    return next((name for name in names if callable(getattr(target, name, None))), "")


def instance(target: type, name: str) -> tuple[Any, str]:
    """A layer of a class: without arguments, or along the last axis."""
    reason: object = ""
    for arguments in ({}, {"axis": -1}, {"dim": -1}):
        try:
            inspect.signature(target).bind(**arguments)
        except TypeError as error:
            reason = reason or error
            continue
        except ValueError:
            pass
        text = ", ".join(f"{key}={value}" for key, value in arguments.items())
        return guarded(target)(**arguments), f"{name}({text})"
    raise Unusable(f"{name}() cannot be made: {reason}; give a function without arguments that makes one")


def makes_a_layer(target: Function) -> bool:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [p for p in parameters if p.default is p.empty]
    return not any(p.kind is not p.VAR_KEYWORD for p in required)


# --- functions and methods --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameters:
    """Of a function: those that take arrays, and what is given for the others."""

    arrays: tuple[inspect.Parameter, ...]
    required: int
    axis: str | None
    out: str | None
    constants: dict[str, float]


def parameters_of(target: Function, what: str) -> Parameters | None:
    """None: a built-in, say, has no signature."""
    try:
        every = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in every) and hasattr(target, "__wrapped__"):
        return None
    by_name = [p for p in every if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    axis = next((p.name for p in by_name if p.name in ("axis", "dim")), None)
    required = [p for p in every if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    wanted = len(ARGUMENTS[what])
    rates = {p.name: 0.1 for p in required if re.fullmatch(RATES, p.name.lower()) and p.name != axis}
    left = [p for p in required if p.name != axis and p.name not in rates]
    out = None
    if what == "vjp" and len(left) > wanted:
        out = next((p.name for p in reversed(left) if re.fullmatch(OUT, p.name.lower())), None)
    skipped = {axis, out, *rates}
    arrays = [p for p in every if p.name not in skipped and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    arrays = [p for p in arrays if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]
    return Parameters(tuple(arrays), sum(p.name != out for p in left), axis, out, rates)


def role_of(name: str, what: str) -> str:
    name = name.lower().strip("_")
    wanted = {"y", "x", *ARGUMENTS[what]}
    if "t" in wanted and re.fullmatch(LABELS, name):
        return "t"
    return next((r for r, pattern in NAMES.items() if r in wanted and re.fullmatch(pattern, name)), "")


def table(what: str) -> dict[int, list[Roles]]:
    """The roles that so many arguments may have."""
    of_y = ARGUMENTS[what]
    if what == "forward":
        return {1: [of_y]}
    if what == "cross_entropy":
        return {2: [("x", "t"), ("t", "x"), ("y", "t"), ("t", "y")]}
    of_x = ("x", *of_y[1:])
    result = {len(of_y): [*itertools.permutations(of_y), *itertools.permutations(of_x)]}
    result[len(of_y) + 1] = list(itertools.permutations(("x", *of_y)))
    if what == "vjp":
        result[1] = [("y",), ("x",)]
    return result


def roles_for(taken: Parameters | None, what: str, known: dict[int, list[Roles]]) -> list[tuple[Roles, bool]]:
    """The roles that the arguments of a function may have, and whether its names say so: those come first."""
    if taken is None:
        return [(roles, False) for roles in known[len(ARGUMENTS[what])]]
    said = [role_of(p.name, what) for p in taken.arrays]
    count = taken.required
    while count < len(said) and said[count] and said[count] not in said[:count] and count + 1 in known:
        count += 1  # an optional argument that has a name we know, as in backward(dy, y=None)
    if count == 0 or (count not in known and count < min(known)):
        count = min(n for n in known if n > count)
    named = tuple(said[:count])
    first = [(named, True)] if named in known.get(count, []) else []
    others = [(roles, False) for roles in known.get(count, []) if roles != named]
    if taken.required < count and taken.required in known:
        others += [(roles, False) for roles in known[taken.required]]
    return first + others


def function(target: Function, name: str, what: str, given: Roles | None) -> Iterator[Way]:
    target, taken = guarded(target), parameters_of(target, what)
    choices = [(given, False)] if given else roles_for(taken, what, table(what))
    if taken is not None and given and not taken.required <= len(given) <= len(taken.arrays):
        raise Unusable(refusal(target, name, given))
    if not choices:
        raise Unusable(refusal(target, name, ARGUMENTS[what]))
    for roles, named in choices:
        call = bound(target, taken, len(roles))
        text = f"{name}({written(taken, roles)})"
        labels = any(re.fullmatch(LABELS, p.name.lower()) for p in taken.arrays) if taken else False
        note = misnomer(taken, roles, what)
        yield Way(roles, call, text, bool(taken and taken.axis), named=named, labels=labels, note=note)
        if (what, roles) in (("vjp", ("x",)), ("cross_entropy", ("x", "t"))):
            yield from through_autograd(call, name, what)


def refusal(target: Function, name: str, roles: Roles) -> str:
    signature = inspect.signature(target)
    parameters = signature.parameters.values()
    more = ""
    if any(re.fullmatch(LABELS, p.name.lower()) for p in parameters):
        more = "; if it is the gradient of a loss, give --map cross_entropy"
    given = ", ".join(roles)
    return f"{name}{signature} cannot be called with ({given}): give a function of these alone{more}"


def misnomer(taken: Parameters | None, roles: Roles, what: str) -> str:
    """Of an argument that has the name of logits and takes weights, or the other way round."""
    for parameter, role in zip(taken.arrays if taken else (), roles, strict=False):
        said = role_of(parameter.name, what)
        if {said, role} == {"x", "y"}:
            return f"{parameter.name} is given {ROLES[role]}; for {ROLES[said]} it is wrong"
    return ""


def written(taken: Parameters | None, roles: Roles) -> str:
    names = [p.name for p in taken.arrays] if taken else []
    names = names if len(names) >= len(roles) else list(roles)
    return ", ".join(r if r == name else f"{name}={r}" for name, r in zip(names, roles, strict=False))


def bound(target: Function, taken: Parameters | None, count: int) -> Function:
    """The target as a function of its arrays and of `axis`.

    The axis is always given to the target: its default may be another.
    """
    if taken is None:
        return target
    arrays, options = taken.arrays[:count], dict(taken.constants)

    def call(*args: Any, axis: int = -1) -> Any:
        more: dict[str, Any] = {**options, **({taken.axis: axis} if taken.axis else {})}
        place = []
        for parameter, value in zip(arrays, args, strict=True):
            if parameter.kind is parameter.KEYWORD_ONLY or taken.out:
                more[parameter.name] = value
            else:
                place.append(value)
        if not taken.out:
            return target(*place, **more)
        into = args[0] * 0
        result = target(**more, **{taken.out: into})
        return into if result is None else result

    return call


# --- layers -----------------------------------------------------------------------------------------------


class Context:
    """What a static forward keeps for its backward, as PyTorch's ctx."""

    def save_for_backward(self, *arrays: Any) -> None:
        self.saved_tensors = self.saved_values = arrays


def layer(target: Any, backward: str, name: str, what: str, given: Roles | None) -> Iterator[Way]:
    """A forward, and the backward that goes on from what it kept."""
    forward = first_of(target, FORWARDS)
    methods = {method: guarded(getattr(target, method)) for method in (forward, backward) if method}
    if what == "forward":
        if not forward:
            raise Unusable(f"{name} has no forward")
        yield from function(methods[forward], f"{name}.{forward}", what, given)
        return
    if what == "cross_entropy":
        yield from loss_layer(target, methods.get(forward), methods[backward], name)
        return
    if what != "vjp":
        raise Unusable(f"{name} has a forward and a backward; give a function for --what {what}")
    first = next(iter(inspect.signature(methods[backward]).parameters), "")
    contexts = first in ("ctx", "context")
    context = Context()
    if contexts:
        methods = {key: functools.partial(method, context) for key, method in methods.items()}
    before = parameters_of(methods[forward], "forward") if forward else None
    taken = parameters_of(methods[backward], what)
    known = table(what)
    if forward:
        known[1] = [("dy",), *known[1]]
    choices = [(given, False)] if given else roles_for(taken, what, known)
    shown = {"__call__": ""}.get(forward, f".{forward}")
    for roles, named in choices:
        if taken is not None and not taken.required <= len(roles) <= len(taken.arrays):
            continue
        run_forward = bound(methods[forward], before, 1) if forward else None
        run_backward = bound(kept(target, methods[backward]), taken, len(roles))
        text = f"{name}.{backward}({written(taken, roles)})"
        if run_forward is None or roles in (("x",), ("y",)):  # a derivative, which runs its own forward
            yield Way(roles, run_backward, text, named=named)
            continue

        def call(x: Any, *rest: Any, forward: Any = run_forward, backward: Any = run_backward) -> Any:
            forward(x)
            return backward(*rest)

        yield Way(
            ("x", *roles), call, f"{name}{shown}(x), then .{backward}({written(taken, roles)})", named=named
        )


def loss_layer(target: Any, forward: Function | None, backward: Function, name: str) -> Iterator[Way]:
    """A loss whose forward takes logits and targets, and whose backward takes nothing, or both again."""
    run_backward = kept(target, backward)

    if forward is not None:

        def call(x: Any, t: Any, forward: Function = forward) -> Any:
            forward(x, t)
            return run_backward()

        yield Way(("x", "t"), call, f"{name}.forward(x, t), then .backward()")
    yield from function(run_backward, f"{name}.backward", "cross_entropy", None)


def kept(target: Any, method: Function) -> Function:
    """The method; where it returns nothing, the gradient that it keeps as an attribute."""

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        before = dict(getattr(target, "__dict__", {}))
        result = method(*args, **options)
        if result is not None:
            return result
        after = {k: v for k, v in vars(target).items() if hasattr(v, "shape")}
        names = [n for n in GRADIENTS if n in after]
        names += [n for n in after if after[n] is not before.get(n)]
        return (
            np.array(after[names[0]])
            if names and isinstance(after[names[0]], np.ndarray)
            else (after[names[0]] if names else None)
        )

    return call
