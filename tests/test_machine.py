"""What softgrad.cpu asks of a machine: kernels that LLVM vectorises, and what is done without them."""

import collections
import functools
import math
import re

import llvmlite.binding
import machine_code
import numba
import numpy as np
import processes
import pytest

import softgrad
from softgrad.cpu import drive, kernels, machine, secular, segments

OPERATIONS = kernels.OPERATIONS
# these have no loops over elements: they call the kernels of whole rows
WHOLE_SEGMENTS = segments.maps_rows, segments.reduce_rows, segments.reduce_vjp_rows
TWO_WAYS = [
    (name, columns)
    for name in OPERATIONS
    for columns in (False, True)
    if (OPERATIONS[name].columns or not columns) and OPERATIONS[name].rows not in WHOLE_SEGMENTS
]

# --- machine code -----------------------------------------------------------------------------------

FLOATING = re.compile(r" f(?:add|sub|mul|div|cmp) |(?:load|store) (?:float|double|half|i16)\b")
ARITHMETIC = re.compile(r" f(?:add|sub|mul|div) ")
SCALED = re.compile(r" f(?:mul|div) ")  # beside it, numbers are added to the sums of their rows or columns
# one by one: the elements of a support, the rows that failed a test, the numbers of a row
COLLECT = {"entmax", "entmax_vjp", "entmax_alpha_vjp", "softmax_vjp", "cross_entropy"}
COLLECT |= {"sink_softmax", "sink_softmax_vjp", "softmax_scale_vjp"}
UNROLLED = re.compile(r"\.(?:prol|epil)\b")  # what unrolling leaves over


def blocks_of(function):
    """A function of LLVM's as {label: lines}, and {label: those that may follow}."""
    blocks, label = collections.defaultdict(list), "entry"
    for line in function.splitlines()[1:]:
        found = re.match(r'"?([-\w.$]+)"?:', line)
        if found:
            label = found[1]
        else:
            blocks[label].append(line)
    after = {label: re.findall(r'label %"?([-\w.$]+)', "\n".join(lines)) for label, lines in blocks.items()}
    return blocks, after


def innermost_loops(after):
    """The labels of each loop that has no loop in it."""
    before = collections.defaultdict(list)
    for label, following in after.items():
        for other in following:
            before[other].append(label)
    first = next(iter(after))
    begun, ended, ways, loops = {first}, set(), [(first, iter(after[first]))], collections.defaultdict(set)
    while ways:  # depth first; a way back to where it came from closes a loop
        label, following = ways[-1]
        other = next(following, None)
        if other is None:
            ended.add(label)
            ways.pop()
        elif other not in begun:
            begun.add(other)
            ways.append((other, iter(after[other])))
        elif other not in ended:
            loops[other] |= {other}
            inside = [label]
            while inside:
                one = inside.pop()
                if one not in loops[other]:
                    loops[other].add(one)
                    inside += before[one]
    return [loop for head, loop in loops.items() if not any(o != head and o in loop for o in loops)]


def scalar_loops(code):
    """The innermost loops of floats in optimised LLVM code that it did not cut into vectors.

    LLVM marks the loops of vectors, and those of what is left over.  A call of a function with loops counts.
    """
    marks = dict(re.findall(r"^(!\d+) = (.*)$", code, re.M))
    marked = {mark for mark, what in marks.items() if "llvm.loop.isvectorized" in what}
    functions = re.findall(r"^define [^@]*@(\S+?)\((.*?)^}", code, re.M | re.S)
    graphs = [(name, *blocks_of(text)) for name, text in functions]
    loops = [(name, blocks, innermost_loops(after)) for name, blocks, after in graphs]
    callers = re.compile("|".join(rf"@{re.escape(name)}\(" for name, _, inside in loops if inside) or "(?!)")
    found = []
    for _, blocks, inside in loops:
        for loop in inside:
            text = "\n".join(line for label in blocks if label in loop for line in blocks[label])
            if callers.search(text):
                continue
            own = [set(re.findall(r"!\d+", marks[mark])) for mark in re.findall(r"!llvm\.loop (!\d+)", text)]
            left_over = any(UNROLLED.search(label) for label in loop)
            if FLOATING.search(text) and not left_over and not any(marked & marks_of for marks_of in own):
                found.append("\n".join(line for line in text.splitlines() if FLOATING.search(line)))
    return found


@pytest.fixture(scope="session")
def code_of(request, tmp_path_factory):
    """The code of what is called with arguments of these types, if LLVM makes vectors here."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("llvm") if cache else tmp_path_factory.mktemp("llvm")
    found = functools.partial(machine_code.code_of, folder)

    def twice(x, n):
        for i in range(n):
            x[i] *= 2.0

    code = found(twice, numba.types.CPointer(numba.types.float32), numba.uint64)
    if scalar_loops(code):
        pytest.skip(f"LLVM makes no vectors for {llvmlite.binding.get_host_cpu_name()}")
    return found


# what the parts of rows need not do: see cpu/shards.py
NOT_IN_SHARDS = {
    "shard_stats": ("stores",),
    "shard_entropy": ("stores",),
    "shard_softmax": ("sums",),
    "shard_log_softmax": ("sums", "products", "exponentials"),
    "shard_moments": ("stores",),
    "shard_vjp": ("sums", "maxima"),
    "shard_log_sum": ("stores",),
    "shard_log_vjp": ("sums", "maxima"),
}


def wrong_in(code, name, dtype):
    """What is wrong with the loops of a kernel."""
    number, memory = ("double", "double") if dtype == "float64" else ("float", "(?:float|half|i16)")
    number = "double" if name in ("shard_moments", "shard_vjp") else number
    expected = {
        "sums": rf"fadd[a-z ]* <\d+ x {number}>",
        "products": rf"fmul[a-z ]* <\d+ x {number}>",
        "maxima": r"@llvm\.(?:vector\.reduce\.)?f?maximum\.v\d+f",
        "loads": rf"load <\d+ x {memory}>",
        "stores": rf"store <\d+ x {memory}>",
    }
    if name in ("entmax", "entmax_alpha_vjp"):
        expected["products"] = r"fmul[a-z ]* <\d+ x double>"
    if name in ("entmax_alpha_vjp", "log_softmax_vjp", "segment_softmax_vjp"):
        del expected["maxima"]
    if name in ("entropy", "cross_entropy", "cross_entropy_of_weights", "entmax_alpha_vjp"):
        del expected["stores"]
    if name in ("softmax_mean", "softmax_scale_vjp"):
        del expected["stores"]
    if name == "softmax_vjp_of_mean":
        del expected["sums"], expected["maxima"]
    if name.startswith(("log", "entropy", "cross")) or name.endswith("softmax"):
        expected["exponentials"] = r"fma\.v\d+f(?s:.*)fma\.v\d+f(?s:.*)(?:shl|mul)[a-z ]* <\d+ x i\d\d>"
    for what in NOT_IN_SHARDS.get(name, ()):
        del expected[what]
    missing = [f"no {what} in vectors" for what, pattern in expected.items() if not re.search(pattern, code)]
    arithmetic = SCALED if name == "entmax_alpha_vjp" else ARITHMETIC
    loops = [loop for loop in scalar_loops(code) if name not in COLLECT or arithmetic.search(loop)]
    return missing + [f"a scalar loop:\n{loop[:1000]}" for loop in loops]


@pytest.mark.parametrize("dtype", kernels.ELEMENT)
@pytest.mark.parametrize(("name", "columns"), TWO_WAYS)
def test_all_loops_are_vectorised(name, columns, dtype, code_of):
    if machine.lacks(dtype):
        pytest.skip(machine.lacks(dtype))
    kernels.kernel(name, columns, dtype)  # which other tests need, too
    operation, integer = OPERATIONS[name], numba.int64
    code = code_of(
        operation.columns if columns else operation.rows,
        *([numba.types.CPointer(kernels.ELEMENT[dtype])] * drive.MOST + [integer] * (drive.MOST + 2)),
        *(numba.types.CPointer(numba.float64), integer),
    )
    wrong = wrong_in(code, name, dtype)
    assert not wrong, "\n".join(wrong)


def test_the_sums_of_the_secular_equation_are_vectorised(code_of):
    if machine.lacks("float64"):
        pytest.skip(machine.lacks("float64"))
    kernels.work("eigenvalues")
    assert re.search(r"fdiv <\d+ x double>", code_of(secular.eigenvalues, *[numba.int64] * 4))


# --- machines without -------------------------------------------------------------------------------

LAYOUTS = {
    "rows": lambda a: (a.reshape(8, 9, 10), -1),
    "columns": lambda a: (a.reshape(8, 9, 10), 0),
    "two axes, strided, reversed": lambda a: (a.reshape(8, 9, 10)[::-1, :, ::2], (0, 2)),
    "all": lambda a: (a.reshape(8, 9, 10).T, None),
    "a number": lambda a: (a[:1].reshape(()), -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_formulas_do_what_the_kernels_do(layout, monkeypatch):
    """Masks, scales, empty rows, rows of NaN, offsets and saturation, in place, two-valued y and all."""
    rng = np.random.default_rng(0)
    x, axis = LAYOUTS[layout](rng.normal(size=720) * 30)
    dy, v = LAYOUTS[layout](rng.normal(size=720) + 1e6)[0], LAYOUTS[layout](rng.normal(size=720))[0]
    where = rng.random(x.shape) < 0.7
    x.flat[::90], dy.flat[5::111] = -np.inf, np.inf
    nothing = np.full_like(x, -np.inf)

    def results():
        for scale in (1.0, -0.3, 0.0, 1e-310, 1e300):
            for mask in (None, where, ~where & where):
                options = {"axis": axis, "where": mask, "scale": scale}
                for name in ("softmax", "log_softmax"):
                    forward, vjp, jvp = (getattr(softgrad, name + what) for what in ("", "_vjp", "_jvp"))
                    for given in (x, nothing):
                        y = forward(given, **options, empty="nan")
                        yield y
                        yield vjp(y, dy, **options)
                        yield jvp(y, dy, **options)
                        own = np.array(y, copy=True)
                        yield vjp(own, v, **options, out=own if own.ndim else None)
                if scale == 1.0:
                    shape = np.sum(x, axis=axis, keepdims=True).shape
                    of_rows = np.arange(-1.0, math.prod(shape) - 1).reshape(shape) / 7
                    yield softgrad.softmax(x, axis=axis, where=mask, scale=of_rows)
                for name in ("logsumexp", "entropy"):
                    for given in (x, nothing):
                        found = getattr(softgrad, name)(given, **options)
                        yield found
                        yield getattr(softgrad, name + "_vjp")(given, found - 2.0, **options)
        if axis is not None and not isinstance(axis, tuple) and x.ndim:
            classes = np.abs(x).argmin(axis)
            for target in (classes, np.abs(v)):
                for smoothing in (0.0, 0.1):
                    options = {"axis": axis, "label_smoothing": smoothing, "reduction": "none"}
                    loss, pullback = softgrad.cross_entropy_with_vjp(x, target, **options)
                    yield from (loss, pullback(), softgrad.cross_entropy(x, target, **options))
        for name in ("softmax", "log_softmax"):
            y = getattr(softgrad, name)(x, axis=axis)
            yield from getattr(softgrad, name + "_double_backward")(y, v, v, axis=axis, scale=2.0)
        for alpha in (1.25, 1.5, 2.0):
            for mask in (None, where):
                options = {"axis": axis, "where": mask}
                y = softgrad.entmax(x, alpha, **options, scale=-0.1, empty="nan")
                yield y
                yield softgrad.entmax_vjp(y, dy, alpha, **options)
                yield softgrad.entmax_alpha_vjp(y, v, alpha, **options)
            yield from softgrad.entmax_double_backward(y, v, v, alpha, axis=axis, scale=2.0)

    found, expected = [], []
    assert softgrad.explain(lambda: expected.extend(results()))[0].by == "numba"
    monkeypatch.setattr(machine, "lacks", lambda dtype: "everything")
    steps = softgrad.explain(lambda: found.extend(results()))  # which opens no gate
    assert {step.by for step in steps} == {"formulas"}
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-11, atol=1e-13)


WITHOUT = """
    import sys
    if sys.argv[1] == "without Numba":
        sys.modules["numba"] = None
    import ml_dtypes, numpy as np, softgrad
    from softgrad.cpu import machine
    assert "numba.core" not in sys.modules
    for name in sys.argv[2:]:
        dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        x = np.arange(60).reshape(3, 20)[:, ::2].astype(dtype)
        e = np.exp(x.astype(float) - x[:, -1:].astype(float))
        y, ways = softgrad.softmax(x), softgrad.explain(softgrad.softmax, x)
        for _ in range(2):  # the second one would pass the gate
            assert abs(softgrad.softmax(x.copy()).astype(float) - e / e.sum(1, keepdims=True)).max() < 2e-2
            assert (softgrad.softmax_vjp(y, np.ones_like(y)) == 0).all()
        print(name, ways[0].by, machine.lacks(name), sep=" | ")
"""


def told(what, *dtypes, **environment):
    lines = processes.run(
        WITHOUT, what, *(dtypes or kernels.ELEMENT), timeout=300, **environment
    ).splitlines()
    return {name: (by, lack) for name, by, lack in (line.split(" | ") for line in lines)}


def test_without_numba():
    for by, lack in told("without Numba").values():
        assert by == "formulas"
        assert "Numba can't be imported" in lack
        assert "install" in lack


is_x86 = pytest.mark.skipif(
    "x86" not in llvmlite.binding.get_default_triple(), reason="only an x86-64 may lack what the kernels need"
)


@is_x86
def test_a_processor_without_fma():
    for by, lack in told("with Numba", NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="").values():
        assert by == "formulas"
        assert re.search(
            r"\(x86-64, features ''\) .* \(FMA\): use another machine, or .*NUMBA_CPU_NAME", lack
        )


@is_x86
@pytest.mark.skipif(bool(machine.lacks("float32")), reason="this machine has no FMA")
def test_a_processor_without_conversions_of_float16():
    found = told("with Numba", "float16", "float32", NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="+fma,+avx2")
    by, lack = found.pop("float16")
    assert by == "formulas"
    assert re.search(r"\(F16C\): use another machine or float32", lack)
    assert set(found.values()) == {("numba", "None")}


@is_x86
def test_a_processor_is_known_by_its_name():
    """Without its features being listed."""
    code = "from softgrad.cpu import machine; print(machine.lacks('float16'))"
    assert processes.run(code, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="") == "None\n"
    assert "NUMBA_DISABLE_JIT" in processes.run(code, NUMBA_DISABLE_JIT="1")
