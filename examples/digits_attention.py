"""An attention classifier for handwritten digits, forward and backward written by hand.

Each image of 8×8 pixels is cut into 16 patches of 2×2.  A patch is a token; the tokens attend to each other
once, go through one hidden layer, and are classified side by side.  No framework computes a derivative: each
layer has a ``forward`` that keeps what its ``backward`` needs, and ``backward`` takes ∂L/∂output to
∂L/∂input and leaves the gradients of the layer's parameters in ``gradients``.  The softmax of the attention
is `softgrad.Softmax`, a layer like the others.

    python examples/digits_attention.py [--seed 0] [--epochs 40]

It trains, prints the accuracy on images it has not seen, and compares the gradient of every parameter with
PyTorch's autograd where PyTorch is installed.  The exit status is 0 if the accuracy is at least 95 % and no
gradient differs.
"""

import argparse
import importlib.util
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import softgrad

TOKENS, PIXELS, WIDTH, HEADS, HIDDEN, CLASSES = 16, 4, 32, 4, 64, 10
BATCH = 64
ENOUGH = 0.95  # accuracy on the test images

# How far a gradient may be from PyTorch's, ‖g − g′‖/‖g′‖.  Both are right but for rounding, which makes some
# tens of eps in a chain of ten sums of up to a thousand terms.  A wrong derivative is off by about 1.
TOLERANCE = 1000 * np.finfo(np.float64).eps


# --- layers -----------------------------------------------------------------------------------------------
# L is the loss, dz is ∂L/∂z.  An array's last axis is that of the features; before it come the images and, up
# to Flatten, the tokens.


class Linear:
    """y = x W + b"""

    def __init__(self, rng, inputs, outputs, bias=True):
        self.parameters = {"W": rng.normal(0, inputs**-0.5, (inputs, outputs))}
        if bias:
            self.parameters["b"] = np.zeros(outputs)
        self.gradients = {}

    def forward(self, x):
        self.x = x
        return x @ self.parameters["W"] + self.parameters.get("b", 0.0)

    def backward(self, dy):
        """dW = ∑ xᵀ dy,  db = ∑ dy,  dx = dy Wᵀ;  the sums are over all rows, of all images"""
        rows_x, rows_dy = (a.reshape(-1, a.shape[-1]) for a in (self.x, dy))
        self.gradients["W"] = rows_x.T @ rows_dy
        if "b" in self.parameters:
            self.gradients["b"] = rows_dy.sum(axis=0)
        return dy @ self.parameters["W"].T


class Position:
    """y = x + P: each token learns where in the image it is."""

    def __init__(self, rng, tokens, width):
        self.parameters = {"P": rng.normal(0, 0.5, (tokens, width))}
        self.gradients = {}

    def forward(self, x):
        return x + self.parameters["P"]

    def backward(self, dy):
        """dP = ∑ dy over the images,  dx = dy"""
        self.gradients["P"] = dy.sum(axis=0)
        return dy


class ReLU:
    """y = max(x, 0)"""

    def forward(self, x):
        self.positive = x > 0
        return np.where(self.positive, x, 0.0)

    def backward(self, dy):
        """dx = dy where x > 0, else 0"""
        return np.where(self.positive, dy, 0.0)


class Flatten:
    """y = the tokens of an image, one after the other"""

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy):
        """dx = dy in the shape of x"""
        return dy.reshape(self.shape)


class Attention:
    """Q = x Wq,  K = x Wk,  V = x Wv;  A = softmax(Q Kᵀ/√d);  y = A V Wo + bo;  for each head its own.

    The keys have no bias: it would add the same number to all logits of a row, which softmax does not see.
    The queries and the values go without one as well.
    """

    def __init__(self, rng, width, heads):
        self.heads = heads
        self.queries, self.keys, self.values = (Linear(rng, width, width, bias=False) for _ in range(3))
        self.softmax = softgrad.Softmax(axis=-1, scale=(width // heads) ** -0.5)
        self.output = Linear(rng, width, width)

    def split(self, x):
        """(images, tokens, width) → (images, heads, tokens, width/heads)"""
        images, tokens, width = x.shape
        return x.reshape(images, tokens, self.heads, width // self.heads).swapaxes(1, 2)

    def join(self, x):
        """split, undone"""
        images, heads, tokens, width = x.shape
        return x.swapaxes(1, 2).reshape(images, tokens, heads * width)

    def forward(self, x):
        self.q, self.k, self.v = (self.split(of.forward(x)) for of in (self.queries, self.keys, self.values))
        self.a = self.softmax.forward(self.q @ self.k.mT)
        return self.output.forward(self.join(self.a @ self.v))

    def backward(self, dy):
        """With H = A V and S = Q Kᵀ:

        dV = Aᵀ dH,  dA = dH Vᵀ,  dS = softmax.backward(dA),  dQ = dS K,  dK = dSᵀ Q;
        x is used three times, so dx is a sum of three.
        """
        dh = self.split(self.output.backward(dy))
        dv = self.a.mT @ dh
        ds = self.softmax.backward(dh @ self.v.mT)
        dq = ds @ self.k
        dk = ds.mT @ self.q
        return (
            self.queries.backward(self.join(dq))
            + self.keys.backward(self.join(dk))
            + self.values.backward(self.join(dv))
        )


# --- the network ------------------------------------------------------------------------------------------


class Network:
    """Images of shape (n, 8, 8) in, logits of shape (n, 10) out."""

    def __init__(self, rng):
        self.embed = Linear(rng, PIXELS, WIDTH)
        self.position = Position(rng, TOKENS, WIDTH)
        self.attention = Attention(rng, WIDTH, HEADS)
        self.expand = Linear(rng, WIDTH, HIDDEN)
        self.relu = ReLU()
        self.contract = Linear(rng, HIDDEN, WIDTH)
        self.flatten = Flatten()
        self.classify = Linear(rng, TOKENS * WIDTH, CLASSES)
        self.layers = {
            "embed": self.embed,
            "position": self.position,
            "attention.queries": self.attention.queries,
            "attention.keys": self.attention.keys,
            "attention.values": self.attention.values,
            "attention.output": self.attention.output,
            "expand": self.expand,
            "contract": self.contract,
            "classify": self.classify,
        }

    def forward(self, images):
        x = self.position.forward(self.embed.forward(patches(images)))
        x = x + self.attention.forward(x)
        x = x + self.contract.forward(self.relu.forward(self.expand.forward(x)))
        return self.classify.forward(self.flatten.forward(x))

    def backward(self, dlogits):
        """The forward pass backwards; where y = x + f(x), dx = dy + f.backward(dy)."""
        dx = self.flatten.backward(self.classify.backward(dlogits))
        dx = dx + self.expand.backward(self.relu.backward(self.contract.backward(dx)))
        dx = dx + self.attention.backward(dx)
        self.embed.backward(self.position.backward(dx))

    @property
    def parameters(self):
        """{"layer.name": array}; the arrays are the network's own."""
        return {
            f"{at}.{name}": p for at, layer in self.layers.items() for name, p in layer.parameters.items()
        }

    @property
    def gradients(self):
        """∂L/∂parameter under the same names, from the last backward pass."""
        return {f"{at}.{name}": g for at, layer in self.layers.items() for name, g in layer.gradients.items()}


def patches(images):
    """(n, 8, 8) → (n, 16, 4): the 2×2 patches, row by row"""
    return images.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, TOKENS, PIXELS)


def cross_entropy(logits, labels):
    """L = −mean log p[label] with p = softmax(logits), and ∂L/∂logits = (p − t)/n, t being 1 at the label."""
    n = len(labels)
    p = softgrad.softmax(logits)
    there = np.arange(n), labels
    dlogits = p.copy()
    dlogits[there] -= 1.0
    return -np.log(p[there]).mean(), dlogits / n


# --- training ---------------------------------------------------------------------------------------------


class Adam:
    """m and v are running means of g and g²; p −= rate · m/√v, with both means freed of their start at 0."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.m = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.v = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.steps = 0

    def step(self, gradients, rate):
        self.steps += 1
        for name, g in gradients.items():
            self.m[name] += 0.1 * (g - self.m[name])
            self.v[name] += 0.01 * (g * g - self.v[name])
            m = self.m[name] / (1 - 0.9**self.steps)
            v = self.v[name] / (1 - 0.99**self.steps)
            self.parameters[name] -= rate * m / (np.sqrt(v) + 1e-8)


def digits(rng):
    """(images, labels) to train with, and (images, labels) to test with, a fifth of the whole."""
    data = load_digits()
    images, labels = data.images / 16.0, data.target
    order = rng.permutation(len(images))
    test, train = np.split(order, [len(order) // 5])
    return (images[train], labels[train]), (images[test], labels[test])


# For matrices as small as these a second thread of NumPy's matrix product is of no use, and where other
# processes keep the machine busy the two wait for each other: 20 times slower was seen.
@threadpool_limits.wrap(limits=1, user_api="blas")
def train(network, images, labels, epochs, rng, report=lambda loss: None):
    """Train `network` in place; returns the mean loss of each epoch, of which `report` is told as well."""
    adam = Adam(network.parameters)
    total = epochs * (len(images) // BATCH)
    losses = []
    for _ in range(epochs):
        seen = []
        order = rng.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            loss, dlogits = cross_entropy(network.forward(images[batch]), labels[batch])
            network.backward(dlogits)
            rate = 4e-3 * (1 + np.cos(np.pi * adam.steps / total)) / 2  # from 0.004 down to 0
            adam.step(network.gradients, rate)
            seen.append(loss)
        losses.append(np.mean(seen))
        report(losses[-1])
    return losses


def accuracy(network, images, labels):
    """The share of the images whose largest logit is that of their label."""
    return np.mean(network.forward(images).argmax(axis=-1) == labels)


# --- the same gradients by PyTorch ------------------------------------------------------------------------


def torch_gradients(parameters, images, labels):
    """∂L/∂parameter by PyTorch's autograd; the network is written once more in PyTorch, in float64."""
    import torch
    from torch.nn import functional

    p = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}

    def heads(x):
        return x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)

    x = torch.tensor(patches(images)) @ p["embed.W"] + p["embed.b"] + p["position.P"]
    q, k, v = (heads(x @ p[f"attention.{name}.W"]) for name in ("queries", "keys", "values"))
    a = torch.softmax(q @ k.mT / (WIDTH // HEADS) ** 0.5, dim=-1)
    h = (a @ v).transpose(1, 2).flatten(-2)
    x = x + h @ p["attention.output.W"] + p["attention.output.b"]
    hidden = torch.relu(x @ p["expand.W"] + p["expand.b"])
    x = x + hidden @ p["contract.W"] + p["contract.b"]
    logits = x.flatten(1) @ p["classify.W"] + p["classify.b"]
    functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return {name: value.grad.numpy() for name, value in p.items()}


def differences(network, images, labels):
    """For each parameter ‖g − g′‖/‖g′‖, g being our gradient of the loss and g′ PyTorch's."""
    _, dlogits = cross_entropy(network.forward(images), labels)
    network.backward(dlogits)
    ours = network.gradients
    theirs = torch_gradients(network.parameters, images, labels)
    return {name: np.linalg.norm(ours[name] - g) / np.linalg.norm(g) for name, g in theirs.items()}


# --- the command ------------------------------------------------------------------------------------------


def compare(network, images, labels, console):
    """Print how far each gradient is from PyTorch's; returns False if one is further than `TOLERANCE`."""
    if importlib.util.find_spec("torch") is None:
        console.print("PyTorch is not installed, so the gradients were [bold]not[/bold] compared with it.")
        return True
    found = differences(network, images, labels)
    table = Table(
        "parameter",
        "shape",
        "‖g − g′‖/‖g′‖",
        title=f"Gradients g by hand and g′ by PyTorch's autograd, {len(images)} images",
    )
    for name, difference in found.items():
        table.add_row(name, "×".join(map(str, network.parameters[name].shape)), f"{difference:.1e}")
    console.print(table)
    worst = max(found.values())
    agree = worst <= TOLERANCE
    verdict = "[green]they agree[/green]" if agree else "[red]they do not agree[/red]"
    console.print(f"The largest is {worst:.1e}; rounding explains up to {TOLERANCE:.1e}: {verdict}.")
    return agree


def main(argv=None):
    """Train, test, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the batches")
    parser.add_argument("--epochs", type=int, default=40, help="how often each image is trained with")
    options = parser.parse_args(argv)

    console = Console()
    rng = np.random.default_rng(options.seed)
    (images, labels), (test_images, test_labels) = digits(rng)
    network = Network(rng)
    console.print(
        f"Attention by hand on handwritten digits: {TOKENS} patches an image, {HEADS} heads, "
        f"{sum(p.size for p in network.parameters.values()):,} parameters, {len(images)} images to train "
        f"with, {len(test_images)} to test with, seed {options.seed}."
    )
    start = time.perf_counter()
    columns = "{task.description}", BarColumn(), "{task.fields[loss]}", TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{options.epochs} epochs", total=options.epochs, loss="")

        def show(loss):
            progress.update(bar, advance=1, loss=f"loss {loss:.4f}")

        train(network, images, labels, options.epochs, rng, show)
    seconds = time.perf_counter() - start

    reached = accuracy(network, test_images, test_labels)
    console.print(
        f"Trained in {seconds:.1f} s.  Accuracy: {accuracy(network, images, labels):.1%} on the images it "
        f"has seen, [bold]{reached:.1%}[/bold] on the {len(test_images)} it has not."
    )
    # not on images it was trained with: there p − t is next to nothing, and most of that is rounding
    agree = compare(network, test_images, test_labels, console)
    if reached < ENOUGH:
        console.print(f"[red]That is less than the {ENOUGH:.0%} this network should reach.[/red]")
    return 0 if agree and reached >= ENOUGH else 1


if __name__ == "__main__":
    raise SystemExit(main())
