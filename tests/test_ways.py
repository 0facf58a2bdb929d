"""Public ways to write it, right and wrong, in every convention, are told apart at each dtype."""

import pathlib
import sys

import pytest

from softgrad.testing.convert import Unusable
from softgrad.testing.options import parse
from softgrad.testing.run import findings
from softgrad.verify import target

HERE = pathlib.Path(__file__).parent / "public"
COLUMNS, ONE_ROW = {"axis": "0"}, {"axis": "none"}
LOG, SPARSE = {"map": "log_softmax"}, {"map": "sparsemax"}
LOSS = {"map": "cross_entropy"}
MOST = 5  # elements of a row
NO_BFLOAT16 = {"other_names", "jacobian_of_logits"}  # np.einsum has none, so nothing can be checked

RIGHT = {
    "right_ways": """
        closed_form one_row_of_lists lists of_heads grad_first no_names other_names s_and_dout
        of_logits of_logits_dy_first of_three of_x_y_dy keywords with_an_axis one_row
        one_row_by_jacobian one_row_of_logits jacobian jacobian_of_logits jacobian_by_loops by_loops
        batched_jacobian into_dx a_pair in_float64 Stateful ColumnVector Called WithInputs Static
        make_layer a_layer Called.backward Static.backward""",
    "right_tensors": "with_dim of_one_row forward_alone Function Module Layer double",
    "right_jax": "closed_form forward_alone",
}
LOSSES = "of_labels of_probabilities of_targets with_loss Loss Stateful by_autograd"
WITH_OPTIONS = [
    ("right_ways", "of_columns", COLUMNS),
    ("right_ways", "Columns", COLUMNS),
    ("right_ways", "one_row_summed", ONE_ROW),
    ("right_ways", "log_softmax_backward", LOG),
    ("right_ways", "LogSoftmax", LOG),
    ("right_ways", "sparsemax_backward", SPARSE),
    ("right_ways", "Sparsemax", SPARSE),
    ("right_ways", "jvp", {"what": "jvp"}),
    ("right_ways", "double_backward", {"what": "double-backward"}),
    ("right_ways", "softmax", {"what": "forward"}),
    ("right_ways", "Called.__call__", {"what": "forward"}),
    *[("right_losses", name, LOSS) for name in LOSSES.split()],
    ("right_tensors", "Function.forward", {"what": "forward"}),
    ("right_tensors", "Module", {"what": "double-backward"}),
]
# the options, and a part of the hint
WRONG = {
    "wrong_ways": {
        "elementwise": ({}, "elementwise y(1−y)∘dy"),
        "elementwise_of_logits": ({}, "elementwise y(1−y)∘dy"),
        "elementwise_one_row": ({}, "elementwise y(1−y)∘dy"),
        "derivative": ({}, "elementwise y(1−y)∘dy"),
        "derivative_of_logits": ({}, "elementwise y(1−y)∘dy"),
        "of_the_logits": ({}, "elementwise x(1−x)∘dy of the logits"),
        "minus_gradient": ({}, "p − t of cross-entropy"),
        "no_mean": ({}, "the mean Σ y∘dy is missing"),
        "identity": ({}, "dy, unchanged"),
        "sign": ({}, "the sign is turned"),
        "no_weight": ({}, "the factor y is missing"),
        "not_weighted": ({}, "lacks its weights"),
        "sum_of_dy": ({}, "Σ dy is taken off"),
        "added": ({}, "is added, not taken off"),
        "mean_of_products": ({}, "divided by n"),
        "over_batch": ({}, "divided by the number of rows"),
        "summed_over_batch": ({}, "summed over the batch"),
        "twice": ({}, "softmax is taken of y again"),
        "again": ({"args": "y,dy"}, "softmax is taken of y again"),
        "no_diagonal": ({}, "the term y∘dy is missing"),
        "plus_jacobian": ({}, "is added, not taken off"),
        "diagonal_jacobian": ({}, "elementwise y(1−y)∘dy"),
        "off_by_one": ({}, ""),
        "wrong_axis": ({"axis": "-1"}, "the sum runs over the wrong axis"),
        "sum_of_all": ({"axis": "-1"}, "over the whole array"),
        "no_keepdims": ({"axis": "-1"}, "keepdims=True is missing"),
        "over_columns": (COLUMNS, "the sum runs over the wrong axis"),
        "elementwise_columns": (COLUMNS, "elementwise y(1−y)∘dy"),
        "clips_nan": ({}, ""),
        "one_percent": ({}, ""),
        "overwrites": ({}, ""),
        "smoothed": ({}, ""),
        "Elementwise": ({}, "elementwise y(1−y)∘dy"),
        "PassesOn": ({}, "dy, unchanged"),
        "KeepsLogits": ({}, ""),
        "ColumnVector": (ONE_ROW, "is added, not taken off"),
        "Gradient": ({}, "elementwise y(1−y)∘dy"),
        "NoMaximum": ({"what": "forward"}, "the maximum is not taken off"),
        "NotDivided": ({"what": "forward"}, "not divided by its sum"),
        "log_plus": (LOG, "exp(y) + dy: Σdy is taken for −1"),
        "log_minus": (LOG, "Σdy is taken for 1"),
        "log_no_sum": (LOG, "the sum Σdy is missing"),
        "log_as_softmax": (LOG, "the gradient of softmax"),
        "LogSoftmax": (LOG, "Σdy is taken for 1"),
        "sparsemax_over_n": (SPARSE, ""),
        "double_backward_without_x": ({"what": "double-backward"}, "y is taken for a constant"),
        "half_double_backward": ({"what": "double-backward"}, "the term −dy Σ y∘v"),
    },
    "wrong_losses": {
        "twice": (LOSS, "divided by the number of rows twice"),
        "sigmoid_as_well": (LOSS, "(p − t)∘p(1−p)"),
        "of_probabilities": (LOSS, "−t/p, the gradient for the probabilities"),
        "no_softmax": ({**LOSS, "args": "x,t"}, "softmax is not taken of the logits"),
        "sign": (LOSS, "the sign is turned"),
        "all_elements": (LOSS, "divided by the number of all elements"),
        "sum_of_all": ({**LOSS, "axis": "-1"}, "over the whole array"),
    },
    "wrong_tensors": {
        "Function": ({}, "elementwise y(1−y)∘dy"),
        "Module": ({}, ""),
        "no_mean": ({}, "the mean Σ y∘dy is missing"),
    },
}


@pytest.fixture(scope="module", autouse=True)
def path():
    before = sys.path[:]
    sys.path.insert(0, str(HERE))
    yield
    sys.path[:] = before


def read(file, name, dtype, what="vjp", map="softmax", args=None, axis=None):
    roles = args.split(",") if args else None
    found = target.find(f"{HERE / file}.py:{name}", map, what)
    return found.reading(what, map, roles, axis, dtype=dtype)


def checked(reading, dtype, what="vjp", map="softmax", args=None, axis=None):
    """The findings up to the first that fails."""
    most = MOST if reading.arrays == "numpy" else 2
    map, axis = reading.map or map, 0 if reading.axis else None
    options = {"map": map, "dtypes": [dtype], "max_n": most, "axis": axis}
    for one in findings(what, reading.function, parse(options), early=True):
        yield one
        if not one.passed:
            return


DTYPES = "float16", "bfloat16", "float32", "float64"
EVERY = [(file, name, {}) for file, names in RIGHT.items() for name in names.split()] + WITH_OPTIONS
# JAX compiles for each shape and dtype
RIGHT_ONES = [
    (*one, dtype) for dtype in DTYPES for one in EVERY if one[0] != "right_jax" or dtype == "float32"
]
WRONG_ONES = [(file, name, *rest) for file, table in WRONG.items() for name, rest in table.items()]


@pytest.mark.parametrize(("file", "name", "options", "dtype"), RIGHT_ONES, ids=str)
def test_a_right_way_passes(file, name, options, dtype):
    if name in NO_BFLOAT16 and dtype == "bfloat16":
        with pytest.raises(Unusable, match="invalid data type for einsum at line"):
            read(file, name, dtype, **options)
        return
    reading = read(file, name, dtype, **options)
    failed = [one for one in checked(reading, dtype, **options) if not one.passed]
    assert not failed, (reading.called, failed[0].check, failed[0].case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("file", "name", "options", "hint"), WRONG_ONES, ids=str)
def test_a_wrong_way_does_not(file, name, options, hint, dtype):
    reading = read(file, name, dtype, **options)
    *_, last = checked(reading, dtype, **options)
    assert not last.passed, reading.called
    assert hint in last.hint, reading.called


def test_what_a_name_says_is_told():
    assert read("right_ways", "of_logits", "float32").note == ""
    reading = read("wrong_losses", "no_softmax", "float32", **LOSS)
    assert reading.note.startswith("logits is given the result of the map; for the logits it is wrong; ")
    assert reading.note.endswith("it gives float64 for float32, rounded here before it is judged")


def test_targets_of_other_sums():
    note = "right for targets that sum to 1; for others softmax(x)·Σt − t is due"
    assert read("right_losses", "of_targets", "float32", **LOSS).note == note
    assert read("right_losses", "with_loss", "float32", **LOSS).note == ""


@pytest.mark.parametrize("name", ["wrong_axis", "sum_of_all"])
def test_what_is_right_along_another_axis_is_not_decided(name):
    with pytest.raises(Unusable, match="and wrong for rows of a 2-D array .*give the axis that is meant"):
        read("wrong_ways", name, "float32")


@pytest.mark.parametrize("name", ["of_probabilities", "of_targets"])
def test_the_gradient_of_a_loss_is_none_of_softmax(name):
    with pytest.raises(Unusable, match="--map cross_entropy"):
        read("right_losses", name, "float32")
