"""`softgrad bench`: what it measures and writes, what it leaves out, and what it says to bad input."""

import dataclasses
import html.parser
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import types
import xml.etree.ElementTree

import ml_dtypes
import numpy as np
import pytest
import rich.console
from typer.testing import CliRunner

import softgrad
from softgrad.bench import cases, compare, implementations, limits, memory, timing
from softgrad.bench import report as reports
from softgrad.cli import app
from softgrad.verify import peers

SMALL = ["bench", "--quick", "--shapes", "3x8,3x32"]
CASE = cases.Case("softmax_vjp", (3, 32), -1, "float32", 1)


def run(*arguments):
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(a) for a in arguments])


def small(*arguments, peers="numpy"):
    return run(*SMALL, "--peers", peers, *arguments)


def installed(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What one run writes: JSON, plot and page, and what it prints."""
    folder = tmp_path_factory.mktemp("bench")
    files = {name: folder / f"bench.{name}" for name in ("json", "svg", "html")}
    options = ["--json", files["json"], "--plot", files["svg"], "--html", files["html"]]
    result = small(*options, peers="numpy,jacobian,scipy")
    assert result.exit_code == 0, result.output
    assert sorted(folder.iterdir()) == sorted(files.values())
    return files, result.output


# --- what is measured --------------------------------------------------------------------------------


def test_json_has_what_is_promised(written):
    found = json.loads(written[0]["json"].read_text())
    assert {"cpu", "cores", "python", "numpy", "numba", "softgrad", "date"} <= found["environment"].keys()
    assert found["quick"] is True
    names = {field.name for field in dataclasses.fields(compare.Record)}
    promised = {"op", "shape", "axis", "dtype", "threads", "device", "implementation", "seconds", "ratio"}
    assert promised | {"bytes", "limit_ratio", "peak_bytes", "error_eps"} <= names
    for record in found["records"]:
        assert record.keys() == names
        for name in ("seconds", "ratio", "limit_seconds", "limit_ratio"):
            assert 0 < record[name]["q1"] <= record[name]["median"] <= record[name]["q3"]
        arrays = 2 if record["op"] == "softmax" else 3
        assert record["bytes"] == arrays * 4 * np.prod(record["shape"])
        assert record["peak_bytes"] >= 0
        assert record["error_eps"] <= (2 if record["implementation"] == "softgrad" else 100)
    rows = {(r["op"], *r["shape"], r["implementation"], r["into"]) for r in found["records"]}
    ways = [("softgrad", "out"), ("softgrad", "new"), ("softgrad", "over"), ("numpy", "new")]
    expected = {
        (op, 3, n, *way)
        for n in (8, 32)
        for op, more in (("softmax", "scipy"), ("softmax_vjp", "jacobian"))
        for way in [*ways, (more, "new")]
    }
    assert rows == expected


def test_what_a_library_lacks_is_said(written):
    found = json.loads(written[0]["json"].read_text())
    assert found["absent"].keys() == {"scipy", "jacobian"}
    assert found["absent"]["scipy"].startswith("no softmax_vjp: SciPy has softmax and log_softmax")
    assert "Left out: SciPy: no softmax_vjp: SciPy has" in written[1]


def test_a_table_for_people(written):
    text = written[1]
    assert "softmax_vjp, float32, 1 thread" in text
    assert re.search(r"3 × 8 +softgrad, out= +[\d.]+ [nµm]s", text)
    assert re.search(r"^ +Jacobian +[\d.]+ [nµm]s", text, re.MULTILINE)


def test_the_table_fits_an_old_terminal(written):
    found = json.loads(written[0]["json"].read_text())
    names = {"seconds", "ratio", "limit_seconds", "limit_ratio"}
    records = [
        compare.Record(**{k: timing.Spread(**v) if k in names else v for k, v in r.items()})
        for r in found["records"]
    ]
    stream = io.StringIO()
    records[0].shape, records[0].noisy = (32, 262144), True
    records[0].peak_bytes, records[0].error_eps = 187_000_000, 0.123
    rich.console.Console(file=stream, width=80).print(reports.table("softmax", records, wide=False))
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    assert "…" not in stream.getvalue()
    assert re.search(r"187 MB +0\.12 *$", stream.getvalue(), re.MULTILINE)
    assert "quartiles" not in stream.getvalue()


@installed("torch")
@installed("jax")
def test_other_libraries_take_the_same_arrays():
    """PyTorch also into out=; what each gives is compared with the exact result before it is timed."""
    shape, axis = (4, 5, 6), 1
    for op in ("softmax", "softmax_vjp", "log_softmax", "softmax_double_backward"):
        for dtype in ("bfloat16", "float64"):
            case = cases.Case(op, shape, axis, dtype, 1)
            arguments = case.arguments()
            judge = case.reference(arguments)
            for name in ("softgrad", "numpy", "torch", "jax"):
                for into in implementations.destinations(name, case):
                    ready = implementations.ready(name, into, case, arguments)
                    results = ready.result()
                    assert [r.shape for r in results] == [shape] * len(judge.exact)
                    verdict = compare.verdicts.compared(judge, tuple(map(case.rows, results)))
                    assert verdict.passed, (op, dtype, name, into, verdict)
                    assert 0 <= ready.peak() < 2**20  # softgrad's scratch memory is at most that
    ways = implementations.destinations("torch", CASE)
    assert ways == ["out", "new"]


@pytest.mark.parametrize("op", sorted(cases.OPS))
def test_every_function_can_be_measured(op):
    case = cases.Case(op, (3, 8), -1, "float32", 1)
    record = compare.Record(**dataclasses.asdict(case))
    compare.try_once(record, case.arguments(), case.reference(case.arguments()), sound)
    assert record.error_eps <= 4


def sound(*implementation):
    """In the place of the checks of softgrad verify: nothing speaks against it."""
    return ""


def test_over_its_input_it_starts_anew_each_time():
    (dy_before,) = CASE.arguments()[1:]
    y, dy = CASE.arguments()
    ready = implementations.ready("softgrad", "over", CASE, (y, dy))
    (first,) = ready.result()
    first = first.copy()
    (second,) = ready.result()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(dy, dy_before)
    expected = softgrad.softmax_vjp(y, dy)
    np.testing.assert_array_equal(first, expected)


def test_rows_are_taken_along_the_axis():
    case = cases.Case("softmax", (2, 5, 3), 1, "float32", 1)
    array = np.arange(30.0).reshape(2, 5, 3)
    np.testing.assert_array_equal(case.rows(array), np.moveaxis(array, 1, -1).reshape(-1, 5))
    long = cases.Case("softmax", (1000, 100), -1, "float32", 1)
    rows = long.rows(np.arange(100_000.0).reshape(1000, 100))
    assert len(rows) == cases.COMPARED // 100
    assert (rows[0][0], rows[-1][0]) == (0, 99_900)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (64, 100)])
def test_the_limit_moves_the_same_bytes(shape, dtype):
    for op, factor in {"softmax": 1, "softmax_vjp": 1, "softmax_double_backward": 5 / 3}.items():
        case = cases.Case(op, shape, -1, dtype, 1)
        nbytes = max(8, case.nbytes // 8 * 8)
        for call, times in limits.on_cpu(case).values():
            call()
            assert times == (limits.ENOUGH // nbytes) / factor


def test_limit_loops():
    a, b, c = np.arange(20), np.arange(20) * 7, np.zeros(20, np.int64)
    limits.copy(2, a, c)
    np.testing.assert_array_equal(c, a)
    limits.triad(1, a, b, c)
    np.testing.assert_array_equal(c, 8 * a)
    limits.triad_over(1, a, b)
    np.testing.assert_array_equal(b, 8 * a)
    limits.increase(2, c)
    np.testing.assert_array_equal(c, 8 * a + 3)


def test_what_comes_before_a_call_is_not_timed(monkeypatch):
    """By a clock that stands still but for what is called."""
    now = [0]
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def lasts(seconds):
        now[0] += seconds

    assert timing.seconds_per_call(lambda: lasts(2), 3, before=lambda: lasts(100)) == 2
    assert timing.seconds_per_call(lambda: lasts(2), 3) == 2


# --- what is not timed -------------------------------------------------------------------------------


def test_what_is_unsound_gets_no_time(monkeypatch):
    """The gate is that of softgrad verify: here the mean is forgotten."""
    wrong = dataclasses.replace(
        peers.PEERS["numpy"], functions={("softmax", "vjp"): lambda: lambda y, dy: y * dy}
    )
    monkeypatch.setitem(peers.PEERS, "numpy", wrong)
    result = small("--op", "softmax_vjp", "--json", "-")
    records = [r for r in json.loads(result.stdout)["records"] if r["implementation"] == "numpy"]
    assert len(records) == 2
    for record in records:
        assert record["seconds"] is record["ratio"] is record["limit_ratio"] is None
        assert "not sound: softgrad verify finds it wrong in" in record["left_out"]
        assert "contract" in record["left_out"]


def test_what_is_wrong_on_the_very_arrays_gets_no_time(monkeypatch):
    """Sound on what verify asks, but not as it is called here."""
    ready = implementations.ready

    def wrong(name, into, case, arguments):
        right = ready(name, into, case, arguments)
        if name == "softgrad":
            return right
        return dataclasses.replace(right, back=lambda result: 1.01 * right.back(result))

    monkeypatch.setattr(implementations, "ready", wrong)
    records = json.loads(small("--op", "softmax", "--json", "-").stdout)["records"]
    for record in records:
        assert (record["seconds"] is None) == (record["implementation"] == "numpy")
        if record["implementation"] == "numpy":
            assert record["left_out"].startswith("not sound: off by ")


def test_what_raises_is_left_out_and_says_why(monkeypatch):
    def fails():
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(
        peers.PEERS,
        "numpy",
        dataclasses.replace(peers.PEERS["numpy"], functions={("softmax", "forward"): fails}),
    )
    result = small("--op", "softmax")
    assert result.exit_code == 0, result.output
    pattern = r"Left out: NumPy \(softmax 3 × 8 float32 and 1 more\): \w+: .*no such kernel"
    assert re.search(pattern, result.output)


def test_a_jacobian_that_is_too_large_is_left_out():
    case = dataclasses.replace(CASE, shape=(32, 4096))
    with pytest.raises(implementations.LeftOut, match="the Jacobian would take 2.15 GB; up to 1 GB is built"):
        implementations.ready("jacobian", "new", case, ())


def test_what_takes_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(compare, "LONGEST", 0)
    record = compare.Record(**dataclasses.asdict(CASE), implementation="numpy", into="new")
    arguments = CASE.arguments()
    with pytest.raises(implementations.LeftOut, match=r"a call takes .* s; up to 0 s is measured"):
        compare.try_once(record, arguments, CASE.reference(arguments), sound)


def test_quick_does_not_wait_for_a_compiler():
    names, absent = compare.runnable("cpu", True)
    assert "torch.compile" not in names
    if importlib.util.find_spec("torch") and shutil.which(os.environ.get("CXX", "g++")):
        assert absent["torch.compile"] == compare.SLOW_TO_COMPILE
        assert "torch.compile" in compare.runnable("cpu", False)[0]


def test_a_noisy_machine_is_told():
    calm, wild = timing.Spread(1.0, 0.95, 1.05), timing.Spread(1.0, 0.9, 1.2)
    record = compare.Record(**dataclasses.asdict(CASE), seconds=calm, limit_ratio=calm)
    rows = [dataclasses.replace(record, noisy=r.wider_than(compare.NOISY)) for r in (calm, wild)]
    found = compare.Comparison({}, True, rows)
    assert reports.warnings(found)[0].startswith("The machine was too noisy to tell in 1 of 2 rows")
    assert [reports.COLUMNS["time"](r) for r in rows] == ["1 s", "1 s?"]


# --- files -------------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """What a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data") and not value.startswith("#"):
                self.found.append((tag, name, value))


@installed("matplotlib")
def test_the_page_needs_nothing_beside_itself(written):
    page = written[0]["html"].read_text()
    links = Links()
    links.feed(page)
    assert links.found == []
    assert not {"script", "link", "img", "iframe"} & set(links.open)
    assert "url(http" not in page
    assert "@import" not in page
    assert links.open.count("svg") == 2
    assert page.count("<pre>") == 2
    assert "softmax_vjp, float32, 1 thread" in page
    assert "softgrad, out=" in page
    assert "quartiles" in page
    assert "prefers-color-scheme: dark" in page


@installed("matplotlib")
def test_plots_are_written(written, tmp_path):
    root = xml.etree.ElementTree.parse(written[0]["svg"]).getroot()
    assert root.tag.endswith("svg")
    png = tmp_path / "bench.png"
    assert small("--op", "softmax", "--plot", png).exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@installed("matplotlib")
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium to open the page in")
def test_a_browser_opens_the_page(written, tmp_path):
    """Without network; what it makes of the page still holds the tables and plots."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 0.0.0.0"]
    command += [f"--user-data-dir={tmp_path}", "--dump-dom", written[0]["html"].as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<svg") == 2
    assert done.stdout.count("<pre>") == 2


# --- what cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--op", "softmx"], "'--op': softmx was given; it takes softmax, softmax_vjp"),
        (["--op", ""], "'--op': nothing was given"),
        (["--shapes", ""], "'--shapes': nothing was given; it takes shapes such as 32x512,8x16x64"),
        (["--plot", "same.svg", "--html", "same.svg"], "is that of '--plot' too; give another"),
        (["--shapes", "32x"], "'--shapes': 32x was given; it takes shapes such as 32x512,8x16x64"),
        (["--shapes", "32x-5"], "'--shapes': 32x-5 was given"),
        (["--shapes", "0x5"], "'--shapes': 0x5 was given"),
        (["--shapes", "3x4,a"], "'--shapes': a was given"),
        (
            ["--shapes", "9000000x9000000"],
            "'--shapes': 9000000x9000000 in float32 takes some 5,184 TB at once",
        ),
        (["--axis", "2"], "axis 2 is not there in 3x8, which has the axes -2 to 1"),
        (["--axis", "a"], "'--axis'"),
        (
            ["--dtypes", "float8"],
            "'--dtypes': float8 was given; it takes float16, bfloat16, float32 or float64",
        ),
        (["--threads", "0"], "'--threads': 0 was given; it takes numbers from 1 to "),
        (["--threads", "100000"], "'--threads': 100000 was given; it takes numbers from 1 to "),
        (["--peers", "tensorflow"], "'--peers': tensorflow was given; it takes softgrad, numpy"),
        (["--peers", "liger"], "'--peers': liger does not run on cpu; give --device cuda"),
        (["--device", "tpu"], "'--device': tpu was given; it takes cpu or cuda"),
        (["--json", "no/such/folder/a.json"], "'--json': there is no folder"),
        (["--plot", "a.pdf"], "'--plot': a.pdf ends in .pdf; it takes .png or .svg"),
        (["--html", "."], "'--html': . is a folder; give the name of a file"),
    ],
)
def test_bad_input_is_told_in_one_line(options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["--json", "b.json", "--plot", "b.svg", "--html", "b.html"]
    given = [*files, *options]
    result = run("bench", "--quick", *([] if "--shapes" in options else ["--shapes", "3x8"]), *given)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("softgrad: ")
    assert list(tmp_path.iterdir()) == []


def test_a_peer_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(
        peers.PEERS, "scipy", dataclasses.replace(peers.PEERS["scipy"], module="sci_py", package="sci-py")
    )
    assert compare.runnable("cpu", True)[1]["scipy"] == "not installed: pip install sci-py"
    result = small(peers="scipy")
    assert result.exit_code == 2
    assert "'--peers': scipy is not installed: pip install sci-py; there are softgrad, numpy" in result.stderr


def test_cuda_where_there_is_none():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = run("bench", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "softgrad: Invalid value for '--device': PyTorch finds no CUDA device here; there is cpu"
    ]


@pytest.mark.gpu
def test_on_a_cuda_device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    result = run(*SMALL, "--device", "cuda", "--peers", "torch", "--json", "-")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)["records"]
    assert all(r["device"] == "cuda" and r["seconds"]["median"] > 0 for r in records)


def test_what_is_interrupted_writes_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "interleaved", interrupted)
    before = softgrad.get_num_threads()
    result = small("--json", tmp_path / "b.json", "--html", tmp_path / "b.html")
    assert result.exit_code == 130
    assert list(tmp_path.iterdir()) == []
    assert softgrad.get_num_threads() == before


def test_memory_that_there_is_bounds_the_shapes(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 16 * 8 * 1000)
    assert cases.product(["softmax"], [(10, 100)], [-1], ["float64"], [1])
    with pytest.raises(
        ValueError, match=r"10x101 in float64 takes some 129 kB .* enough for arrays of 1,000"
    ):
        cases.product(["softmax"], [(10, 101)], [-1], ["float64"], [1])


def test_bfloat16_is_as_wide_as_two_bytes():
    case = dataclasses.replace(CASE, dtype="bfloat16")
    assert case.nbytes == 3 * 32 * 2
    assert case.arguments()[0].dtype == ml_dtypes.bfloat16
