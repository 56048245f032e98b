"""One step of a VAE beside the same model by hand and in NumPyro; memory of its evidence."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.contrib.module import eqx_module
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO
from sklearn.datasets import load_digits

import infer
from infer.run.loop import Plan, start
from infer.run.loop import run as run_loop

BATCH, LATENT, WIDTH, RATE, REPEATS = 64, 8, 64, 1e-3, 5
STEPS = {1: 2000, 10: 500}  # for each K
CHUNKS = (5000, 500_000)
NOTE = f"""A VAE of the binarized digits of scikit-learn, 1437 rows of 64 pixels: {LATENT} latent
variables, encoder and decoder of two tanh layers of {WIDTH}, batches of {BATCH} rows, Adam at a
rate of {RATE}; K draws per row make the bound of Kingma and Welling (K = 1) or the importance
weighted one (K = 10). `us` are microseconds per step in the loop, compilation apart, and `ratio` is
the time over that of the scan by hand with the ordinary gradient. `infer` does more in a step than
the others: it averages parameters, records the loss, refuses steps that are not finite. The
networks of NumPyro are those of Equinox by `eqx_module` (flax, which its own examples of a VAE use,
is not installed). Memory: the peak of a process that evaluates log p(x) of 360 held-out rows with
5000 draws each, less what it held before; `chunk` is how many draws are evaluated at once."""


def data() -> np.ndarray:
    x = (load_digits().data >= 8).astype(np.float32)
    return x[np.random.default_rng(0).permutation(len(x))]


X = data()
TRAIN, TEST = X[:1437], X[1437:]

Way = Callable[[int], float]


# The same model three times ----------------------------------------------------------------------


def ours(k: int, **settings: Any) -> Way:
    """The loop of `infer.fit`, without its verdict."""
    if k > 1:
        settings |= {"objective": infer.IWAE(), "n_samples": k}
    rows = infer.Data(TRAIN, batch_size=BATCH)
    method = infer.VAE(
        infer.likelihoods.Bernoulli(),
        latent=LATENT,
        encoder=infer.MLP((WIDTH, WIDTH)),
        decoder=infer.MLP((WIDTH, WIDTH)),
        optimizer=infer.optimizer(optax.adam, learning_rate=RATE),
        **settings,
    ).ready(rows)

    def go(seed: int) -> float:
        keys = jax.random.split(jax.random.key(seed), 1)
        trail = start(method, rows, keys, jnp.zeros((1, 1)))
        run_loop(method, rows, keys, trail, Plan(warmup=0, steps=STEPS[k]))
        return trail.seconds / STEPS[k]

    return go


def first_networks(key: Any) -> tuple[list[Any], list[Any]]:
    """Weights and biases of the layers of encoder and decoder."""
    key_e, key_d = jax.random.split(key)

    def layers(key: Any, sizes: tuple[int, ...]) -> list[Any]:
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            (jax.random.normal(k, (a, b)) / np.sqrt(a), jnp.zeros(b))
            for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    x = TRAIN.shape[1]
    encoder = layers(key_e, (x, WIDTH, WIDTH, 2 * LATENT))
    return encoder, layers(key_d, (LATENT, WIDTH, WIDTH, x))


def network(layers: list[Any], u: jax.Array) -> jax.Array:
    for w, b in layers[:-1]:
        u = jnp.tanh(u @ w + b)
    w, b = layers[-1]
    return u @ w + b


def log_normal(z: Any, mean: Any, scale: Any) -> jax.Array:
    u = (z - mean) / scale
    return jnp.sum(-0.5 * u**2 - jnp.log(scale) - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def by_hand(k: int, path: bool) -> Way:
    """One scan over steps of optax, and nothing that is not needed."""
    adam, x_all = optax.adam(RATE), jnp.asarray(TRAIN)

    def loss(params: Any, key: Any, x: jax.Array) -> jax.Array:
        encoder, decoder = params
        mean, log_scale = jnp.split(network(encoder, x), 2, axis=-1)
        scale = jnp.exp(log_scale)
        z = mean + scale * jax.random.normal(key, (k, *mean.shape))
        logits = network(decoder, z)
        log_p = jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1) + log_normal(z, 0.0, 1.0)
        q = jax.lax.stop_gradient((mean, scale)) if path else (mean, scale)
        log_w = log_p - log_normal(z, *q)
        return -jnp.mean(jax.nn.logsumexp(log_w, axis=0) - jnp.log(k))

    @jax.jit
    def train(params: Any, key: Any) -> Any:
        def step(carry: Any, t: Any) -> Any:
            params, state = carry
            key_rows, key_z = jax.random.split(jax.random.fold_in(key, t))
            x = x_all[jax.random.randint(key_rows, (BATCH,), 0, len(x_all))]
            value, slope = jax.value_and_grad(loss)(params, key_z, x)
            updates, state = adam.update(slope, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, adam.init(params)), jnp.arange(STEPS[k]))

    def go(seed: int) -> float:
        key = jax.random.key(seed)
        params = first_networks(key)
        return timed(lambda: train(params, key)) / STEPS[k]

    return go


def numpyros(k: int) -> Way:
    """`SVI.update` under one scan, compiled once, as `SVI.run` does without a progress bar."""
    keys, x_all = jax.random.split(jax.random.key(0)), jnp.asarray(TRAIN)
    encoder, decoder = (
        eqx.nn.MLP(a, b, WIDTH, 2, jax.nn.tanh, key=key)
        for a, b, key in zip((64, LATENT), (2 * LATENT, 64), keys, strict=True)
    )

    def model(x: jax.Array) -> None:
        decode = jax.vmap(eqx_module("decoder", decoder))
        with numpyro.plate("row", len(x_all), subsample_size=BATCH):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((BATCH, LATENT)), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        encode = jax.vmap(eqx_module("encoder", encoder))
        with numpyro.plate("row", len(x_all), subsample_size=BATCH):
            mean, log_scale = jnp.split(encode(x), 2, axis=-1)
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))

    bound = Trace_ELBO() if k == 1 else RenyiELBO(alpha=0.0, num_particles=k)
    svi = SVI(model, guide, numpyro.optim.Adam(RATE), bound)

    @jax.jit
    def train(state: Any, key: Any) -> Any:
        def step(state: Any, t: Any) -> Any:
            rows = jax.random.randint(jax.random.fold_in(key, t), (BATCH,), 0, len(x_all))
            return svi.update(state, x_all[rows])

        return jax.lax.scan(step, state, jnp.arange(STEPS[k]))

    def go(seed: int) -> float:
        key = jax.random.key(seed)
        state = svi.init(key, x_all[:BATCH])
        return timed(lambda: train(state, key)) / STEPS[k]

    return go


def timed(work: Callable[[], Any]) -> float:
    clock = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - clock


def steps(k: int) -> list[dict[str, Any]]:
    """Interleaved; a first call of each is not counted."""
    ways = {
        "by hand": by_hand(k, path=False),
        "by hand, path gradient": by_hand(k, path=True),
        "infer VAE": ours(k),
        "infer VAE, Reparam": ours(k, estimator=infer.Reparam()),
        "NumPyro SVI": numpyros(k),
    }
    for way in ways.values():
        way(0)
    seconds = [{name: way(seed) for name, way in ways.items()} for seed in range(1, REPEATS + 1)]
    base = statistics.median(row["by hand"] for row in seconds)
    middle = {name: statistics.median(row[name] for row in seconds) for name in ways}
    return [
        {"table": f"K = {k}", "what": name, "us": 1e6 * t, "ratio": t / base}
        for name, t in middle.items()
    ]


# Memory ------------------------------------------------------------------------------------------


def peak(chunk: int) -> dict[str, float]:
    """Megabytes and seconds of the evidence in this process."""
    rows = infer.Data(TRAIN, batch_size=BATCH, held_out=infer.Data(TEST))
    method = infer.VAE(infer.likelihoods.Bernoulli(), latent=LATENT)
    result = infer.fit(rows, method, key=0, steps=10, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.perf_counter()
    result.evidence(key=1, n_samples=5000, chunk=chunk)
    seconds = time.perf_counter() - clock
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"MB": (after - before) / 1024, "seconds": seconds}


def memory() -> list[dict[str, Any]]:
    """A process for each."""
    found = []
    for chunk in CHUNKS:
        command = [sys.executable, __file__, str(chunk)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append({"table": "Memory", "chunk": chunk} | json.loads(done.stdout.splitlines()[-1]))
    return found


def run() -> list[dict[str, Any]]:
    return [row for k in STEPS for row in steps(k)] + memory()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(peak(int(sys.argv[1]))))
    else:
        for row in run():
            print(row, flush=True)
