"""What a fit of a model of rows returns: the model, a posterior for every row, and a verdict."""

import contextlib
import io
import math
import os
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.amortized import queries
from infer.amortized.encoded import AmortizedPosterior, Joint, RowDensity
from infer.amortized.model import AmortizedModel
from infer.bridges.density import from_log_density
from infer.core.algorithm import AbstractAmortizer
from infer.core.data import Data, Rows
from infer.core.evidence import Verdict
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Outcome
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import Points, PRNGKey
from infer.diagnostics.annealed_evidence import (
    AnnealedEvidence,
    Sandwich,
    annealed_evidence,
    sandwich,
)
from infer.diagnostics.evidence_bounds import ImportanceEvidence, importance_evidence
from infer.diagnostics.latents import Latents
from infer.families.gaussian import FullRank
from infer.families.mixture import Mixture
from infer.objectives.divergences import MaximumLikelihood
from infer.objectives.estimator import Score
from infer.optimizers.clipping import MedianClip
from infer.planning import at_least_one
from infer.result import Result, Timings, best_restart
from infer.run.checkpoint import origin
from infer.run.loop import Plan, Trail
from infer.variational.vi import VI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infer.citing import Bibliography


class AmortizedResult:
    """The answer of `infer.fit` for rows: a model of them, with q(z | x) for each.

        result.given(x)           the posterior of one row, an ordinary `Result` with its verdict
        result.evidence(x)        log p(x) of rows by importance sampling, with what shows its error
        result.generate(n=...)    new rows
        result.reconstruct(x)     E p(x | z), z at the posterior mean, or the likeliest code

    Attributes:
        verdict: whether q(z | x) can be trusted as the posterior of this decoder; it does not judge
            the decoder as a model of the world.
        outcome: how the run ended.
        timings: seconds, compilation apart.
        data, algorithm: what was fitted, with what; None in a result loaded without them.
        key, keys: the key of the run.
        plan: steps, thinning and limits of the run.
        trail: record and last states of the run, which `extend` carries on.
        algorithm_name, settings: class and numbers of the algorithm, as text.
        identity: the fingerprint of the rows that files are compared by; None until it is needed.
        made: when, and with which versions and platform.
    """

    def __init__(
        self,
        *,
        data: Data | None,
        algorithm: AbstractAmortizer | None,
        key: PRNGKey,
        plan: Plan,
        trail: Trail,
        outcome: Outcome,
        verdict: Verdict,
        timings: Timings,
        algorithm_name: str,
        settings: str,
        model: AmortizedModel | None = None,
        identity: dict[str, Any] | None = None,
        made: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.algorithm = algorithm
        self.key = key
        self.keys = (key,)
        self.plan = plan
        self.trail = trail
        self.outcome = outcome
        self.verdict = verdict
        self.timings = timings
        self.algorithm_name = algorithm_name
        self.settings = settings
        self.identity = identity
        self.made = made or origin()
        self._model = model

    @property
    def problem(self) -> Data | None:
        """What was fitted: the rows."""
        return self.data

    @property
    def model(self) -> AmortizedModel:
        """The fitted model; with several restarts, the one with the best final objective."""
        if self._model is None:
            if self.algorithm is None:
                raise ValueError(
                    "the model needs its parts, which a file does not hold: write "
                    "infer.load(path, data, algorithm)."
                )
            self._model = fitted(self.algorithm, self.trail)
        return self._model

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Recorded loss and statistics by name, each (chain, step)."""
        return {
            name.removeprefix("stats/"): np.swapaxes(values, 0, 1)
            for name, values in self.trail.record().items()
        }

    def given(
        self, x: Any, *, key: Any, condition: Any = None, mask: Any = None, draws: int = 1000
    ) -> Result:
        """The posterior q(z | x) of one row, as a `Result` with draws of `z` and a verdict.

        Args:
            x: one row.
            key: a PRNG key or an integer.
            condition: that of the row, where the fit had conditions.
            mask: that of the row, where the fit had masks.
            draws: draws of z, >= 1.

        Raises:
            TypeError: for a point encoder or a code without a density, which claim no posterior.
        """
        from infer.fit import fit

        self._needs_density("given")
        rows = self._rows(_one(x), _one(condition), _one(mask))
        row = rows.take(0)
        model = self.model
        q = queries.posterior(model, row)
        target = from_log_density(RowDensity(model, row), {"z": jnp.zeros(model.head.dim)})
        return fit(target, AmortizedPosterior(q=q), key=key, steps=1, draws=draws, progress=False)

    def posteriors(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Any:
        """q(z | x) of many rows: a distribution whose arrays have a leading axis of rows."""
        return queries.posteriors(self.model, self._rows(x, condition, mask))

    def encode(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Points:
        """Posterior means of rows, (N, d); of the rows that were fitted if x is None."""
        return queries.means(self.model, self._rows(x, condition, mask))

    def decode(self, z: Any, *, condition: Any = None) -> Array:
        """The mean of x at latent points (N, d)."""
        given = None if condition is None else jnp.asarray(condition)
        return queries.decode(self.model, jnp.asarray(z), given)

    def reconstruct(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Array:
        """The mean of x at the posterior means of rows; fills in what was not observed.

        Where latent variables are discrete, at the most probable code.
        """
        rows = self._rows(x, condition, mask)
        return queries.decode(self.model, queries.likeliest(self.model, rows), rows.condition)

    def impute(
        self, x: Any, mask: Any, *, key: Any, condition: Any = None, n_samples: int = 200
    ) -> Array:
        """Rows with what was not observed replaced by its posterior mean.

            E(x_i | observed) = sum_k W_k E(x_i | z_k),  W = softmax(log w),  z_k ~ q(z | x)

        Unlike `reconstruct`, which decodes the posterior mean, it takes the weights of draws.

        Args:
            x: rows, anything where they were not observed.
            mask: True where they were.
            key: a PRNG key or an integer.
            condition: those of the rows, where the fit had conditions.
            n_samples: draws per row, >= 1.
        """
        self._needs_density("impute")
        rows = self._rows(x, condition, mask)
        assert rows.mask is not None
        n = at_least_one("n_samples", n_samples)
        filled = queries.imputed(self.model, rows, address(as_key(key), Use.PREDICT), n)
        return jnp.where(rows.mask, rows.x, filled)

    def generate(self, n: int | None = None, *, key: Any, condition: Any = None) -> Array:
        """New rows: x ~ p(x | z), z ~ p(z).

        Args:
            n: how many, >= 1; with conditions, as many as there are.
            key: a PRNG key or an integer.
            condition: what is given, a row for each, where the fit had them.
        """
        given = None if condition is None else jnp.asarray(condition)
        if (given is None) != (self._like().condition is None):
            raise ValueError(
                "generate needs condition= where the fit had one, and none where it had none."
            )
        if given is not None and n not in (None, len(given)):
            raise ValueError(f"n={n} and {len(given)} conditions do not agree; leave out n.")
        n = at_least_one("n", len(given) if given is not None else n)
        return queries.generate(self.model, address(as_key(key), Use.PREDICT), n, given)

    def interpolate(self, first: Any, last: Any, n: int = 8) -> Array:
        """The means of x along the straight line between the posterior means of two rows."""
        ends = self.encode(jnp.stack([jnp.asarray(first), jnp.asarray(last)]))
        share = jnp.linspace(0, 1, at_least_one("n", n))[:, None]
        return self.decode((1 - share) * ends[0] + share * ends[1])

    def evidence(
        self,
        x: Any = None,
        *,
        key: Any,
        condition: Any = None,
        mask: Any = None,
        n_samples: int = 1000,
        chunk: int = 5000,
        inflate: float | None = None,
    ) -> ImportanceEvidence:
        """Log p(x) of rows by importance sampling from q(z | x): the test likelihood of papers.

        Its mean over rows, with the sign changed, is the NLL. Look at `khat` beside it.

        Args:
            x: rows; the held-out ones, or those that were fitted, if None.
            key: a PRNG key or an integer.
            condition: those of the rows, where the fit had conditions.
            mask: those of the rows, where the fit had masks.
            n_samples: draws per row, >= 1.
            chunk: draws evaluated at once; bounds the memory.
            inflate: see `infer.diagnostics.importance_evidence`.
        """
        self._needs_density("evidence")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        model, q = self.model, queries.posteriors(self.model, rows)
        if inflate is not None and q.discrete:
            raise ValueError("codes cannot be stretched about a mean; write inflate=None.")
        return importance_evidence(
            address(as_key(key), Use.PREDICT),
            Joint(model),
            q,
            rows,
            n_samples,
            chunk,
            inflate,
        )

    def annealed_evidence(
        self,
        x: Any = None,
        *,
        key: Any,
        condition: Any = None,
        mask: Any = None,
        n_steps: int = 1000,
        n_chains: int = 16,
    ) -> AnnealedEvidence:
        """A lower bound of log p(x) of rows by annealing from q(z | x) to the posterior.

        For rows where q has too thin tails for `evidence`; its k-hat tells which. Cost per row:
        about 2 n_steps n_chains Hamiltonian moves.

        Args:
            x: rows; the held-out ones, or those that were fitted, if None.
            key: a PRNG key or an integer.
            condition: those of the rows, where the fit had conditions.
            mask: those of the rows, where the fit had masks.
            n_steps: levels between q and the posterior, >= 1.
            n_chains: chains per row, >= 1.
        """
        self._needs_density("annealed_evidence")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        model = self.model
        q = queries.posteriors(model, rows)
        return annealed_evidence(
            address(as_key(key), Use.PREDICT), Joint(model), q, rows, n_steps, n_chains
        )

    def sandwich(
        self, n: int = 40, *, key: Any, n_steps: int = 1000, n_chains: int = 16
    ) -> Sandwich:
        """Bounds of log p(x) from both sides, on `n` rows that the model makes itself.

        A small gap certifies what `annealed_evidence` with these settings says of such rows.

        Args:
            n: rows, >= 1.
            key: a PRNG key or an integer.
            n_steps: levels between q and the posterior, >= 1.
            n_chains: chains per row and direction, >= 1.

        Source: Grosse, Ancha and Roy, Measuring the reliability of MCMC inference with
        bidirectional Monte Carlo, NeurIPS 2016.
        """
        self._needs_density("sandwich")
        if self._like().condition is not None or self._like().mask is not None:
            raise ValueError("sandwich makes rows itself, which have no condition and no mask.")
        key_rows, key_run = jax.random.split(address(as_key(key), Use.PREDICT))
        model = self.model
        z, x = queries.simulated(model, key_rows, at_least_one("n", n))
        rows = Rows(x)
        q = queries.posteriors(model, rows)
        return sandwich(key_run, Joint(model), q, rows, z, n_steps, n_chains)

    def latents(
        self, x: Any = None, *, key: Any, condition: Any = None, mask: Any = None
    ) -> Latents:
        """How the latent variables are used: active ones, information, aggregate against prior.

        Cost O(N^2) densities of q for N rows.
        """
        self._needs_density("latents")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        return queries.use_of(self.model, rows, address(as_key(key), Use.PREDICT))

    def with_prior(self, prior: AbstractDistribution) -> "AmortizedResult":
        """The same model with another prior, such as one fitted to the codes afterwards.

        The verdict is taken over as it is: it was passed with the old prior.
        """
        if not isinstance(prior, AbstractDistribution):
            raise TypeError(f"with_prior needs a distribution of codes, got {prior!r}.")
        new = object.__new__(AmortizedResult)
        vars(new).update(vars(self))
        new._model = eqx.tree_at(lambda m: m.prior, self.model, prior, is_leaf=lambda n: n is None)
        return new

    def ex_post(
        self, family: AbstractFamily | None = None, *, key: Any, steps: int = 3000
    ) -> "AmortizedResult":
        """The same model with a prior fitted to its codes, by maximum likelihood.

        The codes are one draw of q(z | x) for every row of the fit, or its points. What the prior
        of the fit leaves empty is then no longer generated; the bound of a row is another one.

        Args:
            family: `Mixture(FullRank(1.0), 10)` if None, or a flow.
            key: a PRNG key or an integer.
            steps: of the fit, each on 256 codes, >= 1.

        Source: Ghosh et al., From variational to deterministic autoencoders, ICLR 2020.
        """
        from infer.fit import fit

        if self.model.head.discrete:
            raise TypeError(
                "ex_post fits a density to codes, and these are of a finite set; write "
                "result.with_prior(infer.Empirical(result.encode()))."
            )
        rng = as_key(key)
        codes = queries.codes(self.model, self._rows(None, None, None), address(rng, Use.DRAW))
        family = Mixture(FullRank(scale=1.0), 10, spread=1.0) if family is None else family
        flat = from_log_density(_nothing, {"z": codes[0]})
        vi = VI(
            family=family,
            objective=MaximumLikelihood(codes),
            estimator=Score(),
            n_samples=256,
            clip=MedianClip(),
        )
        with contextlib.redirect_stderr(io.StringIO()):  # there is no posterior to judge
            fitted = fit(flat, vi, key=rng, steps=steps, draws=1, progress=False)
        posterior = fitted.posterior
        assert isinstance(posterior, AbstractDistribution)
        return self.with_prior(posterior)

    def plot(
        self, *, key: Any, shape: tuple[int, ...] | None = None, columns: int = 10
    ) -> "Figure":
        """Rows, their reconstructions, new rows, and a walk between two codes, as small images.

        Args:
            key: a PRNG key or an integer.
            shape: of an image (H, W) or (H, W, C); that of a row if None.
            columns: images in a line, >= 2.
        """
        from infer.bridges.figures import image_rows

        rows = self._held_out()
        if rows.condition is not None or rows.mask is not None:
            raise ValueError(
                "plot shows rows without masks and conditions; see reconstruct and generate."
            )
        shape = rows.x.shape[1:] if shape is None else shape
        if len(shape) not in (2, 3) or math.prod(shape) != math.prod(rows.x.shape[1:]):
            raise ValueError(
                f"plot needs the shape of an image for rows of {rows.x.shape[1:]}, got {shape}; "
                "write shape=(8, 8)."
            )
        x = rows.x[: at_least_one("columns", columns)]
        lines = {
            "rows" if self.data is None or self.data.held_out is None else "held out": x,
            "reconstructed": self.reconstruct(x),
            "generated": self.generate(columns, key=key),
            "between two": self.interpolate(x[0], x[-1], columns),
        }
        return image_rows({name: np.asarray(line) for name, line in lines.items()}, shape)

    def plot_latents(self, x: Any = None, *, labels: Any = None) -> "Figure":
        """Posterior means of rows in the plane of the two most active latent variables.

        Args:
            x: rows; those that were fitted if None.
            labels: a small number or letter for each, drawn in the place of a dot.
        """
        from infer.bridges.figures import scatter

        z = np.asarray(self.encode(x))
        if z.shape[1] < 2:
            raise ValueError("plot_latents needs two latent variables, and this model has one.")
        most = np.sort(np.argsort(-z.var(axis=0))[:2])
        names = f"z[{most[0]}]", f"z[{most[1]}]"
        return scatter(z[:, most], None if labels is None else np.asarray(labels), names)

    def draws(self) -> dict[str, np.ndarray]:
        """There are none: every row has a posterior of its own."""
        raise ValueError(
            "a model of rows has a posterior for every row; write result.given(x, key=0).draws()."
        )

    def summary(self) -> str:
        """Losses, seconds and the verdict as text."""
        loss = self.trail.losses()
        last = np.nanmean(loss[-max(1, len(loss) // 20) :]) if len(loss) else np.nan
        return (
            f"{self.algorithm_name}: {self.trail.taken} steps in {self.timings.run:.1f} s, "
            f"{-last:.4g} nats per row in the last of them\n{self.verdict}"
        )

    def extend(self, *, steps: int, **options: Any) -> "AmortizedResult":
        """The same run carried on by `steps` steps; see `Result.extend`."""
        from infer.fit import extend

        result = extend(self, steps=steps, **options)
        assert isinstance(result, AmortizedResult)
        return result

    def cite(self) -> "Bibliography":
        """What to cite for this answer, as BibTeX: `print(result.cite())`; see `infer.cite`."""
        from infer.citing import cite

        return cite(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write history, verdict and parameters to one file; see `infer.load`."""
        from infer.persist import save_amortized

        save_amortized(self, path)

    def _like(self) -> Rows:
        if self.data is None:
            raise ValueError("this needs the rows: write infer.load(path, data, algorithm).")
        return self.data.rows

    def _held_out(self) -> Rows:
        self._like()
        assert self.data is not None
        data = self.data if self.data.held_out is None else self.data.held_out
        return data.seen(address(self.key, Use.DRAW))

    def _rows(self, x: Any, condition: Any, mask: Any) -> Rows:
        """Rows like those of the fit, checked; those of the fit if x is None."""
        like = self._like()
        if x is None:
            assert self.data is not None
            return self.data.seen(address(self.key, Use.DRAW))
        rows = Data(x, condition=condition, mask=mask).rows
        for name in ("x", "mask", "condition"):
            mine, theirs = vars(like)[name], vars(rows)[name]
            if (mine is None) != (theirs is None):
                need = "needs" if mine is not None else "has no"
                raise ValueError(f"this model {need} a {name} for every row.")
            if mine is not None and mine.shape[1:] != theirs.shape[1:]:
                raise ValueError(
                    f"{name} has shape {theirs.shape}, and the rows of the fit "
                    f"(N, {', '.join(map(str, mine.shape[1:]))})."
                )
        return eqx.tree_at(lambda r: r.x, rows, rows.x.astype(like.x.dtype))

    def _needs_density(self, what: str) -> None:
        if not self.model.head.has_density:
            raise TypeError(
                f"{what} needs a posterior with a density, and this encoder gives a point or a "
                "code; fit a VAE with posterior=infer.MeanField(), or see encode and reconstruct."
            )

    def __repr__(self) -> str:
        return f"<AmortizedResult of {self.algorithm_name}: {self.verdict.status}>"


def fitted(algorithm: AbstractAmortizer, trail: Trail) -> AmortizedModel:
    """The model of the restart with the best final objective."""
    best = best_restart(trail)
    model = algorithm.model(jax.tree.map(lambda leaf: leaf[best], trail.carry.states))
    assert isinstance(model, AmortizedModel)
    return model


def _one(value: Any) -> Any:
    return None if value is None else np.asarray(value)[None]


def _nothing(params: dict[str, Array]) -> Array:
    """The log density that is 0 everywhere."""
    return 0.0 * jnp.sum(params["z"])
