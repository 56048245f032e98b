"""What a fit of a model of rows returns: the model, a posterior for every row, and a verdict."""

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer import amortized_evidence as evidences
from infer import amortized_rows as forms
from infer.amortized import queries
from infer.amortized.encoded import AmortizedPosterior, RowDensity
from infer.amortized.model import AmortizedModel
from infer.amortized_figures import latents_figure, rows_figure
from infer.bridges.density import from_log_density
from infer.core.algorithm import AbstractAmortizer
from infer.core.data import Data, Rows
from infer.core.evidence import Verdict
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Outcome
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import Points, PRNGKey
from infer.diagnostics.annealed_evidence import AnnealedEvidence, Sandwich
from infer.diagnostics.evidence_bounds import ImportanceEvidence
from infer.diagnostics.latents import Latents
from infer.ex_post import prior_of
from infer.likelihoods.parts import layout_of
from infer.planning import at_least_one
from infer.result import Result, Timings, best_restart
from infer.run.checkpoint import origin
from infer.run.loop import Plan, Trail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infer.citing import Bibliography


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class AmortizedResult:
    """The answer of `infer.fit` for rows: a model of them, with q(z | x) for each.

        result.given(x)           the posterior of one row, an ordinary `Result` with its verdict
        result.evidence(x)        log p(x) of rows by importance sampling, with what shows its error
        result.generate(n=...)    new rows
        result.reconstruct(x)     E p(x | z), z at the posterior mean, or the likeliest code

    Rows of several parts are trees here, as they are in `Data`.

    Attributes:
        verdict: whether q(z | x) can be trusted as the posterior of this decoder; it does not judge
            the decoder as a model of the world.
        outcome: how the run ended.
        timings: seconds, compilation apart.
        data, algorithm: what was fitted, with what; None in a result loaded without them.
        key: of the run.
        plan: steps, thinning and limits of the run.
        trail: record and last states of the run, which `extend` carries on.
        algorithm_name, settings: class and numbers of the algorithm, as text.
        identity: the fingerprint of the rows that files are compared by; None until it is needed.
        made: when, and with which versions and platform.
        known: the model, if it is known already.
    """

    data: Data | None
    algorithm: AbstractAmortizer | None
    key: PRNGKey
    plan: Plan
    trail: Trail
    outcome: Outcome
    verdict: Verdict
    timings: Timings
    algorithm_name: str
    settings: str
    identity: dict[str, Any] | None = None
    made: dict[str, str] = dataclasses.field(default_factory=origin)
    known: AmortizedModel | None = None

    @property
    def keys(self) -> tuple[PRNGKey, ...]:
        """The key of the run, as those of a `Result`, which may have been extended with others."""
        return (self.key,)

    @property
    def problem(self) -> Data | None:
        """What was fitted: the rows."""
        return self.data

    @property
    def model(self) -> AmortizedModel:
        """The fitted model; with several restarts, the one with the best final objective."""
        if self.known is None:
            if self.algorithm is None:
                raise ValueError(
                    "the model needs its parts, which a file does not hold: write "
                    "infer.load(path, data, algorithm)."
                )
            self.known = fitted(self.algorithm, self.trail)
        return self.known

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Recorded loss and statistics by name, each (chain, step)."""
        record = self.trail.record().items()
        return {name.removeprefix("stats/"): np.swapaxes(x, 0, 1) for name, x in record}

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

        forms.needs_density(self.model, "given")
        row, model = forms.row_like(self._data(), x, condition, mask), self.model
        q = queries.posterior(model, row)
        target = from_log_density(RowDensity(model, row), {"z": jnp.zeros(model.head.dim)})
        return fit(target, AmortizedPosterior(q=q), key=key, steps=1, draws=draws, progress=False)

    def posteriors(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Any:
        """q(z | x) of many rows: a distribution whose arrays have a leading axis of rows."""
        return queries.posteriors(self.model, self._rows(x, condition, mask))

    def encode(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Points:
        """Posterior means of rows, (N, d); of the rows that were fitted if x is None."""
        return queries.means(self.model, self._rows(x, condition, mask))

    def decode(self, z: Any, *, condition: Any = None) -> Any:
        """The mean of x at latent points (N, d)."""
        given = forms.conditions_like(self._data(), condition)
        return self._means(queries.decode(self.model, jnp.asarray(z), given))

    def reconstruct(self, x: Any = None, *, condition: Any = None, mask: Any = None) -> Any:
        """The mean of x at the posterior means of rows; fills in what was not observed.

        Where latent variables are discrete, at the most probable code.
        """
        rows = self._rows(x, condition, mask)
        z = queries.likeliest(self.model, rows)
        return self._means(queries.decode(self.model, z, rows.condition))

    def impute(
        self, x: Any, mask: Any, *, key: Any, condition: Any = None, n_samples: int = 200
    ) -> Any:
        """Rows with what was not observed replaced by its posterior mean.

            E(x_i | observed) = sum_k W_k E(x_i | z_k),  W = softmax(log w),  z_k ~ q(z | x)

        Unlike `reconstruct`, which decodes the posterior mean, it takes the weights of draws. Of
        classes it gives the most probable one.

        Args:
            x: rows, anything where they were not observed.
            mask: True where they were.
            key: a PRNG key or an integer.
            condition: those of the rows, where the fit had conditions.
            n_samples: draws per row, >= 1.
        """
        forms.needs_density(self.model, "impute")
        rows = self._rows(x, condition, mask)
        assert rows.mask is not None
        n = at_least_one("n_samples", n_samples)
        filled = queries.imputed(self.model, rows, address(as_key(key), Use.PREDICT), n)
        return self._means(jnp.where(rows.mask, rows.x, filled))

    def generate(self, n: int | None = None, *, key: Any, condition: Any = None) -> Any:
        """New rows: x ~ p(x | z), z ~ p(z); of several parts a tree, in their types.

        Args:
            n: how many, >= 1; with conditions, as many as there are.
            key: a PRNG key or an integer.
            condition: what is given, a row for each, where the fit had them.
        """
        n, given = forms.as_many(self._data(), n, condition)
        x = queries.generate(self.model, address(as_key(key), Use.PREDICT), n, given)
        return forms.as_given(x, layout_of(self.model.likelihood))

    def interpolate(self, first: Any, last: Any, n: int = 8) -> Any:
        """The means of x along the straight line between the posterior means of two rows."""
        ends = self.encode(forms.pair_of(self._data(), first, last))
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
        forms.needs_density(self.model, "evidence")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        rng = address(as_key(key), Use.PREDICT)
        return evidences.importance(self.model, rows, rng, n_samples, chunk, inflate)

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
        forms.needs_density(self.model, "annealed_evidence")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        rng = address(as_key(key), Use.PREDICT)
        return evidences.annealed(self.model, rows, rng, n_steps, n_chains)

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
        forms.needs_density(self.model, "sandwich")
        rng, n = address(as_key(key), Use.PREDICT), at_least_one("n", n)
        return evidences.between(self.model, self._data().rows, n, rng, n_steps, n_chains)

    def latents(
        self, x: Any = None, *, key: Any, condition: Any = None, mask: Any = None
    ) -> Latents:
        """How the latent variables are used: active ones, information, aggregate against prior.

        Cost O(N^2) densities of q for N rows.
        """
        forms.needs_density(self.model, "latents")
        rows = self._held_out() if x is None else self._rows(x, condition, mask)
        return queries.use_of(self.model, rows, address(as_key(key), Use.PREDICT))

    def with_prior(self, prior: AbstractDistribution) -> "AmortizedResult":
        """The same model with another prior, such as one fitted to the codes afterwards.

        The verdict is taken over as it is: it was passed with the old prior.
        """
        if not isinstance(prior, AbstractDistribution):
            raise TypeError(f"with_prior needs a distribution of codes, got {prior!r}.")
        model = eqx.tree_at(lambda m: m.prior, self.model, prior, is_leaf=lambda n: n is None)
        return dataclasses.replace(self, known=model)

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
        rows = self._rows(None, None, None)
        return self.with_prior(prior_of(self.model, rows, family, as_key(key), steps))

    def plot(
        self, *, key: Any, shape: tuple[int, ...] | None = None, columns: int = 10
    ) -> "Figure":
        """Rows, their reconstructions, new rows, and a walk between two codes, as small images.

        Args:
            key: a PRNG key or an integer.
            shape: of an image (H, W) or (H, W, C); that of a row if None.
            columns: images in a line, >= 2.
        """
        return rows_figure(self, self._held_out(), key, shape, columns)

    def plot_latents(self, x: Any = None, *, labels: Any = None) -> "Figure":
        """Posterior means of rows in the plane of the two most active latent variables.

        Args:
            x: rows; those that were fitted if None.
            labels: a small number or letter for each, drawn in the place of a dot.
        """
        return latents_figure(np.asarray(self.encode(x)), labels)

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

    def _data(self) -> Data:
        if self.data is None:
            raise ValueError("this needs the rows: write infer.load(path, data, algorithm).")
        return self.data

    def _held_out(self) -> Rows:
        data = self._data()
        data = data if data.held_out is None else data.held_out
        return data.seen(address(self.key, Use.DRAW))

    def _rows(self, x: Any, condition: Any, mask: Any) -> Rows:
        """Rows like those of the fit, checked; those of the fit if x is None."""
        data = self._data()
        if x is None:
            return data.seen(address(self.key, Use.DRAW))
        return forms.rows_like(data, x, condition, mask)

    def _means(self, x: Array) -> Any:
        return forms.means_as_given(x, self._data())

    def __repr__(self) -> str:
        return f"<AmortizedResult of {self.algorithm_name}: {self.verdict.status}>"


def fitted(algorithm: AbstractAmortizer, trail: Trail) -> AmortizedModel:
    """The model of the restart with the best final objective."""
    best = best_restart(trail)
    model = algorithm.model(jax.tree.map(lambda leaf: leaf[best], trail.carry.states))
    assert isinstance(model, AmortizedModel)
    return model
