"""Variational Wasserstein gradient flow."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.linalg import LOG_2PI
from infer.core.posterior import AbstractDistribution
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar
from infer.families.gaussian import DiagonalGaussian
from infer.optimizers.optimizer import Optimizer, advance, check_optimizer, first_state, optimizer
from infer.references.citation import cites
from infer.references.particles import FAN_2022
from infer.transport.networks import (
    Frame,
    Perceptron,
    Pushforward,
    ResidualMap,
    frame_of,
    identity_map,
    perceptron,
)


class _State(eqx.Module):
    """A flow on its way.

    Attributes:
        base: P_0.
        maps: all maps, stacked; the identity from place `finished` on.
        current: the map in training, from P_k on.
        log_h: log of the density ratio, as a network of whitened coordinates.
        pool: draws of P_k.
        map_optimizer, ratio_optimizer: states of the two optimizers.
        finished: k, the number of finished maps.
        updates: updates of the map in training.
    """

    base: AbstractDistribution
    maps: ResidualMap
    current: ResidualMap
    log_h: Perceptron
    pool: Points
    map_optimizer: optax.OptState
    ratio_optimizer: optax.OptState
    finished: Count
    updates: Count


@cites(FAN_2022)
class WassersteinFlow(AbstractApproximator):
    """Follows the Wasserstein gradient flow of KL(P || p) by maps learned one after another.

        P_{k+1} = argmin over P of  W2^2(P, P_k) / (2 a) + KL(P || p)

    P_{k+1} is P_k moved by a residual network T that starts as the identity; the divergence has its
    variational form over functions h > 0, relative to a Gaussian mu:

        max over h, min over T   E_{x ~ P_k} [ |T(x) - x|^2 / (2 a) + log h(T(x)) + log mu(T(x))
                                               - log p(T(x)) ] - E_mu [h] + 1

    The answer is a generator: `result.posterior.sample(key, n)` moves fresh draws of P_0 through
    all maps. They are independent, and have no density. A step of `infer.fit` is one update:
    `ratio_steps` steps of an optimizer on log h, then one on T. After `updates` of them T is frozen
    and the next map begins; `n_maps * updates` steps reach the end of the last map, and steps
    beyond it go on training that. The loss is the divergence up to log Z.

    Unlike in the paper mu has the mean and covariance of T(x) in every batch, and h is a network of
    the coordinates in which these are zero and one: networks learn shape only, and a start twenty
    standard deviations away is no trouble. P_k is a pool of draws that is pushed along.

    Cost per step: `n_samples` gradients of the target, and n_samples (ratio_steps + 1) passes
    through either network: 5 to 10 ms in few dimensions on two shared cores.

    Args:
        n_maps: how many maps there is room for, >= 1.
        updates: steps per map, >= 1.
        step_size: a, > 0; in units of the variance of P_k where `whitened`. A small one follows
            the flow, a large one goes to the posterior in few maps.
        whitened: measure |T(x) - x| in the metric of the inverse covariance of P_k, so that units
            do not matter; False is the plain distance of the paper.
        n_samples: draws per batch, >= 4 per coordinate.
        n_pool: draws that stand for P_k, >= n_samples.
        ratio_steps: steps on log h before each one on T, >= 1.
        width: units per hidden layer of both networks, >= 1.
        depth: hidden layers of both networks, >= 1.
        optimizer: any optax transformation, for T; its steps fall to zero within each map.
        ratio_optimizer: the same for log h, at full length.
        init_scale: standard deviation of P_0 = N(target.initial, init_scale^2 I), > 0.
        start: P_0 itself instead, a fitted distribution such as
            `infer.fit(target, infer.VI(), key=0).posterior`.
        stopping: a `LossSettled` rule, or None to take every step.

    Limits: h is found by a few steps on a network and underestimates how far P is from a Gaussian,
    the more so in tails: of the 0.35 nats of a uniform distribution on a rectangle it finds 0.27 in
    800 steps. The divergence that T makes small is too small by as much. On Gaussians in 2, 5 and
    10 dimensions means came within 0.03 sd and sds within 2 %; the energy distance of 2000 draws to
    4000 exact ones was, beside that of as many exact ones,

        mixture of ten Gaussians, d = 2, init_scale=4     0.0060   (exact 0.0041)
        banana, x ~ N(0, 1), y ~ N(x^2, 0.25)             0.0179   (exact 0.0011)

    where its tips are too short (sds 0.88 and 1.07, right are 1 and 1.5) and the verdict is
    suspect; `VI()` has 0.27 and SVGD with 500 particles 0.003 there. Modes far apart get
    wrong shares, 0.56 for 0.7, which the verdict cannot measure but suspects. A fit takes two to
    four thousand steps of 512 gradients: on a logistic regression where `VI` was as good, that took
    0.6 seconds and a twenty-fifth of the gradients, and the flow 37 seconds.

    Source: Fan, Zhang, Taghvaei and Chen, Variational Wasserstein gradient flow, ICML 2022.
    """

    n_maps: int = eqx.field(static=True, default=10)
    updates: int = eqx.field(static=True, default=400)
    step_size: Scalar = eqx.field(converter=positive("step_size", 10.0), default=10.0)
    whitened: bool = eqx.field(static=True, default=True)
    n_samples: int = eqx.field(static=True, default=512)
    n_pool: int = eqx.field(static=True, default=20_000)
    ratio_steps: int = eqx.field(static=True, default=3)
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.adam, learning_rate=5e-3)
    )
    ratio_optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.adam, learning_rate=5e-3)
    )
    init_scale: Scalar = eqx.field(converter=positive("init_scale", 1.0), default=1.0)
    start: AbstractDistribution | None = None
    stopping: AbstractStopping | None = eqx.field(
        static=True, default=LossSettled(minimum=2000, every=400)
    )
    exact_target: ClassVar[bool] = False
    particles: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    default_steps: ClassVar[int] = 4_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        name = type(self).__name__
        for count, example in (("n_maps", 10), ("updates", 400), ("ratio_steps", 3)):
            check_count(name, count, getattr(self, count), example)
        for count, example in (("width", 64), ("depth", 2)):
            check_count(name, count, getattr(self, count), example)
        check_count(name, "n_samples", self.n_samples, 512, least=2)
        check_count(name, "n_pool", self.n_pool, 20_000, least=self.n_samples)
        check_optimizer(self.optimizer, name)
        check_optimizer(self.ratio_optimizer, name)
        if not isinstance(self.whitened, bool):
            raise TypeError(f"{name} needs whitened=True or False, got {self.whitened!r}.")
        if self.start is not None and not isinstance(self.start, AbstractDistribution):
            raise TypeError(
                f"{name} needs start= as a fitted distribution, got {self.start!r}; write "
                f"{name}(start=infer.fit(target, infer.VI(), key=0).posterior)."
            )

    def init(self, key: PRNGKey, target: Target) -> _State:
        """P_0, a pool of its draws, and a first map that moves nothing yet."""
        key_start, key_pool, key_map, key_ratio = jax.random.split(key, 4)
        if self.n_samples < 4 * target.dim:
            raise ValueError(
                f"WassersteinFlow(n_samples={self.n_samples}) cannot show the covariance of "
                f"{target.dim} coordinates; take at least four per coordinate, "
                f"`WassersteinFlow(n_samples={4 * target.dim})`."
            )
        base = self._base(key_start, target)
        pool = base.sample(key_pool, self.n_pool)
        current = identity_map(key_map, frame_of(pool), self.width, self.depth)
        d = target.dim
        blank = jax.tree.map(jnp.zeros_like, current)
        blank = eqx.tree_at(lambda m: m.frame.factor, blank, jnp.eye(d, dtype=pool.dtype))
        maps = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], self.n_maps, axis=0), blank)
        log_h = perceptron(key_ratio, d, 1, self.width, self.depth)
        return _State(
            base,
            maps,
            current,
            log_h,
            pool,
            first_state(self.optimizer, _trained(current)),
            first_state(self.ratio_optimizer, log_h),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """One update: `ratio_steps` steps on log h, then one on the map."""
        key_new, key_ratio, key_map = jax.random.split(key, 3)
        due = (state.updates >= self.updates) & (state.finished < self.n_maps - 1)
        # A loop of at most one turn, where under `vmap` a `cond` would move the pool every time.
        _, state = jax.lax.while_loop(
            lambda carry: carry[0],
            lambda carry: (jnp.zeros_like(carry[0]), self._next_map(key_new, carry[1])),
            (due, state),
        )
        state, negentropy = self._climb(key_ratio, state)
        return self._descend(key_map, target, state, negentropy)

    def posterior(self, state: _State) -> Pushforward:
        """Fresh draws of P_0, through all maps."""
        return Pushforward(state.base, _with_current(state))

    def _base(self, key: PRNGKey, target: Target) -> AbstractDistribution:
        """P_0, of the target's dimension and precision."""
        dtype = jnp.zeros(()).dtype
        if self.start is None:
            center = target.initial(key)
            return DiagonalGaussian(center, jnp.log(self.init_scale) + jnp.zeros_like(center))
        size = self.start.sample(key, 1).shape[1]
        if size != target.dim:
            raise ValueError(
                f"WassersteinFlow got start= on R^{size}, and the target has {target.dim} "
                "unconstrained coordinates; give it a fit of this target."
            )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.start)

    def _next_map(self, key: PRNGKey, state: _State) -> _State:
        """Freeze the map in training, move the pool by it, and begin another."""
        pool = state.current(state.pool)
        current = identity_map(key, frame_of(pool), self.width, self.depth)
        return dataclasses.replace(
            state,
            maps=_with_current(state),
            current=current,
            pool=pool,
            map_optimizer=first_state(self.optimizer, _trained(current)),
            finished=state.finished + 1,
            updates=jnp.zeros_like(state.updates),
        )

    def _batch(self, key: PRNGKey, state: _State) -> Points:
        return state.pool[jax.random.randint(key, (self.n_samples,), 0, self.n_pool)]

    def _climb(self, key: PRNGKey, state: _State) -> tuple[_State, Scalar]:
        """Steps on log h up E_P[log h] - E_mu[h] + 1; the mean of its values."""

        def one(carry: tuple[Any, Any], key: PRNGKey) -> tuple[tuple[Any, Any], Scalar]:
            log_h, optimizer = carry
            key_batch, key_noise = jax.random.split(key)
            y = state.current(self._batch(key_batch, state))
            frame = frame_of(y)
            u = frame.units(y - frame.mean)
            noise = jax.random.normal(key_noise, u.shape, u.dtype)

            def fall(log_h: Perceptron) -> Scalar:
                inside, outside = jax.vmap(log_h)(u), jax.vmap(log_h)(noise)
                return jnp.mean(jnp.exp(outside)) - jnp.mean(inside) - 1

            value, gradient = jax.value_and_grad(fall)(log_h)
            updates, optimizer = advance(self.ratio_optimizer, gradient, optimizer, log_h, {})
            return (jax.tree.map(jnp.add, log_h, updates), optimizer), -value

        keys = jax.random.split(key, self.ratio_steps)
        first = (state.log_h, state.ratio_optimizer)
        (log_h, optimizer), values = jax.lax.scan(one, first, keys)
        state = dataclasses.replace(state, log_h=log_h, ratio_optimizer=optimizer)
        return state, jnp.mean(values)

    def _descend(
        self, key: PRNGKey, target: Target, state: _State, negentropy: Scalar
    ) -> tuple[_State, Info]:
        """A step on the map down its distance and the divergence of what it makes."""
        x = self._batch(key, state)

        def cost(trained: Any) -> tuple[Scalar, tuple[Scalar, Scalar]]:
            current = ResidualMap(state.current.frame, *trained)
            y = current(x)
            moves = current.frame.units(y - x) if self.whitened else y - x
            moved = jnp.mean(jnp.sum(moves**2, axis=1)) / 2
            # By the envelope theorem mu and h are constants here.
            frame: Frame = jax.lax.stop_gradient(frame_of(y))
            u = frame.units(y - frame.mean)
            d = x.shape[1]
            log_mu = -0.5 * jnp.mean(jnp.sum(u**2, axis=1)) - frame.log_scale() - 0.5 * d * LOG_2PI
            log_h = jnp.mean(jax.vmap(state.log_h)(u))
            log_p = jnp.mean(jax.vmap(target.log_prob)(y))
            return moved / self.step_size + log_h + log_mu - log_p, (moved, log_mu - log_p)

        trained = _trained(state.current)
        (_, (moved, gaussian)), gradient = jax.value_and_grad(cost, has_aux=True)(trained)
        updates, optimizer = advance(self.optimizer, gradient, state.map_optimizer, trained, {})
        # The steps fall to zero within each map: what noise is left would be there for good.
        left = 1 - (state.updates % self.updates) / self.updates
        trained = jax.tree.map(lambda a, b: a + left.astype(b.dtype) * b, trained, updates)
        after = dataclasses.replace(
            state,
            current=ResidualMap(state.current.frame, *trained),
            map_optimizer=optimizer,
            updates=state.updates + 1,
        )
        stats = {"moved": moved, "negentropy": negentropy, "map": state.finished}
        return after, Info(gaussian + negentropy, jnp.asarray(self.n_samples), stats)


def _trained(current: ResidualMap) -> tuple[eqx.nn.Linear, Perceptron]:
    """What the optimizer moves."""
    return current.affine, current.bend


def _with_current(state: _State) -> ResidualMap:
    """All maps, the one in training in its place."""
    return jax.tree.map(
        lambda all_of, one: all_of.at[state.finished].set(one), state.maps, state.current
    )
