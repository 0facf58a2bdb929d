"""The same with JAX."""

import jax
import jax.numpy as jnp


@jax.jit
def closed_form(g, p):
    return p * (g - jnp.sum(g * p, axis=-1, keepdims=True))


def forward_alone(x):
    return jnp.exp(x - jax.scipy.special.logsumexp(x, axis=-1, keepdims=True))


@jax.custom_vjp
def custom(x):
    return jax.nn.softmax(x)


def backward(y, g):
    return (closed_form(g, y),)


custom.defvjp(lambda x: (jax.nn.softmax(x), jax.nn.softmax(x)), backward)
