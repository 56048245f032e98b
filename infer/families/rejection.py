"""Distributions that are drawn by a rejection sampler of one's own."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from infer.core.checks import check_count
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Count, Flag, Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.variational import NAESSETH_2017

Noise = Float[Array, "..."]
EXAMPLE = "infer.RejectionSampled(first, push, log_acceptance, log_density)"


class RejectionDistribution(AbstractDistribution):
    """q(x; p), drawn as x = push(e, p) of noise e that was accepted with probability a(e, p).

    The accepted noise has the density N(e; 0, I) a(e, p) / Z(p), so it moves with p as x does;
    its log density up to a function of p alone is the `log_noise` of draws.

    Attributes:
        parameters: p, any arrays.
    """

    parameters: Any
    push: Callable[[Noise, Any], Vector] = eqx.field(static=True)
    log_acceptance: Callable[[Noise, Any], Noise] = eqx.field(static=True)
    log_density: Callable[[Vector, Any], Scalar] = eqx.field(static=True)
    noise_shape: tuple[int, ...] = eqx.field(static=True)
    most_tries: int = eqx.field(static=True)

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws at accepted noise, with how their noise depends on the parameters."""
        noise = jax.vmap(self._accepted)(jax.random.split(key, n))
        x = jax.vmap(lambda e: self.push(e, self.parameters))(noise)
        fixed = jax.lax.stop_gradient(self)
        score = jax.vmap(jax.grad(fixed.log_prob))(jax.lax.stop_gradient(x))
        log_a = jax.vmap(lambda e: jnp.sum(self.log_acceptance(e, self.parameters)))(noise)
        return Draws(x, jax.vmap(self.log_prob)(x), score, independent=True, log_noise=log_a)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        noise = jax.vmap(self._accepted)(jax.random.split(key, n))
        return jax.vmap(lambda e: self.push(e, self.parameters))(noise)

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        return self.log_density(x, self.parameters)

    def moments(self) -> tuple[Vector, Covariance] | None:
        """None: the parameters alone do not tell them."""
        return None

    def _accepted(self, key: PRNGKey) -> Noise:
        """Accepted noise, a constant; not a number where none was within `most_tries`."""
        p = jax.lax.stop_gradient(self.parameters)
        dtype = jnp.result_type(*jax.tree.leaves(p))
        noise = jnp.full(self.noise_shape, jnp.nan, dtype)

        def going(carry: tuple[Noise, Bool[Array, "..."], Count]) -> Flag:
            return ~jnp.all(carry[1]) & (carry[2] < self.most_tries)

        def again(
            carry: tuple[Noise, Bool[Array, "..."], Count],
        ) -> tuple[Noise, Bool[Array, "..."], Count]:
            noise, done, i = carry
            key_noise, key_accept = jax.random.split(jax.random.fold_in(key, i))
            fresh = jax.random.normal(key_noise, self.noise_shape, dtype)
            log_u = jnp.log(jax.random.uniform(key_accept, done.shape, dtype))
            accept = log_u < self.log_acceptance(fresh, p)
            rows = accept.shape + (1,) * (fresh.ndim - accept.ndim)
            noise = jnp.where((accept & ~done).reshape(rows), fresh, noise)
            return noise, done | accept, i + 1

        rejected = jax.eval_shape(self.log_acceptance, noise, p).shape
        first = (noise, jnp.zeros(rejected, bool), jnp.zeros((), int))
        return jax.lax.while_loop(going, again, first)[0]


@cites(NAESSETH_2017)
class RejectionSampled(AbstractFamily):
    """A family that is drawn by a rejection sampler of your own: gammas, angles, truncations.

        e ~ N(0, I), accepted with probability a(e, p);   x = push(e, p) ~ q(x; p)

    The accepted noise depends on the parameters p. With `Reparam()` and `Path()` its share of the
    gradient is added,

        grad E_q f(x) = E grad_p f(push(e, p)) + E (f - baseline) grad_p log a(e, p)

    with the mean of the other draws as baseline: what Z(p), the rate of acceptance, would add sums
    to zero, so nobody has to know it. That needs an objective that is linear in the log weights,
    `ReverseKL()`, and 2 draws; the others take `Score()`, which asks for no noise at all. The
    second term is small where most noise is accepted, and vanishes where q is the posterior.

    Coordinates are unconstrained: of a site that is positive x is the logarithm. A gamma sampler is
    written out in the documentation of variational inference. `infer.gradient_report` shows
    whether the functions belong together: the estimators then agree. Cost per draw: as many rounds
    as its last row of noise takes.

    Args:
        first: function of a point of R^d that makes p, arrays in any container, of the member to
            start from there. All of them are fitted.
        push: function of noise and p that makes x, of shape (d,).
        log_acceptance: function of noise and p that makes log a <= 0. Noise is accepted or drawn
            again row by row: a result of the shape of the first axes of the noise, whose entries
            look at their own row alone; or a scalar, and all noise is drawn again.
        log_density: function of x and p that makes log q, normalized.
        noise_shape: shape of the noise; that of x if None.
        most_tries: rounds after which a draw is given up and is not a number, >= 1.

    Source: Naesseth, Ruiz, Linderman and Blei, Reparameterization gradients through
    acceptance-rejection sampling algorithms, AISTATS 2017.
    """

    first: Callable[[Vector], Any] = eqx.field(static=True)
    push: Callable[[Noise, Any], Vector] = eqx.field(static=True)
    log_acceptance: Callable[[Noise, Any], Noise] = eqx.field(static=True)
    log_density: Callable[[Vector, Any], Scalar] = eqx.field(static=True)
    noise_shape: tuple[int, ...] | None = eqx.field(static=True, default=None)
    most_tries: int = eqx.field(static=True, default=1000)

    def __check_init__(self) -> None:
        """Refuse what is no function, no shape and no number."""
        for name in ("first", "push", "log_acceptance", "log_density"):
            if not callable(getattr(self, name)):
                raise TypeError(
                    f"RejectionSampled needs {name} as a function, got {getattr(self, name)!r}; "
                    f"write {EXAMPLE}."
                )
        shape = self.noise_shape
        sizes = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 1 for n in shape)
        if shape is not None and not sizes:
            raise TypeError(
                f"RejectionSampled needs noise_shape as a tuple of sizes or None, got {shape!r}; "
                "write noise_shape=(3, 2)."
            )
        check_count("RejectionSampled", "most_tries", self.most_tries, 1000)

    @property
    def fixed_noise(self) -> bool:
        """False: which noise is accepted depends on the parameters."""
        return False

    def init(self, key: PRNGKey, start: Vector) -> RejectionDistribution:
        """The member with the parameters `first(start)`; refuses functions of other shapes."""
        noise_shape = start.shape if self.noise_shape is None else self.noise_shape
        functions = (self.push, self.log_acceptance, self.log_density)
        parameters = jax.tree.map(lambda v: jnp.asarray(v, start.dtype), self.first(start))
        noise = jax.ShapeDtypeStruct(noise_shape, start.dtype)
        made = [
            jax.eval_shape(function, given, parameters).shape
            for function, given in zip(functions, (noise, noise, start), strict=True)
        ]
        for name, got, needed, right in (
            ("push", made[0], start.shape, made[0] == start.shape),
            (
                "log_acceptance",
                made[1],
                f"first axes of {noise_shape}",
                _begins(noise_shape, made[1]),
            ),
            ("log_density", made[2], (), made[2] == ()),
        ):
            if not right:
                raise ValueError(
                    f"RejectionSampled needs {name} to make an array of shape {needed}, got {got}; "
                    "noise_shape= is the shape of the noise if it is not that of x."
                )
        return RejectionDistribution(parameters, *functions, noise_shape, self.most_tries)


def _begins(shape: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return shape[: len(part)] == part
