"""A classifier for handwritten digits in Equinox, whose attention has a backward pass written by hand.

Each image of 8×8 pixels is cut into 16 patches of 2×2, which attend to each other once.  JAX differentiates
everything but the attention, whose `jax.custom_vjp` keeps its weights and calls `softgrad.softmax_vjp`.

    pip install 'softgrad[jax,cli]' equinox scikit-learn
    python examples/jax_attention.py [--seed 0] [--epochs 30]
    softgrad verify examples/jax_attention.py:softmax_backward

It trains, prints the accuracy on images it has not seen, and compares the gradient of every parameter with
that of the same network with `jax.nn.softmax` and no line written by hand.  The exit status is 0 if the
accuracy is at least 95 % and no gradient differs.
"""

import argparse
import functools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import softgrad
import softgrad.jax

TOKENS, PIXELS, WIDTH, CLASSES = 16, 4, 32, 10
SCALE = WIDTH**-0.5
BATCH, RATE, ENOUGH = 64, 0.003, 0.95
TOLERANCE = 1000 * float(np.finfo(np.float32).eps)  # of ‖g − g′‖/‖g′‖; a wrong derivative is off by about 1


def softmax_backward(y, dy):
    """∂L/∂x of softmax along the last axis: the line that everything here depends on."""
    return softgrad.softmax_vjp(y, dy)


@jax.custom_vjp
def attend(q, k, v):
    """softmax(q kᵀ·scale) v"""
    return attend_forward(q, k, v)[0]


def attend_forward(q, k, v):
    weights = softgrad.jax.softmax(q @ k.T, scale=SCALE)
    return weights @ v, (q, k, v, weights)


def attend_backward(kept, dh):
    """dv = Aᵀ dh,  dA = dh vᵀ,  dS = softmax_backward(A, dA),  dq = dS k,  dk = dSᵀ q"""
    q, k, v, weights = kept
    ds = SCALE * softmax_backward(weights, dh @ v.T)
    return ds @ k, ds.T @ q, weights.T @ dh


attend.defvjp(attend_forward, attend_backward)


def attend_by_autodiff(q, k, v):
    return jax.nn.softmax(SCALE * (q @ k.T)) @ v


class Classifier(eqx.Module):
    tokens: eqx.nn.Linear
    position: jax.Array
    mixed: list
    hidden: eqx.nn.Linear
    scores: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 7)
        self.tokens = eqx.nn.Linear(PIXELS, WIDTH, key=keys[0])
        self.position = 0.5 * jax.random.normal(keys[1], (TOKENS, WIDTH))
        self.mixed = [eqx.nn.Linear(WIDTH, WIDTH, use_bias=False, key=key) for key in keys[2:5]]
        self.hidden = eqx.nn.Linear(TOKENS * WIDTH, 64, key=keys[5])
        self.scores = eqx.nn.Linear(64, CLASSES, key=keys[6])

    def __call__(self, patches, attend=attend):
        x = jax.vmap(self.tokens)(patches) + self.position
        q, k, v = (jax.vmap(mix)(x) for mix in self.mixed)
        return self.scores(jax.nn.relu(self.hidden((x + attend(q, k, v)).reshape(-1))))


def loss(model, images, labels, attend=attend):
    scores = jax.vmap(lambda patches: model(patches, attend))(images)
    return softgrad.jax.cross_entropy(scores, labels)


@eqx.filter_jit
def step(model, moments, number, images, labels):
    """One of Adam's."""
    gradients = eqx.filter_grad(loss)(model, images, labels)
    first, second = (
        jax.tree.map(lambda m, g, b=b, p=p: b * m + (1 - b) * g**p, moment, gradients)
        for moment, b, p in zip(moments, (0.9, 0.999), (1, 2), strict=True)
    )
    rate = RATE * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
    change = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + 1e-8), first, second)
    return eqx.apply_updates(model, change), (first, second)


def digits(rng):
    """((images, labels) to train with, those to test with); an image is 16 patches of 4 pixels."""
    data = load_digits()
    patches = data.images.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, TOKENS, PIXELS) / 16 - 0.5
    order = rng.permutation(len(patches))
    images, labels = patches[order].astype(np.float32), data.target[order]
    return (images[360:], labels[360:]), (images[:360], labels[:360])


def furthest(model, images, labels):
    """The largest ‖g − g′‖/‖g′‖ of all parameters."""
    by_hand, by_autodiff = (
        jax.tree.leaves(eqx.filter_grad(functools.partial(loss, attend=way))(model, images, labels))
        for way in (attend, attend_by_autodiff)
    )
    pairs = zip(by_hand, by_autodiff, strict=True)
    return max(float(jnp.linalg.norm(g - right) / jnp.linalg.norm(right)) for g, right in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    (images, labels), test = digits(rng)
    model = Classifier(jax.random.key(options.seed))
    parameters = eqx.filter(model, eqx.is_array)
    moments = (jax.tree.map(jnp.zeros_like, parameters),) * 2
    number = jnp.zeros(())
    for _ in range(options.epochs):
        order = rng.permutation(len(images))
        for batch in np.split(order, range(BATCH, len(order), BATCH))[:-1]:
            number += 1
            model, moments = step(model, moments, number, images[batch], labels[batch])
    found = jnp.argmax(jax.vmap(model)(test[0]), axis=-1)
    accuracy = float(jnp.mean(found == test[1]))
    gap = furthest(model, images[:BATCH], labels[:BATCH])
    print(f"accuracy on {len(found)} images that it has not seen: {accuracy:.1%}")
    print(f"gradients by hand and by JAX: within {gap:.1e} of each other, {TOLERANCE:.1e} allowed")
    sys.exit(1 if accuracy < ENOUGH or gap > TOLERANCE else 0)


if __name__ == "__main__":
    main()
