"""What a fit returns: draws by name, where they came from, and whether to trust them."""

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.algorithm import AbstractApproximator, AbstractSampler
from infer.core.evidence import Verdict
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Outcome
from infer.core.posterior import Chains, Particles, Posterior
from infer.core.target import Labels, Target
from infer.core.types import PRNGKey, Values
from infer.run.checkpoint import origin
from infer.run.loop import Plan, Trail
from infer.run.moments import Moments, constrain
from infer.summary import Summary, summarize

if TYPE_CHECKING:
    import xarray

    from infer.citing import Bibliography


@dataclasses.dataclass(frozen=True)
class Timings:
    """Seconds spent, compilation apart from running."""

    compile: float
    warmup: float
    run: float
    verdict: float


class Result:
    """The answer of `infer.fit`.

    Attributes:
        verdict: whether the fit can be trusted, with the evidence.
        outcome: how the run ended.
        z: draws on the unconstrained scale, (chain, draw, d).
        log_prob: log density of the target at `z` (log Jacobian included), (chain, draw).
        log_q: log density of the fit at `z`, same space, or None where the fit has no density.
        timings: seconds, compilation apart.
        gradients: gradients of the log density spent on the fit, all chains together.
        target, algorithm: what was fitted, with what; None in a result loaded without them.
        keys: the keys of the runs it holds, more than one where `infer.combine` joined them.
        key: the key of the first of them.
        plan: warm-up, steps, thinning and limits of the run.
        trail: record and last states of the run, which `extend` carries on.
        algorithm_name, settings: class and numbers of the algorithm, as text.
        identity: the fingerprint of the target that files are compared by; None until it is needed.
        coordinate_names: names of the coordinates of `z`.
        labels: names of dimensions and coordinates.
        made: when, and with which versions and platform.
    """

    def __init__(
        self,
        *,
        target: Target | None,
        algorithm: AbstractSampler | AbstractApproximator | None,
        key: PRNGKey,
        plan: Plan,
        trail: Trail,
        outcome: Outcome,
        verdict: Verdict,
        z: np.ndarray,
        log_prob: np.ndarray,
        log_q: np.ndarray | None,
        timings: Timings,
        algorithm_name: str,
        settings: str,
        named: dict[str, np.ndarray] | None = None,
        names: list[str] | None = None,
        labels: Labels | None = None,
        identity: dict[str, Any] | None = None,
        keys: tuple[PRNGKey, ...] = (),
        made: dict[str, str] | None = None,
    ) -> None:
        self.target = target
        self.algorithm = algorithm
        self.key = key
        self.plan = plan
        self.trail = trail
        self.outcome = outcome
        self.verdict = verdict
        self.z = z
        self.log_prob = log_prob
        self.log_q = log_q
        self.timings = timings
        self.algorithm_name = algorithm_name
        self.settings = settings
        self.gradients = trail.gradients
        self._named = named
        self.coordinate_names = names or (target.coordinate_names() if target else [])
        self.labels = labels or (target.model.labels if target else Labels({}, {}))
        self.identity = identity
        self.keys = keys or (key,)
        self.made = made or origin()

    @property
    def problem(self) -> Target | None:
        """What was fitted: the target."""
        return self.target

    @property
    def posteriors(self) -> list[Posterior]:
        """One posterior per chain or restart; a sampler has a single one, of all its chains."""
        algorithm = self._require(self.algorithm, "posteriors")
        if isinstance(algorithm, AbstractSampler):
            return [Chains(jnp.asarray(self.z))]
        if self.resampled:
            return [Particles(jnp.asarray(self.z[0]))]
        states = self.trail.carry.states
        chains = len(self.trail.carry.alive)
        return [
            algorithm.posterior(jax.tree.map(lambda leaf, c=c: leaf[c], states))
            for c in range(chains)
        ]

    @property
    def posterior(self) -> Posterior:
        """The posterior; with several restarts, the one with the best final objective."""
        return self.posteriors[self.best]

    @property
    def best(self) -> int:
        """Index of the restart with the lowest mean loss over the last quarter of the run.

        The first, where there is nothing to rank: chains are one answer, and the loss of particles
        does not say which of several sets is best.
        """
        ranked = self.log_q is not None or self._generates
        return best_restart(self.trail) if ranked and not self.is_chains else 0

    @property
    def is_chains(self) -> bool:
        """Are the draws Markov chains, all of them the answer, and not restarts of a fit?"""
        return isinstance(self.algorithm, AbstractSampler) or "position" in self.trail.record()

    @property
    def resampled(self) -> bool:
        """Are the draws those of a fitted distribution no longer, but chosen by `infer.improve`?"""
        if self.is_chains or self.log_q is not None or self._generates:
            return False
        if self.algorithm is None:  # a file does not say, but the verdict on particles counts them
            return all(e.name != "number of particles" for e in self.verdict.evidence)
        return not (isinstance(self.algorithm, AbstractApproximator) and self.algorithm.particles)

    @property
    def _generates(self) -> bool:
        """Are the draws independent ones of a fit that has no density?"""
        if self.algorithm is None:  # a file does not say, but the verdict does
            return any(e.name == "no density" for e in self.verdict.evidence)
        return isinstance(self.algorithm, AbstractApproximator) and self.algorithm.generates

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Recorded loss and statistics by name, each (chain, step)."""
        record = self.trail.record()
        return {
            name.removeprefix("stats/"): np.swapaxes(values, 0, 1)
            for name, values in record.items()
            if name != "position"
        }

    def draws(self) -> dict[str, np.ndarray]:
        """Draws by name on the constrained scale, (chain, draw, *shape), deterministic included."""
        if self._named is None:
            target = self._require(self.target, "draws")
            chains, n, d = self.z.shape
            flat = constrain(target.full(), jnp.asarray(self.z.reshape(-1, d)))
            self._named = {
                name: np.asarray(value).reshape(chains, n, *value.shape[1:])
                for name, value in flat.items()
            }
        return self._named

    def __getitem__(self, name: str) -> np.ndarray:
        """Draws of one variable, (chain, draw, *shape)."""
        draws = self.draws()
        if name not in draws:
            raise KeyError(f"no variable named {name!r}; there are {sorted(draws)}")
        return draws[name]

    def moments(self) -> dict[str, Moments]:
        """Mean, sd and Monte Carlo error of each variable over every step, kept or not.

        For runs with `infer.fit(..., moments=True)`. Of infinite or heavy-tailed moments it gives
        numbers all the same: see the score tail in the verdict.
        """
        if self.trail.moments is None:
            raise ValueError(
                "this run kept no moments; write infer.fit(..., steps=..., thin=..., moments=True)."
            )
        return self.trail.moments.moments()

    def summary(self, variables: Iterable[str] | None = None) -> Summary:
        """Mean, sd, quantiles per variable, and the verdict: `print(result.summary())`.

        Args:
            variables: names of the variables to show, `["mu", "tau"]`; all of them if None.
        """
        return summarize(self, variables)

    def to_arviz(
        self, *, log_likelihood: bool = False, predictive: bool = False
    ) -> "xarray.DataTree":
        """The result as an `xarray.DataTree` for ArviZ.

        Groups: posterior, sample_stats (`lp`, `log_q` where there is one, statistics per draw),
        fit (loss history, verdict), observed_data, constant_data, and on demand log_likelihood
        (unscaled, computed in chunks) and posterior_predictive.
        """
        from infer.bridges.arviz import to_datatree

        return to_datatree(self, log_likelihood=log_likelihood, predictive=predictive)

    def log_likelihood(self, chunk: int = 256) -> dict[str, np.ndarray]:
        """Unscaled log likelihood per observation, (chain, draw, *observations)."""
        target = self._require(self.target, "log_likelihood").full()
        chains, n, d = self.z.shape
        flat = self.z.reshape(-1, d)
        parts = [
            jax.tree.map(np.asarray, _log_likelihood(target, jnp.asarray(flat[i : i + chunk])))
            for i in range(0, len(flat), chunk)
        ]
        if not parts or not parts[0]:
            raise ValueError(
                "this target has no pointwise log likelihood. Of a NumPyro model observe the rows "
                "that were seen, y[seen], in the place of a mask or a factor; give "
                "from_log_density the two parts log_prior=... and log_likelihood=... (one value "
                "per row)."
            )
        joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        return {k: v.reshape(chains, n, *v.shape[1:]) for k, v in joined.items()}

    def predict(
        self, *args: Any, key: Any, chunk: int = 256, **kwargs: Any
    ) -> dict[str, np.ndarray]:
        """Posterior predictive draws at new inputs, (chain, draw, *shape) by name.

        Beside what is drawn there are the model's deterministic sites, at the new inputs.

        Args:
            args: the model's arguments, with None in the place of what is to be predicted.
            key: a PRNG key or an integer.
            chunk: draws per device call; bounds the memory.
            kwargs: the model's keyword arguments.
        """
        target = self._require(self.target, "predict").full()
        args, kwargs = target.model.prediction_inputs(args, kwargs)
        chains, n, d = self.z.shape
        flat = jnp.asarray(self.z.reshape(-1, d))
        keys = jax.random.split(address(as_key(key), Use.PREDICT), len(flat))
        parts = [
            jax.tree.map(
                np.asarray, _predict(target, keys[i : i + chunk], flat[i : i + chunk], args, kwargs)
            )
            for i in range(0, len(flat), chunk)
        ]
        joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        return {k: v.reshape(chains, n, *v.shape[1:]) for k, v in joined.items()}

    def extend(self, *, steps: int, **options: Any) -> "Result":
        """The same run carried on by `steps` steps, without warming up again.

        Bit for bit what one longer run would have given. `options` are those of `infer.fit` that
        do not change the run: progress, callbacks, chunk, checkpoint, max_seconds.
        """
        from infer.fit import extend

        if self.resampled and self.algorithm is not None:
            raise ValueError(
                "this result was made by infer.improve, whose draws no steps carry on; extend the "
                "fit that was improved and improve it again: "
                "infer.improve(fit.extend(steps=...), key=0)."
            )
        if len(self.keys) > 1:
            raise ValueError(
                f"this result joins {len(self.keys)} runs, each with its own key; extend each of "
                "them, then infer.combine([...])."
            )
        result = extend(self, steps=steps, **options)
        assert isinstance(result, Result)
        return result

    def examine(self, *, key: Any) -> Verdict:
        """The verdict of the expensive checks: a NUTS cross-check, a mode search, restarts."""
        from infer.examine import examine

        return examine(self, key=key)

    def cite(self) -> "Bibliography":
        """What to cite for this answer, as BibTeX: `print(result.cite())`; see `infer.cite`."""
        from infer.citing import cite

        return cite(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write draws, history, verdict and states to one file; see `infer.load`."""
        from infer.persist import save

        save(self, path)

    def _require(self, thing: Any, what: str) -> Any:
        if thing is None:
            raise ValueError(
                f"{what} needs the target and the algorithm, which a file does not hold: "
                "write infer.load(path, target, algorithm)."
            )
        return thing

    def __repr__(self) -> str:
        chains, n, d = self.z.shape
        return (
            f"<Result of {self.algorithm_name}: {chains} x {n} draws of {d} coordinates, "
            f"{self.verdict.status}>"
        )


def best_restart(trail: Trail) -> int:
    """Index of the restart with the lowest mean loss over the last quarter of a run."""
    losses = trail.losses()
    if not len(losses):
        return 0
    tail = losses[-max(1, len(losses) // 4) :]
    finite = np.isfinite(tail)
    total, count = np.where(finite, tail, 0).sum(axis=0), finite.sum(axis=0)
    return int(np.argmin(np.where(count > 0, total / np.maximum(count, 1), np.inf)))


@eqx.filter_jit
def _log_likelihood(target: Target, z: Array) -> Values:
    return jax.vmap(target.log_likelihood)(z)


@eqx.filter_jit
def _predict(target: Target, keys: Array, z: Array, args: tuple, kwargs: dict) -> Values:
    def one(key: Array, z: Array) -> Values:
        return target.model.predict(key, target.unravel(z), args, kwargs)

    return jax.vmap(one)(keys, z)
