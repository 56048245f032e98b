"""Adaptive tempered sequential Monte Carlo, on BlackJAX's kernel."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, fraction, positive
from infer.core.evidence import Evidence
from infer.core.outcome import Ending
from infer.core.posterior import AbstractDistribution, Particles
from infer.core.stopping import AbstractStopping, Record
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.external.adapter import require_blackjax
from infer.families.reference import check_reference, check_reference_fits, reference_of
from infer.references.citation import cites
from infer.references.mcmc import DEL_MORAL_2006
from infer.references.software import BLACKJAX

ACCEPTANCE = 0.8  # of the trajectories, aimed at
GAIN = 1.5  # in the log of the step size, per unit of acceptance


@dataclasses.dataclass(frozen=True)
class FullyTempered(AbstractStopping):
    """Stop when the particles have been moved at inverse temperature one."""

    every: int = 1

    def look(self, record: Record, thin: int) -> Ending | None:
        """Converged, once they have."""
        return Ending.CONVERGED if record["stats/inverse_temperature"][-1] >= 1 else None

    def evidence(self, record: Record) -> Evidence:
        """Whether the temperature was reached, and the log evidence."""
        if not len(record.get("loss", ())):
            return Evidence("tempering", 0.0, "1", "failed", "stopped before the first step")
        reached, n = float(record["stats/inverse_temperature"][-1]), len(record["loss"])
        if self.look(record, 1) is None:
            return Evidence("tempering", reached, "1", "failed", self.hint(record))
        log_z = float(record["stats/log_evidence"][-1])
        meaning = f"tempered in {n} steps; the log evidence is {log_z:.4g} by this run alone"
        return Evidence("tempering", reached, "1", "ok", meaning)

    def hint(self, record: Record) -> str:
        """A better reference, where the temperature was not reached."""
        if not len(record.get("loss", ())) or self.look(record, 1) is not None:
            return ""
        reached = float(record["stats/inverse_temperature"][-1])
        return (
            f"the particles came to inverse temperature {reached:.3g} of 1: more steps, or a "
            "reference= nearer to the posterior"
        )


class SMCState(eqx.Module):
    """Particles and their weights for the next temperature, and what is learned on the way."""

    particles: Points
    weights: Float[Array, " n"]
    inverse_temperature: Scalar
    log_evidence: Scalar
    log_step: Scalar


@cites(DEL_MORAL_2006, BLACKJAX)
class TemperedSMC(AbstractApproximator):
    """Sequential Monte Carlo along a bridge from a Gaussian to the posterior; gives the evidence.

        log p_b(z) = (1 - b) log q0(z) + b log p(z),      0 = b_0 < b_1 < ... < 1

    At each b the particles are resampled by their weights, moved by HMC that leaves p_b in place,
    and weighted by (p / q0)^(b' - b) for the next b', the one that leaves an effective sample size
    of `ess`. Modes get the shares that weights give them, not those of where particles started. The
    product of the mean weights estimates the evidence, the integral of p over R^d: the marginal
    likelihood, where no constants were left out. It is `result.history["log_evidence"][:, -1]`;
    with `chains=4` there are four of them, whose spread is their error.

    Cost per temperature: n_particles * moves * (n_leapfrog + 1) gradients; O(n_particles d) memory.

    Args:
        n_particles: how many, >= 2. The posterior draws are these.
        reference: q0, a distribution on the unconstrained scale that reaches wherever the posterior
            does, as the posterior of a variational fit; None for N(0, scale^2 I).
        scale: > 0, of that one.
        ess: the share of particles that the weights between temperatures leave, in (0, 1). On two
            modes in d = 4, 0.95 took twice the temperatures of 0.8 and halved the errors.
        moves: HMC transitions per temperature, >= 1.
        n_leapfrog: leapfrog steps of each, >= 1. Their step size is tuned between temperatures to
            an acceptance of 0.8, their mass matrix is the variances of the particles.
        step_size: the first step size, > 0, in units of the standard deviations.

    Limits: a mode that no particle meets while the bridge is wide is lost, without a sign. The
    adaptive choice of b makes the evidence slightly biased. Needs more temperatures the farther
    the posterior is from q0: about sqrt(d) times the log of the ratio of their widths.

    Source: Del Moral, Doucet and Jasra, JRSS B 68(3), 2006; the kernel is BlackJAX's.
    """

    n_particles: int = eqx.field(static=True, default=1000)
    reference: AbstractDistribution | None = None
    scale: Scalar = eqx.field(converter=positive("scale", 3.0), default=3.0)
    ess: Scalar = eqx.field(converter=fraction("ess", 0.95), default=0.95)
    moves: int = eqx.field(static=True, default=3)
    n_leapfrog: int = eqx.field(static=True, default=8)
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.3), default=0.3)
    stopping: ClassVar[FullyTempered] = FullyTempered()
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = True
    weighs_modes: ClassVar[bool] = True
    default_steps: ClassVar[int] = 200

    def __check_init__(self) -> None:
        """Say what to install; refuse what could only fail later."""
        require_blackjax("TemperedSMC")
        check_count("TemperedSMC", "n_particles", self.n_particles, 1000, least=2)
        check_count("TemperedSMC", "moves", self.moves, 3)
        check_count("TemperedSMC", "n_leapfrog", self.n_leapfrog, 8)
        check_reference("TemperedSMC", self.reference)

    def init(self, key: PRNGKey, target: Target) -> SMCState:
        """Draws of the reference."""
        check_reference_fits("TemperedSMC", self.reference, target)
        like = jnp.zeros(target.dim)
        x = reference_of(self.reference, self.scale, like).sample(key, self.n_particles)
        zero, one = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
        weights = jnp.full(self.n_particles, one / self.n_particles)
        return SMCState(x, weights, zero, zero, jnp.log(self.step_size).astype(x.dtype))

    def step(self, key: PRNGKey, target: Target, state: SMCState) -> tuple[SMCState, Info]:
        """Resample, move at this temperature, weigh for the next one."""
        from blackjax.mcmc import hmc
        from blackjax.smc import ess, resampling, solver, tempered

        x, b = state.particles, state.inverse_temperature
        q0 = reference_of(self.reference, self.scale, x[0])

        def log_ratio(z: Vector) -> Scalar:
            """Log p / q0, finite: a weight of 0 to the power 0 is 1."""
            value = target.log_prob(z) - q0.log_prob(z)
            least = jnp.finfo(z.dtype).min / 1e6
            return jnp.maximum(jnp.where(jnp.isnan(value), least, value), least)

        gap = ess.ess_solver(
            jax.vmap(log_ratio), x, self.ess.astype(x.dtype), 1 - b, solver.dichotomy
        )
        after = b + jnp.clip(gap, 0, 1 - b)
        mean = state.weights @ x
        variance = state.weights @ (x - mean) ** 2
        kernel: Any = tempered.build_kernel(
            q0.log_prob, log_ratio, hmc.build_kernel(), hmc.init, resampling.systematic
        )
        tuned = {
            "step_size": jnp.exp(state.log_step)[None],
            "inverse_mass_matrix": jnp.maximum(variance, jnp.finfo(x.dtype).tiny)[None],
            "num_integration_steps": jnp.full(1, self.n_leapfrog),
        }
        before = tempered.TemperedSMCState(x, state.weights, b)
        new, info = kernel(key, before, self.moves, after, tuned)
        rate = jnp.mean(info.update_info.acceptance_rate)
        log_evidence = state.log_evidence + info.log_likelihood_increment
        log_step = state.log_step + GAIN * (rate - ACCEPTANCE)
        log_prob = jax.vmap(target.log_prob)(new.particles)
        inside = jnp.isfinite(log_prob)
        loss = -jnp.sum(jnp.where(inside, log_prob, 0)) / jnp.sum(inside)
        stats = {
            "inverse_temperature": b,
            "log_evidence": state.log_evidence,
            "acceptance_rate": rate,
            "step_size": jnp.exp(state.log_step),
            "ancestors": jnp.mean(jnp.bincount(info.ancestors, length=len(x)) > 0),
        }
        gradients = jnp.asarray(len(x) * self.moves * (self.n_leapfrog + 1))
        moved = SMCState(new.particles, new.weights, after, log_evidence, log_step)
        return moved, Info(loss, gradients, stats)

    def posterior(self, state: SMCState) -> Particles:
        """The particles, equally weighted: right once they were moved at inverse temperature 1."""
        return Particles(state.particles)
