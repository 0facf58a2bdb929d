"""`softgrad verify`: what it takes, what it says of right, wrong and crashing functions, and how it ends."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import processes
import pytest
from contract import off_by
from typer.testing import CliRunner

from softgrad import cli
from softgrad.testing import Finding, conventions, convert, errors, oracle, ways
from softgrad.testing.operations import operation
from softgrad.verify import league, load, peers, report, target
from softgrad.verify import run as runs
from softgrad.verify.run import Settings, Verdict

NUMPY = """
    import os

    import numpy as np

    count = 3

    def right(y, dy):
        return y * (dy - (y * dy).sum(axis=-1, keepdims=True))

    def backwards(dy, y):
        return right(y, dy)

    def along(y, dy, *, axis):
        return y * (dy - (y * dy).sum(axis=axis, keepdims=True))

    def of_rows(y, dy, axis=0):
        return along(y, dy, axis=-1)

    def elementwise(y, dy):
        return y * (1 - y) * dy

    def sums(y, dy):
        return (y * dy).sum(axis=-1)

    def wide(y, dy):
        return right(y.astype(np.float64), dy.astype(np.float64))

    def raises(y, dy):
        raise ValueError("no [bold]good[/bold]")

    def leaves(y, dy):
        raise SystemExit(7)

    def dies(y, dy):
        print("the last words", flush=True)
        os._exit(0)

    def segfaults(y, dy):
        import ctypes

        ctypes.string_at(0)

    def talks(y, dy):
        print("it was here")
        os.write(1, b"and here")
        return right(y, dy)

    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def double_backward(y, dy, v):
        mean = (y * dy).sum(axis=-1, keepdims=True)
        through_y = v * (dy - mean) - dy * (y * v).sum(axis=-1, keepdims=True)
        return right(y, through_y), right(y, v)

    def of_one(y):
        return y

    def of_labels(probs, labels):
        return probs - np.eye(probs.shape[-1])[labels]

    def one_row(y, dy):
        return y * (dy - np.dot(y, dy))

    def columns(y, dy):
        return y * (dy - (y * dy).sum(axis=0))

    class Layer:
        @staticmethod
        def backward(y, dy):
            return right(y, dy)
    """
TORCH = """
    import torch

    def right(y, dy, dim=-1):
        return torch._softmax_backward_data(dy, y, dim, y.dtype)

    def methods(y, dy):
        return y * (dy - (y * dy).sum(-1, keepdim=True))

    def overwrites(y, dy):
        dx = methods(y, dy)
        dy.zero_()
        return dx

    def raises(y, dy):
        raise RuntimeError(type(y).__name__)

    def on_numpy(y, dy):
        return right(torch.from_numpy(y.copy()), torch.from_numpy(dy.copy())).numpy()
    """
JAX = """
    import jax
    import jax.numpy as jnp

    @jax.jit
    def right(y, dy):
        return y * (dy - (y * dy).sum(-1, keepdims=True))

    def raises(y, dy):
        raise RuntimeError(type(y).__module__)
    """
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    for name, content in {"plain": NUMPY, "tensors": TORCH, "traced": JAX}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(content))
    return folder


@pytest.fixture
def restored(monkeypatch):
    """sys.path, to which a target's folder is added."""
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def plain(folder):
    return folder / "plain.py"


def verify(*arguments):
    """The command on short rows of float32, unless told otherwise."""
    arguments = [str(a) for a in arguments]
    for option, value in {"--dtypes": "float32", "--max-n": "17"}.items():
        if option not in arguments:
            arguments += [option, value]
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["verify", *arguments])


def unwrapped(result):
    return " ".join(result.output.split())


# --- right and wrong ----------------------------------------------------------------------------------


def test_a_right_function(plain):
    result = verify(f"{plain}:right", "--dtypes", "float32,float64")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"It is sound \(vjp of softmax; float32, float64\): all \d+ checks passed\.", unwrapped(result)
    )
    assert result.output.startswith(
        "Called as right(y, dy): y the result of the map, dy ∂L/∂y; rows of a 2-D array"
    )
    assert "NumPy arrays, level sound, seed 0, rows up to 17" in unwrapped(result)
    assert "✗" not in result.output


def test_a_wrong_function(plain):
    result = verify(f"{plain}:elementwise")
    assert result.exit_code == 1
    words = [
        "Called as elementwise(y, dy)",
        "It is not sound (vjp of softmax): ",
        "Probably: elementwise y(1−y)∘dy",
        "right: dx = y * (dy - (y * dy).sum(axis=-1, keepdims=True))",
        "✗ contract, float32: each row is near the exact result",
        "given [",
        "To reproduce it:",
        "┃ float32 ┃",
    ]
    places = [unwrapped(result).find(word) for word in words]
    assert -1 not in places
    assert places == sorted(places)


def test_the_code_it_gives_reproduces_the_failure(plain):
    """Of a function that takes dy first, which the code must know."""
    result = verify(f"{plain}:right", "--args", "dy,y", "--json", "-")
    failed = next(found for found in json.loads(result.output)["findings"] if not found["passed"])
    assert "passed=False" in processes.run(failed["reproduce"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("PLAIN:sums", 1),  # of a wrong shape
        ("PLAIN:wide", 0),  # rounded, and the report says so
        ("softgrad --level tight", 0),
        ("PLAIN:right --level tight", 1),
        ("PLAIN:backwards --args dy,y", 0),
        ("PLAIN:backwards --args y,dy", 1),
        ("PLAIN:backwards", 0),
        ("PLAIN:right --args dy,y", 1),
        ("PLAIN:softmax --what forward", 0),
        ("PLAIN:right --what jvp", 0),
        ("PLAIN:double_backward --what double-backward", 0),
        ("PLAIN:along", 0),
        ("PLAIN:of_rows", 1),  # it takes an axis, and does not heed it
        ("plain:right", 0),  # a module of the current folder
        ("plain:Layer.backward", 0),
        ("plain:Layer", 0),
        ("PLAIN:one_row", 0),
        ("PLAIN:columns", 2),  # one of its kinds of rows is right, and the other not
        ("PLAIN:columns --axis 0", 0),
        ("PLAIN:columns --axis -1", 1),
    ],
)
def test_the_exit_code(arguments, code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert verify(*arguments.replace("PLAIN", str(folder / "plain.py")).split()).exit_code == code


# --- safety: time and memory ----------------------------------------------------------------------------


def test_a_jacobian_is_checked_up_to_what_fits(tmp_path):
    (tmp_path / "dense.py").write_text(
        "import numpy as np\n"
        "def f(y, dy):\n"
        "    jacobian = y[:, :, None] * (np.eye(y.shape[1], dtype=y.dtype) - y[:, None, :])\n"
        "    return (jacobian @ dy[:, :, None])[:, :, 0]\n"
    )
    result = verify(f"{tmp_path / 'dense.py'}:f", "--max-n", "5000", "--gigabytes", "1", "--json", "-")
    content = json.loads(result.output)
    assert result.exit_code == 0
    found = {one["check"]: one for one in content["findings"]}
    assert 500 <= found["contract"]["longest"] < 5000
    assert re.match(r"memory grows with n², to [\d.]+ GB at \d+×[\d,]+$", found["contract"]["stopped"])
    verdict = Verdict("", Settings(), findings=[Finding(**one) for one in content["findings"]])
    assert re.match(r"checked up to n = [\d,]+: memory grows with n²", verdict.limited)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no limit of memory elsewhere")
def test_what_finds_no_memory_is_left_out(tmp_path):
    """Of one length, which no prediction tells."""
    (tmp_path / "greedy.py").write_text(
        "import numpy as np\n"
        "def f(y, dy):\n"
        "    if y.shape[1] == 100: np.empty(10**10, np.uint8)\n"
        "    return y * (dy - (y * dy).sum(-1, keepdims=True))\n"
    )
    result = verify(f"{tmp_path / 'greedy.py'}:f", "--max-n", "200")
    assert result.exit_code == 0
    assert "checked up to n = 96: it finds no memory" in unwrapped(result)


def test_loops_are_checked_up_to_what_the_time_allows(tmp_path):
    (tmp_path / "loops.py").write_text(
        "def f(y, dy):\n"
        "    dx = y * 0\n"
        "    for r in range(len(y)):\n"
        "        for i in range(y.shape[1]):\n"
        "            for j in range(y.shape[1]):\n"
        "                dx[r, i] += y[r, j] * dy[r, j] * ((i == j) - y[r, i])\n"
        "    return dx\n"
    )
    result = verify(f"{tmp_path / 'loops.py'}:f", "--max-n", "5000", "--seconds", "4", "--json", "-")
    assert result.exit_code == 0, result.output
    stopped = [one["stopped"] for one in json.loads(result.output)["findings"]]
    assert any(re.match(r"time grows with n[²³], to [\d.e+]+ s a call at", reason) for reason in stopped)


@pytest.mark.parametrize("length", [5, 64])  # where it is looked at how it is called, and later
def test_what_hangs_ends(tmp_path, length):
    (tmp_path / "hangs.py").write_text(
        f"def f(y, dy):\n"
        f"    while y.shape[1] == {length}:\n"
        f"        pass\n"
        f"    return y * (dy - (y * dy).sum(-1, keepdims=True))\n"
    )
    result = verify(f"{tmp_path / 'hangs.py'}:f", "--max-n", "100", "--seconds", "1")
    assert result.exit_code == 2
    assert "hangs.py:f did not end within 1 s" in unwrapped(result)
    assert re.search(r"it was at line [23] of \S+hangs.py, in f", unwrapped(result))


# --- crashes: those of the target are failures, and the traceback is its own ---------------------------


def test_an_exception(plain):
    """In every case: no verdict, and the line of the target."""
    result = verify(f"{plain}:raises")
    assert result.exit_code == 2
    assert re.search(
        r"raises\(y, dy\) raises ValueError: no \[bold\]good\[/bold\] at line \d+ of \S+plain.py: raise Val",
        unwrapped(result),
    )
    assert "called with NumPy arrays of shapes (4, 5) and (4, 5)" in unwrapped(result)


def test_an_exception_in_some_cases(tmp_path):
    (tmp_path / "some.py").write_text(
        "def f(y, dy):\n"
        "    if y.shape[1] == 1: raise ValueError('one')\n"
        "    return y * (dy - (y * dy).sum(-1, keepdims=True))\n"
    )
    result = verify(f"{tmp_path / 'some.py'}:f")
    assert result.exit_code == 1
    assert "ValueError: one" in result.output
    assert 'some.py", line 2' in result.output
    assert f"{os.sep}verify{os.sep}" not in result.output
    assert f"{os.sep}testing{os.sep}" not in result.output
    assert result.output.count("Traceback") == 1


@pytest.mark.parametrize(
    ("function", "word"),
    [("leaves", "SystemExit(7)"), ("dies", "exit code 0"), ("segfaults", "SIGSEGV")],
)
def test_the_end_of_the_process(plain, function, word):
    """Before there is a result: no verdict."""
    result = verify(f"{plain}:{function}")
    assert result.exit_code == 2
    assert word in unwrapped(result)
    assert {"leaves": "raise SystemExit(7)", "dies": "the last words", "segfaults": "plain.py, in segfaults"}[
        function
    ] in (unwrapped(result))


def test_what_it_prints_is_told_and_does_no_harm(plain):
    result = verify(f"{plain}:talks", "--json", "-")
    assert result.exit_code == 0
    assert "it was here" in json.loads(result.output)["printed"]
    result = verify(f"{plain}:talks")
    assert "It printed" in result.output
    assert "and here" in result.output


@pytest.mark.parametrize("content", ["1 / 0", "def f(y, dy:", "raise SystemExit(3)"])
def test_a_file_that_ends_with_an_error(tmp_path, content):
    (tmp_path / "broken.py").write_text(content)
    result = verify(f"{tmp_path / 'broken.py'}:f")
    assert result.exit_code == 2
    assert re.search(r"broken.py cannot be imported: (Zero|Syntax|SystemExit)", unwrapped(result))
    assert "importlib" not in result.output


# --- what there is nothing of to verify: one line, and 2 ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PLAIN:nothing", "there is no nothing there; it has right, backwards"),
        ("PLAIN:count", "is of type int, not a function; it has right"),
        ("PLAIN:of_one", "of_one gives softmax itself, and no derivative of it: --what forward checks it"),
        ("PLAIN:of_labels", "if it takes labels, it is the gradient of a loss: --map cross_entropy"),
        (
            "PLAIN:columns",
            "right for columns (--axis 0) and one row at a time (--axis none), and wrong for rows",
        ),
        ("PLAIN:", "there is no name there; it has right"),
        ("PLAIN", "names no function; give "),
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("nowhere/target:f", "nowhere/target does not end in .py"),
        ("no_such_module:f", "there is no module no_such_module, neither installed nor in "),
        ("json.no_such_module:f", "there is no module json.no_such_module"),
        ("a b:f", "'a b' is neither the name of a module nor a file that ends in .py"),
        ("no_such_name", "there is no built-in no_such_name; there are softgrad, numpy, "),
        ("scipy", "scipy has no vjp of softmax: SciPy has softmax and log_softmax"),
    ],
)
def test_what_there_is_is_said(text, words, plain, restored):
    with pytest.raises(target.Unusable, match=re.escape(words)):
        target.find(text.replace("PLAIN", str(plain)), "softmax", "vjp").reading("vjp", "softmax")


def test_what_a_target_needs_may_be_missing(tmp_path, restored):
    for name, content, words in (
        ("needy", "import no_such_module", "imports no_such_module, which is not installed"),
        ("deeper", "from no_such_module.deep import f", "imports no_such_module, which is not installed"),
        ("inner", "from . import f", "imports from its package; give it as package.module:function"),
    ):
        (tmp_path / f"{name}.py").write_text(content)
        with pytest.raises(target.Unusable, match=words):
            target.find(f"{tmp_path / name}.py:f", "softmax", "vjp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such_name"], "softgrad: there is no built-in no_such_name; there are softgrad, numpy, "),
        (["softgrad", "--device", "cuda"], "the function takes NumPy arrays, which are on the cpu"),
        (["softgrad", "--dtypes", "float33"], "float33 was given; it takes float16, bfloat16, float32"),
        (["softgrad", "--map", "hardmax"], "hardmax was given; it takes softmax"),
        (["softgrad", "--what", "hessian"], "it takes vjp, forward, jvp or double-backward"),
        (["softgrad", "--args", "dy,z"], "z was given; it takes x, y, dy, dx, v or t"),
        (
            ["softgrad", "--args", "dy,y"],
            "softgrad is a built-in name: --args and --axis are for code of your own",
        ),
        (["softgrad", "--axis", "1"], "1 was given; it takes -1, 0 or none"),
        (["softgrad", "--level", "best"], "it takes sound or tight"),
        (["softgrad", "--max-n", "0"], "it takes a whole number from 1 up"),
        (["softgrad", "--seed", "x"], "it takes a whole number from 0 up"),
        (["softgrad", "--json", "nowhere/report.json"], "there is no folder"),
        (["softgrad", "--html", "nowhere/report.html"], "there is no folder"),
        ([], "give one TARGET, or --list, or --all"),
        (["softgrad", "--all"], "give one TARGET, or --list, or --all"),
        (["--all", "--map", "cross_entropy"], "no built-in name has cross_entropy; give a TARGET"),
        (["--all", "--level", "tight"], "'--level': it goes with a TARGET"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, words):
    result = verify(*arguments)
    assert result.exit_code == 2
    assert words in unwrapped(result)
    assert result.output.count("\n") == 1


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is not None, reason="Liger-Kernel is installed")
def test_a_peer_that_is_not_installed():
    result = verify("liger")
    assert result.exit_code == 2
    assert "liger is not installed: pip install liger-kernel" in unwrapped(result)


def test_a_peer_that_is_installed_but_broken(tmp_path, monkeypatch):
    (tmp_path / "entmax.py").write_text("raise OSError('libtorch.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "entmax", raising=False)
    with pytest.raises(target.Unusable, match="is installed, but: OSError: libtorch.so: cannot open"):
        target.find("entmax", "sparsemax", "forward")


# --- options ------------------------------------------------------------------------------------------


def test_dtypes(plain):
    result = verify(f"{plain}:right", "--dtypes", "float16,bfloat16,float16", "--json", "-")
    dtypes = {finding["dtype"] for finding in json.loads(result.output)["findings"]}
    assert dtypes == {"float16", "bfloat16"}


def test_the_seed_and_the_longest_row_reach_the_function(plain, tmp_path):
    (tmp_path / "recorder.py").write_text(
        textwrap.dedent("""
        import numpy as np

        def vjp(y, dy):
            with open(__file__ + ".txt", "a") as file:
                print(y.shape[-1], dy.sum(dtype=float), file=file)
            return y * (dy - (y * dy).sum(-1, keepdims=True))
        """)
    )
    seen = []
    for seed, longest in ((0, 5), (0, 5), (1, 5), (0, 9)):
        verify(f"{tmp_path / 'recorder.py'}:vjp", "--seed", seed, "--max-n", longest)
        record = tmp_path / "recorder.py.txt"
        seen.append(record.read_text())
        record.unlink()
    lengths = [max(int(line.split()[0]) for line in text.splitlines()) for text in seen]
    assert lengths == [5, 5, 5, 9]
    assert seen[0] == seen[1] != seen[2]


def test_an_axis_is_told_by_its_name(plain, restored):
    module = target.import_module(str(plain))
    assert ways.parameters_of(module.along, "vjp").axis == "axis"
    assert ways.parameters_of(module.right, "vjp").axis is None
    assert ways.parameters_of(lambda y, dy, dim=1: y, "vjp").axis == "dim"


def test_files(plain, tmp_path):
    file, sheet = tmp_path / "report.json", tmp_path / "report.html"
    result = verify(f"{plain}:elementwise", "--json", file, "--html", sheet, "--seed", 3)
    assert result.exit_code == 1
    content = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert content["passed"] is False
    assert content["target"] == f"{plain}:elementwise"
    assert (content["arrays"], content["settings"]["seed"]) == ("numpy", 3)
    assert {"date", "python", "numpy", "softgrad"} <= content["environment"].keys()
    keys = "check why dtype passed worst eps case reproduce hint longest stopped"
    assert set(keys.split()) == content["findings"][0].keys()
    text = sheet.read_text()
    assert text.startswith("<!doctype html>")
    assert "checks failed" in text
    assert not re.search(r"(src|href)=|@import|url\(|<script", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_the_list():
    result = CliRunner().invoke(cli.app, ["verify", "--list"])
    assert result.exit_code == 0
    for name, peer in peers.PEERS.items():
        assert re.search(rf"│ {name} ", result.output)
        if reason := peers.why_not(peer):
            assert reason.split(":")[0] in unwrapped(result)
    assert "softmax: vjp, forward, jvp, double-backward" in unwrapped(result)


# --- arrays of other libraries --------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("function", ["right", "overwrites"])
def test_a_function_of_tensors(folder, function):
    result = verify(f"{folder}/tensors.py:{function}", "--dtypes", "float32")
    assert "PyTorch arrays" in unwrapped(result)
    assert "Traceback" not in result.output
    assert result.exit_code == (0 if function == "right" else 1)
    assert bool(re.search(r"unchanged.*✗", result.output)) == (function == "overwrites")


@needs_jax
def test_a_function_of_jax_arrays(folder):
    result = verify(f"{folder}/traced.py:right", "--dtypes", "float64")
    assert result.exit_code == 0, result.output
    assert "JAX arrays" in unwrapped(result)


@needs_torch
@needs_jax
def test_a_device_that_a_library_has_not():
    with pytest.raises(target.Unusable, match=r"--device abacus: PyTorch says: \S"):
        convert.by_torch("abacus")
    with pytest.raises(target.Unusable, match=r"--device cpu:99: JAX has "):
        convert.by_jax("cpu:99")


@needs_torch
@needs_jax
def test_whose_arrays_it_takes(folder, restored):
    modules = {file: target.import_module(f"{folder}/{file}.py") for file in ("plain", "tensors", "traced")}
    for file, names, expected in (
        ("plain", "right raises leaves", "numpy"),
        ("tensors", "right methods raises", "torch"),
        ("tensors", "on_numpy", "numpy"),
        ("traced", "right raises", "jax"),
    ):
        for name in names.split():
            function = getattr(modules[file], name)
            if name in ("raises", "leaves"):
                word = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}[expected]
                with pytest.raises(target.Unusable, match=f"called with {word} arrays"):
                    conventions.find(function, name, module=modules[file])
            else:
                assert conventions.find(function, name, module=modules[file]).arrays == expected, name


@needs_torch
@needs_jax
@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_arrays_keep_their_bits(library, dtype):
    a = np.arange(12).reshape(3, 4).astype(np.dtype(dtype))
    read_only = a.copy()
    read_only.flags.writeable = False
    for array in (a, a.T, a[::2], a[:, ::-1], read_only, a[:0], a[0, 0][()] + np.zeros((), a.dtype)):
        same = convert.on_numpy(lambda given: (given, given), library, "cpu")(np.asarray(array))
        assert type(same) is tuple
        assert same[0].dtype == a.dtype
        np.testing.assert_array_equal(same[1], array)


@needs_torch
def test_an_input_that_was_written_to_is_seen_through_copies():
    function = convert.on_numpy(lambda tensor: tensor.zero_(), "torch", "cpu")
    for array in (np.ones(3), np.ones(3)[::-1]):
        function(array)
        assert not array.any()
    fixed = np.ones(3)[::-1]
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="wrote to an input"):
        function(fixed)


# --- surroundings -----------------------------------------------------------------------------------------


def test_a_module_of_python_s_own_name_beside_the_target(plain, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert verify(f"{plain}:right").exit_code == 0


def test_a_link_leads_to_the_file_that_is_written(plain, tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert verify(f"{plain}:right", "--json", tmp_path / "link.json").exit_code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["passed"]


def test_a_device_stays_a_device(plain):
    assert verify(f"{plain}:right", "--json", os.devnull).exit_code == 0
    assert not os.path.isfile(os.devnull)


def test_the_check_in_which_it_crashed_is_told(tmp_path):
    lines = (
        "import os",
        "def f(y, dy):",
        "    return y * (dy - (y * dy).sum(-1)[:, None]) if len(y) > 1 else os._exit(0)",
    )
    (tmp_path / "late.py").write_text("\n".join(lines))
    result = verify(f"{tmp_path / 'late.py'}:f", "--json", "-")
    found = json.loads(result.output)["findings"][-1]
    assert "exit code 0 in the check one row, float32" in found["case"]


# --- built-in names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "map", "what"), league.games(list(peers.MAPS), peers.WHATS))
def test_a_name_reaches_what_it_says(name, map, what):
    """Its results are those of the oracle, but for rounding."""
    row = operation(map, what)
    arguments = row.arguments(*np.random.default_rng(5).normal(size=(3, 4, 9)))
    results, exact = load(name, map=map, what=what)(*arguments), row.exact(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    if (name, map, what) == ("entmax", "entmax", "double-backward"):
        # entmax 1.3 takes the derivative of √y, of which there is none where y is 0
        assert np.isnan(results[0][arguments[0] == 0]).all()
        results, exact = results[1:], exact[1:]
    for one, other in zip(results, exact, strict=True):
        assert off_by(one, other) <= 6


@needs_torch
def test_autograd_runs_on_the_y_that_is_given():
    import torch

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.softmax(x, -1)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            (y,) = ctx.saved_tensors
            return y * (dy - (y * dy).sum(-1, keepdim=True))

    y, dy = torch.tensor([[0.5, 0.25, 0.25]]).double(), torch.tensor([[1.0, 2.0, 4.0]]).double()
    dx = peers.rows_through_autograd(Kernel.apply)(y, dy)
    assert errors.row_error(dx.numpy(), oracle.vjp(y.numpy(), dy.numpy())).max() <= 2


# --- what is said ---------------------------------------------------------------------------------------


def verdict(*findings, **settings):
    return Verdict("file.py:<f>", Settings(**settings), findings=list(findings))


def finding(check="contract", passed=True, eps=0.5, dtype="float32", case="", hint=""):
    return Finding(check, "<why>", dtype, passed, eps, eps, case, "" if passed else "f(<y>)", hint)


def test_a_verdict_without_findings_is_no_pass():
    assert not verdict().passed
    assert verdict(finding()).passed
    assert not verdict(finding(), finding("constant", passed=False)).passed


def test_a_page_says_what_the_function_is_called():
    text = report.as_html(verdict(finding(passed=False, case="n = 3 & [x]", hint="<hint>")))
    assert "file.py:&lt;f&gt;" in text
    assert "&lt;hint&gt;" in text
    assert "n = 3 &amp; [x]" in text
    assert "<f>" not in text


def test_json_has_no_infinity():
    infinite, nothing = finding(passed=False, eps=np.inf), finding("shape", eps=np.nan)
    content = json.loads(report.as_json(verdict(infinite, nothing)), parse_constant=pytest.fail)
    assert [found["eps"] for found in content["findings"]] == [None, None]


def test_one_traceback_is_shown_once():
    crash = "Traceback (most recent call last):\nValueError: no"
    found = verdict(finding("a", passed=False, case=crash), finding("b", passed=False, case=crash))
    assert len(report.explained(found)) == 1


def test_numbers_are_short():
    texts = {0.0: "0", 0.512: "0.51", 99.0: "99", 99.5: "100", 9999.0: "9999", 12e6: "1e7", np.inf: "∞"}
    assert {value: report.number(value) for value in texts} == texts
    assert report.number(np.nan) == ""


# --- the league table -------------------------------------------------------------------------------------


def test_the_league_table(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    few = {name: peers.PEERS[name] for name in ("softgrad", "numpy", "liger")}
    monkeypatch.setattr(peers, "PEERS", few)
    result = verify("--all", "--what", "vjp", "--map", "softmax")
    assert result.exit_code == 0, result.output
    assert "docs/league.md: of 2 implementations 2 are sound and 1 tight." in unwrapped(result)
    text = (tmp_path / "docs/league.md").read_text()
    assert re.search(r"^\| softgrad \| ✓ \| ✓ \| [\d.e-]+ \|  \|$", text, re.MULTILINE)
    assert re.search(r"^\| numpy \| ✓ \| ✗ \| [\d.e-]+ \| \S.* \|$", text, re.MULTILINE)
    assert re.search(r"Measured on \d{4}-\d\d-\d\d, seed 0: .*softgrad .*numpy ", text)
    assert "**liger** (left out: not installed" in text
    assert "## softmax: vjp" in text


def test_the_league_table_tells_what_is_not_sound():
    settings = Settings()
    bad = verdict(
        finding(passed=False, eps=np.inf, case="a | b, of rows\nand the | rest"),
        finding("constant", passed=False),
    )
    rows = [league.Row("bad", bad, None), league.Row("good", verdict(finding()), verdict(finding()))]
    text = league.page(rows, settings, "softgrad verify --all")
    assert "| bad | ✗ | ✗ | ∞ | – | contract, constant (float32: a \\| b, of rows) |" in text
    assert "| good | ✓ | ✓ | 0.5 | – |  |" in text


def test_where_there_is_no_folder_for_the_league_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = verify("--all")
    assert result.exit_code == 2
    assert "there is no folder" in unwrapped(result)


# --- the process ------------------------------------------------------------------------------------------


def test_interrupting_ends_the_process_that_verifies(plain, monkeypatch):
    started = []
    popen = subprocess.Popen

    def recorded(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupted(share, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.subprocess, "Popen", recorded)
    with pytest.raises(KeyboardInterrupt):
        runs.run(f"{plain}:right", Settings(max_n=9), interrupted)
    assert started[0].returncode is not None


def test_help_loads_no_more_than_it_needs():
    code = """
        import sys
        from typer.testing import CliRunner
        from softgrad.cli import app
        print(CliRunner().invoke(app, ["verify", "--help"]).exit_code)
        print(sorted({"numba", "torch", "jax", "scipy"} & set(sys.modules)))
        """
    assert processes.run(code).split("\n")[:2] == ["0", "[]"]


def test_the_command_from_the_shell(plain):
    """Its own exit codes and streams."""
    command = [sys.executable, "-c", "from softgrad.cli import app; app()", "verify", "--max-n", "9"]
    paths = [processes.SOURCE, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
    for arguments, code in (([f"{plain}:right"], 0), ([f"{plain}:sums"], 1), (["nobody"], 2)):
        done = subprocess.run([*command, *arguments], capture_output=True, encoding="utf-8", env=environment)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == (code != 2)
