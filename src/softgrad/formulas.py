"""The mathematics of every map on one page: short, slow, the reference.

All functions work along the last axis and take the namespace `xp` of their arrays (``numpy``,
``array_api_strict``, ``torch``, …).
"""

import math
from typing import Any

# --- softmax ------------------------------------------------------------------------------------------


def softmax(x: Any, xp: Any) -> Any:
    """y_i = exp(x_i) / Σ_k exp(x_k); subtracting the maximum from every x_i prevents overflow."""
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_jacobian(y: Any, xp: Any) -> Any:
    """J_ij = ∂y_i/∂x_j = y_i (δ_ij − y_j): n² numbers for a row of n."""
    identity = xp.eye(y.shape[-1], dtype=y.dtype)
    return y[..., :, None] * (identity - y[..., None, :])


def softmax_vjp_by_jacobian(y: Any, dy: Any, xp: Any) -> Any:
    """∂L/∂x_j = Σ_i ∂L/∂y_i J_ij.  J is symmetric: the product from the left is the one from the right."""
    return xp.squeeze(softmax_jacobian(y, xp) @ dy[..., :, None], axis=-1)


def softmax_vjp(y: Any, dy: Any, xp: Any) -> Any:
    """The same without J: Σ_i dy_i y_i (δ_ij − y_j) = y_j (dy_j − Σ_i dy_i y_i)."""
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


def softmax_double_backward(y: Any, dy: Any, v: Any, xp: Any) -> tuple[Any, Any]:
    """The gradients of ⟨v, vjp(y(x), dy)⟩ with respect to x and dy."""
    mean = xp.sum(y * dy, axis=-1, keepdims=True)
    through_y = v * (dy - mean) - dy * xp.sum(y * v, axis=-1, keepdims=True)
    return softmax_vjp(y, through_y, xp), softmax_vjp(y, v, xp)


# --- log_softmax --------------------------------------------------------------------------------------


def log_softmax(x: Any, xp: Any) -> Any:
    """y_i = x_i − log Σ_k exp(x_k), with the maximum subtracted as in softmax."""
    t = x - xp.max(x, axis=-1, keepdims=True)
    return t - xp.log(xp.sum(xp.exp(t), axis=-1, keepdims=True))


def log_softmax_vjp(y: Any, dy: Any, xp: Any) -> Any:
    """J_ij = ∂y_i/∂x_j = δ_ij − p_j, p = exp(y): Σ_i dy_i J_ij = dy_j − p_j Σ_i dy_i."""
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)


def log_softmax_jvp(y: Any, dx: Any, xp: Any) -> Any:
    """Σ_j J_ij dx_j = dx_i − Σ_j p_j dx_j.  J is not symmetric."""
    return dx - xp.sum(xp.exp(y) * dx, axis=-1, keepdims=True)


def log_softmax_double_backward(y: Any, dy: Any, v: Any, xp: Any) -> tuple[Any, Any]:
    """The gradients of ⟨v, vjp(y(x), dy)⟩ = ⟨v, dy⟩ − ⟨p, v⟩ Σdy with respect to x and dy."""
    centred = log_softmax_jvp(y, v, xp)
    return -xp.exp(y) * centred * xp.sum(dy, axis=-1, keepdims=True), centred


# --- sparsemax and entmax -----------------------------------------------------------------------------


def sparsemax(x: Any, xp: Any) -> Any:
    """y_i = max(x_i − τ, 0), the point of the simplex nearest to x; τ makes Σ_i y_i = 1.

    τ rises to its value: a step takes all x above τ for the support, too many, so none overshoots.
    """
    x = x - xp.max(x, axis=-1, keepdims=True)  # y stays as it is, and x near the largest is exact
    tau = xp.zeros_like(x[..., :1]) - 1
    while True:
        y = xp.maximum(x - tau, xp.zeros_like(x))
        support = xp.astype(x > tau, x.dtype)
        higher = tau + (xp.sum(y, axis=-1, keepdims=True) - 1) / xp.sum(support, axis=-1, keepdims=True)
        if not xp.any(higher > tau):
            return y
        tau = xp.maximum(higher, tau)


def sparsemax_vjp(y: Any, dy: Any, xp: Any) -> Any:
    """∂L/∂x_j = dy_j − (the mean of dy over the support) on the support, and 0 elsewhere."""
    return weighted_product(xp.astype(y > 0, y.dtype), dy, xp)


def entmax(x: Any, alpha: float, xp: Any) -> Any:
    """y_i = max((α−1)·x_i − τ, 0)^(1/(α−1)), α > 1; bisection finds the τ that makes Σ_i y_i = 1."""
    z = (alpha - 1) * (x - xp.max(x, axis=-1, keepdims=True))
    high = xp.zeros_like(z[..., :1])
    low = high - 1  # here the largest y alone is 1
    for _ in range(100):
        tau = (low + high) / 2
        y = xp.maximum(z - tau, xp.zeros_like(z)) ** (1 / (alpha - 1))
        more = xp.sum(y, axis=-1, keepdims=True) > 1
        low, high = xp.where(more, tau, low), xp.where(more, high, tau)
    return y / xp.sum(y, axis=-1, keepdims=True)


def entmax_weights(y: Any, alpha: float, xp: Any) -> Any:
    """s_i = y_i^(2−α) on the support, 0 elsewhere."""
    return xp.where(y > 0, xp.where(y > 0, y, xp.ones_like(y)) ** (2 - alpha), xp.zeros_like(y))


def entmax_vjp(y: Any, dy: Any, alpha: float, xp: Any) -> Any:
    """∂L/∂x_j = s_j (dy_j − Σ_i s_i dy_i / Σ_i s_i)."""
    return weighted_product(entmax_weights(y, alpha, xp), dy, xp)


def weighted_product(s: Any, v: Any, xp: Any) -> Any:
    """J v for J = diag(s) − s sᵀ/Σs, the Jacobian of a map with the weights s."""
    return s * (v - xp.sum(s * v, axis=-1, keepdims=True) / xp.sum(s, axis=-1, keepdims=True))


def fenchel_young(x: Any, t: Any, y: Any, alpha: float, xp: Any) -> Any:
    """L = Ω*(x) + Ω(t) − ⟨x,t⟩ of y = entmax(x), as a sum of which no term is negative (α > 1).

    Ω(p) = Σ (p^α − p)/(α(α−1)).  In the support a term is the Bregman divergence of Ω between t and y;
    outside of it, σ below the threshold, t^α/(α(α−1)) + t·σ/(α−1).
    """
    inside, has = y > 0, t > 0
    of_y, of_t = xp.where(inside, y, 1.0), xp.where(has, t, 1.0)
    d = xp.where(inside & has, xp.log(of_t) - xp.log(of_y), math.inf)
    near = xp.abs(alpha * d) <= 1
    small = xp.where(near, d, 0.0)
    bend = alpha * beyond_first_order(alpha * small, xp) - beyond_first_order(small, xp)
    raised, slope = xp.where(has, of_t**alpha, 0.0), of_y ** (alpha - 1)
    bregman = (raised - of_y * slope - alpha * slope * (t - y)) / (alpha * (alpha - 1))
    bregman = xp.where(near, of_y * slope * small * small * bend / (alpha - 1), bregman)
    below = xp.where(has & ~inside, threshold_distance(x, y, alpha, xp), 0.0)
    outside = raised / (alpha * (alpha - 1)) + t * below / (alpha - 1)
    return xp.sum(xp.where(inside, bregman, outside), axis=-1)


def threshold_distance(x: Any, y: Any, alpha: float, xp: Any) -> Any:
    """How far (α−1)·x is below the threshold, outside of the support; the winner tells where that is."""
    most = xp.max(y, axis=-1, keepdims=True)
    top = xp.max(xp.where(y == most, x, -math.inf), axis=-1, keepdims=True)
    return xp.maximum((alpha - 1) * (top - x) - most ** (alpha - 1), 0.0 * y)


def entmax_alpha_vjp(y: Any, dy: Any, alpha: float, xp: Any) -> Any:
    """∂L/∂α = Σ_i dy_i g_i, g = (y − s̃)/(α−1)² + (h − s̃ Σ_k h_k)/(α−1), h = −y log y, s̃ = s/Σs.

    From log y_i = log((α−1)·x_i − τ)/(α−1), differentiated, and Σ_i ∂y_i/∂α = 0, which gives ∂τ/∂α.
    """
    s = entmax_weights(y, alpha, xp)
    s = s / xp.sum(s, axis=-1, keepdims=True)
    h = -y * xp.log(xp.where(y > 0, y, xp.ones_like(y)))
    g = (y - s) / (alpha - 1) ** 2 + (h - s * xp.sum(h, axis=-1, keepdims=True)) / (alpha - 1)
    return xp.sum(dy * g, axis=-1)


# --- one number for each row --------------------------------------------------------------------------


def logsumexp(x: Any, xp: Any) -> Any:
    """log Σ_k exp(x_k)."""
    top = xp.max(x, axis=-1, keepdims=True)
    return xp.squeeze(top, axis=-1) + xp.log(xp.sum(xp.exp(x - top), axis=-1))


def logsumexp_vjp(x: Any, dy: Any, xp: Any) -> Any:
    """∂ log Σ_k exp(x_k) / ∂x_i = exp(x_i) / Σ_k exp(x_k): softmax."""
    return dy[..., None] * softmax(x, xp)


def entropy(x: Any, xp: Any) -> Any:
    """H = −Σ_k p_k log p_k of p = softmax(x); with t = x − max and S = Σ exp(t), H = log S − ⟨p,t⟩.

    This is finite where p_k is 0 by underflow.
    """
    t = x - xp.max(x, axis=-1, keepdims=True)
    e = xp.exp(t)
    total = xp.sum(e, axis=-1)
    return xp.log(total) - xp.sum(e * t, axis=-1) / total


def entropy_vjp(x: Any, dy: Any, xp: Any) -> Any:
    """∂H/∂x_i = −p_i (log p_i + H) = −p_i (t_i − ⟨p,t⟩): minus the Jacobian of softmax times t."""
    t = x - xp.max(x, axis=-1, keepdims=True)
    p = softmax(x, xp)
    return dy[..., None] * p * (xp.sum(p * t, axis=-1, keepdims=True) - t)


def beyond_first_order(d: Any, xp: Any) -> Any:
    """(exp(d) − 1 − d)/d² for |d| ≤ 1."""
    series = 0.0 * d
    for k in range(18, 1, -1):
        series = series * d + 1 / math.factorial(k)
    return series


def log_ratio(a: Any, e: Any, b: Any, w: Any, xp: Any) -> tuple[Any, Any, Any]:
    """p = e/Σe, t = w/Σw and δ = log p − log t, for a = log e and b = log w.

    These are −∞ where e and w have no part; δ is ±∞ where one of them has none, 0 where both have, or a row.
    """
    of_p, of_t = (xp.sum(v, axis=-1, keepdims=True) for v in (e, w))
    of_p, of_t = (xp.where(total == 0, 1.0, total) for total in (of_p, of_t))
    p, t = e / of_p, w / of_t
    no_p, no_t = a == -math.inf, b == -math.inf
    d = xp.where(no_p, 0.0, a) - xp.where(no_t, 0.0, b)
    d = d - (xp.log(of_p) - xp.log(of_t))
    return p, t, xp.where(no_p, xp.where(no_t, 0.0, -math.inf), xp.where(no_t, math.inf, d))


def change(w: Any, other: Any, d: Any, xp: Any) -> Any:
    """other − w, for d = log(other/w)."""
    near = xp.abs(d) <= 1
    small = xp.where(near, d, 0.0)
    return xp.where(near, w * (small + small * small * beyond_first_order(small, xp)), other - w)


def kl_divergence(w: Any, other: Any, d: Any, xp: Any) -> Any:
    """KL(w‖other) = Σ w·(exp(d) − 1 − d) for d = log(other/w), of which no term is negative."""
    near = xp.abs(d) <= 1
    small = xp.where(near, d, 0.0)
    far = other - w - w * xp.where(near | (w == 0), 0.0, d)
    return xp.sum(xp.where(near, w * small * small * beyond_first_order(small, xp), far), axis=-1)


def js_divergence(p: Any, t: Any, d: Any, xp: Any) -> Any:
    """JS = Σ (p + t)/2·(h·tanh h − log cosh h), h = d/2, for d = log(p/t); no term is negative."""
    near = xp.abs(d) <= 1
    h = 0.5 * xp.where(near, d, 0.0)
    tanh = xp.tanh(h)
    of_near = h * tanh + 0.5 * xp.log1p(-tanh * tanh)  # cosh⁻² = 1 − tanh²
    size = xp.where(near | (xp.abs(d) == math.inf), 1.0, xp.abs(d))
    ratio = xp.exp(-size)
    beyond = math.log(2) - xp.log1p(ratio) - size * ratio / (1 + ratio)
    beyond = xp.where(xp.abs(d) == math.inf, math.log(2), beyond)
    return xp.sum(0.5 * (p + t) * xp.where(near, of_near, beyond), axis=-1)


def entropy_of_probabilities(p: Any, xp: Any) -> Any:
    """−Σ p·log p, to which a p of 0 adds 0, and has the derivative 0."""
    return -xp.sum(xp.where(p == 0, 0.0, p * xp.log(xp.where(p == 0, 1.0, p))), axis=-1)


def softmax_hessian_diagonal(y: Any, dx: Any, h: Any, scale: Any, xp: Any) -> Any:
    """∂²L/∂x_i² of L(softmax(scale·x)): of dx, the vjp, and of the diagonal h of ∂²L/∂y²; None is 0."""
    bent = scale * (1 - 2 * y) * dx
    if h is None:
        return bent
    return bent + (scale * y) ** 2 * (h * (1 - 2 * y) + xp.sum(h * y * y, axis=-1, keepdims=True))


def smoothed(t: Any, label_smoothing: float) -> Any:
    """t'_i = (1 − ε) t_i + ε/n: a part of the weights is given to all classes alike."""
    return (1 - label_smoothing) * t + label_smoothing / t.shape[-1]


def cross_entropy(x: Any, t: Any, xp: Any) -> Any:
    """L = −Σ_i t_i log y_i, y = softmax(x)."""
    return -xp.sum(t * log_softmax(x, xp), axis=-1)


def cross_entropy_vjp(y: Any, t: Any, xp: Any) -> Any:
    """∂L/∂x_i = y_i Σ_k t_k − t_i, for y = softmax(x): y − t where the weights sum to 1."""
    return y * xp.sum(t, axis=-1, keepdims=True) - t


# --- shards: what a part of each row tells of it, and is made of what all parts told ------------------


def of_shard(name: str, read: Any, told: Any, there: Any, scale: float, nothing: float, xp: Any) -> Any:
    """What `cpu/shards.py` does: numbers of each row, or elements, of float64s and where they are valid."""
    if name in ("shard_stats", "shard_entropy", "shard_softmax", "shard_log_softmax"):
        valid = there & (read[0] != (-math.inf if scale >= 0 else math.inf))
        z = xp.where(valid, read[0] * scale, -math.inf)
        if name == "shard_stats":
            return shard_stats(z, xp)[:2]
        if name == "shard_entropy":
            return shard_stats(z, xp)
        t = z - xp.where(told[0] == -math.inf, 0.0, told[0])
        if name == "shard_log_softmax":
            y = t - xp.log1p(xp.where(told[1] == -1, 0.0, told[1]))
            return xp.where(there, xp.where(told[1] == -1, nothing, y), -math.inf)
        y = xp.exp(t) / xp.where(told[1] == -1, 1.0, 1 + told[1]) * told[3] - told[4]
        return xp.where(there, xp.where(told[1] == -1, nothing, y), 0.0)
    y, dy = read[0], read[1]
    if name == "shard_moments":
        return shard_moments(y, dy, xp)
    if name == "shard_vjp":
        return xp.where(there & (told[2] != 0), y * ((dy - told[0]) - told[1]) * scale, 0.0)
    absent = (y == -math.inf) | ~there
    if name == "shard_log_sum":
        counted = xp.where(absent, dy * 0, dy)
        some = xp.max(xp.where(absent, 0.0, 1.0), axis=-1, keepdims=True)
        return xp.sum(counted, axis=-1, keepdims=True), some
    slope = xp.where(absent, dy * 0, dy - xp.exp(y) * told[0]) * scale
    return xp.where(there & (told[1] != 0), slope, 0.0)


def shard_stats(z: Any, xp: Any) -> tuple[Any, Any, Any]:
    """(top, Σ_k exp(t_k) − 1, Σ_k t_k·exp(t_k)) of logits z, t = z − top; (−inf, −1, 0) of −inf alone."""
    top = xp.max(z, axis=-1, keepdims=True)
    t = z - xp.where(top == -math.inf, 0.0, top)
    e = xp.exp(t)
    others = xp.sum(xp.where(t == 0, 0.0, e), axis=-1, keepdims=True)
    count = xp.sum(xp.where(t == 0, 1.0, 0.0), axis=-1, keepdims=True)
    return top, others + (count - 1), xp.sum(e * xp.where(e == 0, 0.0, t), axis=-1, keepdims=True)


def shard_moments(y: Any, dy: Any, xp: Any) -> tuple[Any, Any, Any]:
    """(ref, mean, Σy): ref + mean is the mean of dy by the weights y, found from the dy of the largest y."""
    total = xp.sum(y, axis=-1, keepdims=True)
    some = xp.where(total == 0, 1.0, total)
    is_top = y == xp.max(y, axis=-1, keepdims=True)
    ref = xp.max(xp.where(is_top, dy, -math.inf), axis=-1, keepdims=True)
    ref = xp.where(total == 0, 0.0, ref)
    ref, mean = two_sum(ref, xp.sum(y * (dy - ref), axis=-1, keepdims=True) / some)
    rest = xp.sum(y * ((dy - ref) - mean), axis=-1, keepdims=True) / some
    return *two_sum(ref, mean + rest), total


def merge_stats(top: Any, others: Any, xp: Any) -> tuple[Any, Any, Any]:
    """(top, others, what rounding took from that) of whole rows, from shards along the first axis.

    Without the 1 of the largest, what the others add up to has all its digits where it is little.
    """
    best = xp.max(top, axis=0)
    some = best != -math.inf
    far, lost = two_sum(top, -xp.where(some, best, 0.0))
    e = xp.exp(far) * (1 + xp.where(far == -math.inf, 0.0, lost))
    first = (far == 0) & some
    total, lost = two_sum(xp.ones_like(others), others)
    terms = xp.where(first, others, total * e)
    upper = (terms + UPPER) - UPPER
    lower = (terms - upper) + xp.where(first, 0.0, lost * e)
    upper = xp.sum(upper, axis=0) + (xp.sum(xp.where(first, 1.0, 0.0), axis=0) - 1)
    found, lost = two_sum(upper, xp.sum(lower, axis=0))
    return best, xp.where(some, found, -1.0), xp.where(some, lost, 0.0)


def merge_entropy(top: Any, others: Any, moment: Any, xp: Any) -> tuple[Any, Any, Any, Any]:
    """(top, others, what rounding took from that, the entropy) of whole rows; moment is Σ t·exp(t).

    H = log Σ exp(t) − Σ t·exp(t)/Σ exp(t), for t = z − top of whole rows, and 0 of −inf alone.
    """
    whole, found, lost = merge_stats(top, others, xp)
    far = xp.where(top == -math.inf, -math.inf, top - whole)
    e = xp.exp(far)
    total = xp.sum(e * (moment + xp.where(e == 0, 0.0, far) * (1 + others)), axis=0)
    entropy = xp.log1p(found) - total / (1 + found)
    return whole, found, lost, xp.where(found == -1, 0.0, entropy)


UPPER = 1.5 * 2.0**31  # (x + UPPER) − UPPER is a multiple of 2⁻²¹, which add up without rounding


def merge_moments(ref: Any, mean: Any, weight: Any, xp: Any) -> tuple[Any, Any, Any]:
    """(ref, mean, weight) of whole rows, from those of the shards along the first axis.

    The first reference is that of the heaviest shard, of ties the largest.  Differences are those of a fourth
    of each, so that they don't overflow.
    """
    first = xp.max(xp.where(weight == xp.max(weight, axis=0), ref, -math.inf), axis=0) * 0.25
    total = xp.sum(weight, axis=0)
    some = xp.where(total == 0, 1.0, total)
    d, lost = two_sum(ref * 0.25, -first)
    lost = lost + mean * 0.25
    q = xp.sum(weight * (d + lost), axis=0) / some
    r = xp.sum(weight * ((d - q) + lost), axis=0) / some
    whole, rest = two_sum(first, q)
    whole, rest = two_sum(whole, rest + r)
    return whole * 4, rest * 4, total


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b, and what rounding took from it."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


# The power series of (1 − eᵗ(1 − t))/t², of which ∂y/∂α of entmax is made: Σ (k+1)/(k+2)!·tᵏ.  What is left
# out is below 2⁻⁵⁵ of it for |t| ≤ 1.
PSI = [(k + 1) / math.factorial(k + 2) for k in range(18)]
