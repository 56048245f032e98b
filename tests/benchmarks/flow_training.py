"""Training a flow beside the peers: NumPyro's flow guides and flowjax's trainer."""

import importlib.util
import statistics
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
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoBNAFNormal, AutoIAFNormal
from sklearn.datasets import load_breast_cancer

import infer

STEPS, DRAWS, RATE, LAYERS, WIDTH, REPEATS = 1000, 16, 2e-3, 8, 32, 3
NOTE = f"""Logistic regression on the breast cancer data (scikit-learn), d = 31, N = 569, priors
N(0, 10^2), log evidence -77.57. {STEPS} steps of Adam at a rate of {RATE} with {DRAWS} draws each;
our flow and that of flowjax have {LAYERS} affine couplings of two hidden layers of {WIDTH},
the guides of NumPyro are as they come. Seconds are those of the second run of a compiled program,
the first column is a first call, compilation included. The bound is the mean of 20,000 log weights
after these steps, which are too few for any of them to settle: the same number of steps is
compared, not the best fit of each."""


def data() -> tuple[jax.Array, jax.Array]:
    x, y = load_breast_cancer(return_X_y=True)
    x = np.hstack([x / x.std(axis=0), np.ones((len(x), 1))])
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


X, Y = data()


def log_density(beta: jax.Array) -> jax.Array:
    logits = X @ beta
    prior = -0.5 * jnp.sum(beta**2) / 100 - beta.size * (jnp.log(10.0) + 0.5 * jnp.log(2 * jnp.pi))
    return prior + jnp.sum(Y * logits - jnp.logaddexp(0.0, logits))


def model() -> None:
    beta = numpyro.sample("beta", dist.Normal(jnp.zeros(X.shape[1]), 10.0).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=Y)


@eqx.filter_jit
def bound(q: Any, key: Any) -> jax.Array:
    x = q.sample(key, 20_000)
    return jnp.mean(jax.lax.map(lambda x: log_density(x) - q.log_prob(x), x, batch_size=1000))


def ours(family: Any, estimator: Any) -> Callable[[int], tuple[float, float]]:
    """The loop of a fit, without its verdict; compilation is in the first call alone."""
    target = infer.from_log_density(log_density, jnp.zeros(X.shape[1]))
    method = infer.VI(
        family=family,
        estimator=estimator,
        optimizer=infer.optimizer(optax.adam, learning_rate=RATE),
        n_samples=DRAWS,
        stopping=None,
    )
    first = np.zeros(X.shape[1], np.float32)

    def go(seed: int) -> tuple[float, float]:
        result = infer.fit(target, method, key=seed, steps=STEPS, progress=False, init={"x": first})
        spent = result.timings
        return spent.compile + spent.run, float(bound(result.posterior, jax.random.key(9)))

    return go


def numpyros(guide_of: Any) -> Callable[[int], tuple[float, float]]:
    """`SVI.update` under one scan, compiled once, as `SVI.run` does without a progress bar."""
    guide = guide_of(model)
    svi = SVI(model, guide, numpyro.optim.Adam(RATE), Trace_ELBO(num_particles=DRAWS))

    @jax.jit
    def train(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: svi.update(s), state, length=STEPS)[0]

    evaluate = jax.jit(
        lambda state, key: (
            -Trace_ELBO(num_particles=20_000, vectorize_particles=False).loss(
                key, svi.get_params(state), model, guide
            )
        )
    )

    def go(seed: int) -> tuple[float, float]:
        state = svi.init(jax.random.key(seed))
        clock = time.perf_counter()
        state = jax.block_until_ready(train(state))
        spent = time.perf_counter() - clock
        return spent, float(evaluate(state, jax.random.key(9)))

    return go


def flowjaxs(path: bool) -> Callable[[int], tuple[float, float]]:
    """flowjax's own trainer, a loop in Python around one compiled step."""
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow
    from flowjax.train import fit_to_key_based_loss
    from flowjax.train.losses import ElboLoss

    loss = ElboLoss(log_density, DRAWS, stick_the_landing=path)
    optimizer = optax.adam(RATE)

    def go(seed: int) -> tuple[float, float]:
        flow = coupling_flow(
            jax.random.key(seed),
            base_dist=Normal(jnp.zeros(X.shape[1])),
            flow_layers=LAYERS,
            nn_width=WIDTH,
            nn_depth=2,
            nn_activation=jnp.tanh,
            invert=False,
        )
        clock = time.perf_counter()
        flow, _ = fit_to_key_based_loss(
            jax.random.key(seed + 1),
            flow,
            loss_fn=loss,
            steps=STEPS,
            optimizer=optimizer,
            show_progress=False,
        )
        jax.block_until_ready(eqx.filter(flow, eqx.is_array))
        spent = time.perf_counter() - clock
        x, log_q = flow.sample_and_log_prob(jax.random.key(9), (20_000,))
        return spent, float(jnp.mean(jax.lax.map(log_density, x, batch_size=1000) - log_q))

    return go


def run() -> list[dict[str, Any]]:
    """Interleaved; the ratio is the time over that of our flow with its path gradient."""
    flow = infer.RealNVP(n_layers=LAYERS, width=WIDTH, scale=1.0)
    ways = {
        "infer RealNVP, Path": ours(flow, infer.Path()),
        "infer RealNVP, Reparam": ours(flow, infer.Reparam()),
        "numpyro AutoIAFNormal": numpyros(AutoIAFNormal),
        "numpyro AutoBNAFNormal": numpyros(AutoBNAFNormal),
    }
    if importlib.util.find_spec("flowjax"):
        ways["flowjax coupling_flow, STL"] = flowjaxs(True)
        ways["flowjax coupling_flow"] = flowjaxs(False)
    first = {name: way(0)[0] for name, way in ways.items()}
    later = [{name: way(seed) for name, way in ways.items()} for seed in range(1, REPEATS + 1)]
    seconds = {name: statistics.median(row[name][0] for row in later) for name in ways}
    base = seconds["infer RealNVP, Path"]
    return [
        {
            "what": name,
            "first call": first[name],
            "seconds": seconds[name],
            "ratio": seconds[name] / base,
            "bound": statistics.median(row[name][1] for row in later),
        }
        for name in ways
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
