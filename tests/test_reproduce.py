"""The command `softgrad`: what it prints and writes, and how it answers to what it cannot do."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import xml.etree.ElementTree

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

import softgrad
from softgrad.bench import memory, reproduce, timing
from softgrad.cli import app
from softgrad.commands.report import write_whole

SMALL = ["reproduce", "--quick", "--batch", "4", "--features", "24"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run_apart(code, *arguments):
    """In an interpreter of its own, after `code`, from a folder in which softgrad does not lie."""
    code += "\nimport sys\nfrom softgrad.cli import app\napp(sys.argv[1:])"
    return run_python("-c", code, *arguments)


def run_python(*arguments):
    command = [sys.executable, *map(str, arguments)]
    path = [str(pathlib.Path(reproduce.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)


# --- the experiment ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_report(dtype, tmp_path):
    file = tmp_path / "report.json"
    result = run(*SMALL, "--dtype", dtype, "--json", file)
    assert result.exit_code == 0, result.output
    assert f"4 × 24 {dtype}, seed 42" in result.output
    report = json.loads(file.read_text())
    assert report["passed"]
    assert report["settings"] == {"batch": 4, "features": 24, "dtype": dtype, "seed": 42, "quick": True}
    assert {"cpu", "cores", "python", "numpy", "softgrad"} <= report["environment"].keys()
    assert report["check"]["difference_eps"] <= reproduce.EQUAL
    ways = {way["name"]: way for way in report["ways"]}
    first = [reproduce.JACOBIAN, reproduce.CLOSED_FORM, reproduce.SOFTGRAD, reproduce.INTO_OUT]
    assert list(ways)[:4] == first
    for way in ways.values():
        assert way["seconds"]["q1"] <= way["seconds"]["median"] <= way["seconds"]["q3"]
        assert way["seconds"]["median"] > 0
        assert way["peak_bytes"] > 0
    assert ways[reproduce.SOFTGRAD]["slower"]["median"] == 1
    assert ways[reproduce.SOFTGRAD]["error_eps"] <= (4 if dtype == "float64" else 2)
    size = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).itemsize
    assert ways[reproduce.JACOBIAN]["peak_bytes"] >= 4 * 24 * 24 * size
    assert ways[reproduce.SOFTGRAD]["peak_bytes"] >= 4 * 24 * size


def test_the_article_s_size_is_the_default():
    assert reproduce.Settings() == reproduce.Settings(32, 512, "float64", 42)
    x, y, dy = reproduce.inputs(reproduce.Settings(), 512)
    rng = np.random.default_rng(42)
    np.testing.assert_array_equal(x, rng.random((32, 512)))
    np.testing.assert_array_equal(dy, rng.random((32, 512)))
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-15)


def test_json_alone_on_standard_output():
    result = run_apart("", *SMALL, "--json", "-")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["passed"]


def test_a_jacobian_that_is_too_large_is_left_out():
    result = run("reproduce", "--quick", "--batch", 2, "--features", 16384)
    assert result.exit_code == 0, result.output
    assert "the Jacobian would take 4.29 GB" in " ".join(result.output.split())


def test_without_pytorch_it_says_what_was_used_instead():
    result = run_apart("import sys\nsys.modules['torch'] = None", *SMALL)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "the complex-step derivative (PyTorch is not installed)? Yes" in said
    assert "autograd" not in said


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_with_pytorch_it_is_compared_with_autograd():
    said = " ".join(run(*SMALL).output.split())
    assert "autograd? Yes" in said
    assert reproduce.AUTOGRAD in said


def test_a_wrong_gradient_is_told(monkeypatch):
    monkeypatch.setattr(softgrad, "softmax_vjp", lambda y, dy, axis=-1, out=None: y * dy)
    result = run(*SMALL)
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert f"Are the ways equal? No: not {reproduce.SOFTGRAD}, {reproduce.INTO_OUT}." in said
    assert "? No: they differ by" in said


# --- its parts ---------------------------------------------------------------------------------------


def test_without_autograd_the_derivative_of_softmax_tells_right_from_wrong():
    x, y, dy = reproduce.inputs(reproduce.Settings(batch=3, features=100), 100)
    right = reproduce.check(x, y, dy, {reproduce.SOFTGRAD: softgrad.softmax_vjp(y, dy)})
    assert right.difference_eps < 4
    assert right.equal
    assert not reproduce.check(x, y, dy, {reproduce.SOFTGRAD: y * dy}).equal


def test_peak_memory_counts_numpy_and_numba():
    assert 8000 <= memory.peak(lambda: np.empty(1000)) < 10000
    x = np.zeros((64, 100))
    assert memory.peak(lambda: softgrad.softmax(x)) >= x.nbytes
    numba = pytest.importorskip("numba")

    @numba.njit
    def last(n):
        room = np.empty(n)
        room[n - 1] = 1.0
        return room[n - 1]

    assert 80_000 <= memory.peak(lambda: last(10_000)) < 90_000


def test_samples_are_taken_in_turns():
    called = []
    calls = {name: (lambda name=name: called.append(name)) for name in "ab"}
    samples = timing.interleaved(calls, rounds=4, shortest=0.0)
    assert {name: len(found) for name, found in samples.items()} == {"a": 4, "b": 4}
    assert "".join(called) == "aabb" + "abba" * 2  # once to warm up, once to calibrate


# --- the picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot(ending, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"picture.{ending}"
    # a batch this large lets the Jacobian pass 1 GB at a small n, so that it does not take long
    result = run("reproduce", "--quick", "--batch", 4096, "--features", 16, "--plot", file)
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if ending == "png":
        assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    else:
        assert xml.etree.ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_sizes_go_from_8_to_where_the_jacobian_passes_a_gigabyte():
    settings = reproduce.Settings()
    sizes = reproduce.sizes(settings)
    assert sizes[0] == 8
    assert settings.case(sizes[-2]).jacobian_bytes <= 1e9 < settings.case(sizes[-1]).jacobian_bytes


def test_without_matplotlib_it_says_what_to_install_before_it_measures(tmp_path):
    code = "import sys\nsys.modules['matplotlib'] = None"
    result = run_apart(code, "reproduce", "--plot", tmp_path / "picture.png")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "pip install 'softgrad[plot]'" in result.stderr


# --- what it does not take ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "taken"),
    [
        (["--batch", "0"], "0 was given", "from 1 up"),
        (["--batch", "many"], "many was given", "from 1 up"),
        (["--features", "1"], "1 was given", "from 2 up"),
        (["--features", "2.5"], "2.5 was given", "from 2 up"),
        (["--seed", "-1"], "-1 was given", "from 0 up"),
        (["--dtype", "int8"], "int8 was given", "float16, bfloat16, float32 or float64"),
        (["--batch", "100000", "--features", "100000"], "100000 × 100000", "up to 4,194,304"),
        (["--plot", "picture.gif"], "picture.gif", ".png or .svg"),
        (["--plot", "picture"], "picture ends in nothing", ".png or .svg"),
        (["--plot", "no/such/folder/p.png"], "there is no folder", "another file"),
        (["--json", "."], "is a folder", "the name of a file"),
        (["--sead", "1"], "--sead", "--seed"),
    ],
)
def test_bad_options_get_one_line(arguments, given, taken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("reproduce", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("softgrad: ")
    assert given in line
    assert taken in line
    assert not list(tmp_path.iterdir())


def test_version_and_help():
    assert run("--version").output == f"softgrad {softgrad.__version__}\n"
    for arguments in (["--help"], ["reproduce", "--help"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "reproduce" in result.output


def test_without_a_command_there_is_help_alone():
    result = run()
    assert result.exit_code == 2
    assert "reproduce" in result.stdout
    assert result.stderr == ""


def test_help_loads_no_more_than_it_needs():
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(sorted({'numba', 'torch', 'matplotlib', 'jax'} & set(sys.modules))))"
    )
    assert run_apart(code, "--help").stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_console_script_says_what_to_install(missing):
    project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    module, _, function = project["project"]["scripts"]["softgrad"].partition(":")
    block = f"import sys\nsys.modules[{missing!r}] = None\nfrom {module} import {function}\n{function}()"
    for command in (["-c", block], ["-c", block, "verify", "--list"]):
        done = run_python(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "softgrad's commands need typer and rich: pip install 'softgrad[cli]'\n"


def test_files_are_written_whole(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    file.write_text("before")

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        write_whole(file, b"after")
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
