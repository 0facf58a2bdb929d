"""softgrad.jax on several devices: what is sent is seen in the compiled code.

XLA makes four devices of the CPU where it is told so before it starts: in a process of its own.
"""

import processes
import pytest

pytest.importorskip("jax")

SETUP = """
import re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
import softgrad
import softgrad.jax as sj

x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32) * 3)
d = jnp.cos(x)
AXIS_TYPES = getattr(jax.sharding, "AxisType", None)

def mesh_of(kind):
    return jax.make_mesh((4,), ("v",), axis_types=(getattr(AXIS_TYPES, kind),))

def run(function, *arrays):
    '''The result, what the devices send one another for it, and how large that is.'''
    compiled = jax.jit(function).lower(*arrays).compile()
    words = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= (\\(?[a-z0-9]+\\[[^=]*?) ({words})(?:-start)?\\(", compiled.as_text())
    sizes = [int(n) for shapes, _ in found for n in re.findall(r"(\\d+)[,\\]]", shapes)]
    return compiled(*arrays), {word for _, word in found}, max(sizes, default=0)

def close(found, right, about):
    '''Within 64 eps of the largest; a row is NaN in both.'''
    found, right = np.asarray(found), np.asarray(right)
    assert (np.isfinite(found) == np.isfinite(right)).all(), about
    there = np.isfinite(right)
    gap = np.abs(found[there] - right[there]).max()
    assert gap <= 64 * np.finfo(np.float32).eps * np.abs(right[there]).max(), (about, gap)

def loss(function):
    return lambda x: (function(x) * (d if function(x).ndim == 2 else d[:, 0])).sum()

FUNCTIONS = {
    "softmax": sj.softmax,
    "log_softmax": sj.log_softmax,
    "sparsemax": sj.sparsemax,
    "entmax": sj.entmax,
    "logsumexp": lambda x, **options: sj.logsumexp(x, -1, **options),
    "entropy": sj.entropy,
}
"""

ARRAYS = """
IDS = np.arange(512) * 7 % 15 // 4  # of four segments

def segment_entropy(x):
    return softgrad.segment_entropy(x, axis=-1, segment_ids=IDS)[..., 2]

SEGMENTS = {
    "segment_softmax": lambda x: sj.segment_softmax(x, axis=-1, segment_ids=IDS),
    "segment_entropy": segment_entropy,
}
for name, function in (FUNCTIONS | SEGMENTS).items():
    grad, along = jax.grad(loss(function)), lambda x: jax.jvp(function, (x,), (d,))[1]
    for kind in ("Auto", "Explicit") if name in ("softmax", "logsumexp", *SEGMENTS) else ("Auto",):
        mesh = mesh_of(kind)
        with jax.set_mesh(mesh):
            for spec in (P("v", None), P(None, "v"), P()):
                divided = jax.device_put(x, NamedSharding(mesh, spec))
                for one in (function, grad, along, jax.vmap(function)):
                    found, words, largest = run(one, divided)
                    about = name, kind, spec, words, largest
                    assert words <= ({"all-reduce"} if spec == P(None, "v") else set()), about
                    assert largest <= 8, about  # one number a row
                    close(found, one(x), about)
                    if one is grad:
                        assert found.sharding.is_equivalent_to(divided.sharding, 2)
"""

UNEVEN = """
mesh = mesh_of("Auto")
with jax.set_mesh(mesh):
    divided = jax.device_put(x, NamedSharding(mesh, P(None, "v")))
    for name in ("softmax", "log_softmax", "sparsemax", "entropy"):
        function = FUNCTIONS[name]
        for n in (510, 3):  # no multiple of four: XLA puts something behind
            part = lambda x: function(x[:, :n])
            weigh = lambda x: (part(x) * jnp.cos(part(x) + 1)).sum()
            for one in (part, jax.grad(weigh), lambda x: jax.jvp(part, (x,), (d,))[1]):
                close(jax.jit(one)(divided), one(x), (name, n))
    close(jax.jit(lambda x: sj.softmax(x, sink=0.5))(divided), sj.softmax(x, sink=0.5), "sink")
mesh = mesh_of("Explicit")
with jax.set_mesh(mesh):
    rows = jax.device_put(x, NamedSharding(mesh, P("v")))
    close(sj.softmax(rows, sink=0.5), sj.softmax(x, sink=0.5), "sink")
"""

CACHED = """
import sys
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)
mesh = mesh_of("Auto")
narrow = jnp.tile(x[:, :16], (16, 1))  # parts are too narrow for columns
narrow = jax.device_put(narrow, NamedSharding(mesh, P(None, "v")))
for array in (narrow, narrow.astype(jnp.bfloat16)):
    close(jax.jit(lambda x: sj.softmax(x, 0))(array), sj.softmax(array, 0), "columns")
"""

MAPPED = """
mesh = mesh_of("Auto")
for name in ("softmax", "log_softmax", "entmax", "entropy"):
    function = FUNCTIONS[name]
    rows = P(None, "v") if function(x).ndim == 2 else P(None)
    divided = (P(None, "v"), rows, {"axis_name": "v"})
    for spec, out, options in ((P("v", None), P("v"), {}), divided):
        mapped = jax.shard_map(lambda x: function(x, **options), mesh=mesh, in_specs=spec, out_specs=out)
        ways = [
            (jax.jit(mapped), function),
            (jax.jit(jax.grad(loss(mapped))), jax.grad(loss(function))),
            (lambda x: jax.jvp(mapped, (x,), (d,))[1], lambda x: jax.jvp(function, (x,), (d,))[1]),
            (mapped, function),
        ]
        for one, right in ways if name in ("softmax", "entropy") else ways[:2]:
            close(one(x), right(x), (name, spec))
    if rows == P(None):
        continue
    # an array that is the same on all devices, beside one that is not
    same = lambda y: jax.shard_map(
        lambda y, dy: jax.lax.psum((sj.softmax_vjp(y, dy) ** 2).sum(), "v"),
        mesh=mesh, in_specs=(P(), P("v")), out_specs=P(),
    )(y, d[:4])
    apart = lambda y: sum((sj.softmax_vjp(y, d[i : i + 1]) ** 2).sum() for i in range(4))
    close(jax.grad(same)(sj.softmax(x[:1])), jax.grad(apart)(sj.softmax(x[:1])), "same on all")
    where = x > -1
    mapped = jax.shard_map(
        lambda x, where: function(x, where=where, empty="nan", axis_name="v"),
        mesh=mesh, in_specs=(P(None, "v"),) * 2, out_specs=rows,
    )
    some = where.at[3].set(False)
    close(mapped(x, some), function(x, where=some, empty="nan"), name)
"""


FLAGS = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("code", [ARRAYS, UNEVEN, MAPPED], ids=["arrays", "uneven", "shard_map"])
def test_four_devices(code):
    processes.run(SETUP + code, timeout=240, **FLAGS)


def test_the_cache_of_jax_on_disk(tmp_path):
    """What runs for a part is compiled by the first process only."""
    for _ in range(2):
        processes.run(SETUP + CACHED, timeout=240, JAX_COMPILATION_CACHE_DIR=str(tmp_path), **FLAGS)
