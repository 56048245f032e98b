"""A search for modes that a fit has missed, and a check of the weights of those it has."""

import jax
import numpy as np
from jaxtyping import Array

from infer.core.evidence import Evidence, Status
from infer.core.target import Target
from infer.diagnostics.chains import ess_mean
from infer.diagnostics.coordinates import bonferroni
from infer.diagnostics.pareto import KHAT
from infer.diagnostics.score import whiten
from infer.external.walkers import Walkers
from infer.modes import Masses, Mode, climb, nearest, weigh

SEARCHERS = 64
PER_LEVEL = 10  # steps at each temperature
CHANGE, FACTOR = 2.0, 4.0  # a rung changes log densities by 2 nats (sd), temperature by 4 at most
LOWEST, FAR = 1e-4, 100.0  # where heating ends: inverse temperature, sds of the fit
MOST_DRAWS = 4000


def mode_search(
    target: Target, key: Array, z: np.ndarray, chains: bool
) -> tuple[tuple[Evidence, Evidence], int]:
    """Heat, cool, climb, and compare the mass around each mode with the share of draws there.

    Args:
        target: the density, of all rows.
        key: a PRNG key.
        z: draws of the fit (chains, n, d).
        chains: are they Markov chains?

    Returns:
        The evidence on missed modes and on the weights of the others, and the gradients spent.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    z = np.asarray(z, np.float64)[:, :: -(-z.shape[0] * z.shape[1] // MOST_DRAWS)]
    flat = z.reshape(-1, target.dim)
    center, root = flat.mean(axis=0), whiten(flat)[0]
    factor = np.linalg.cholesky(root @ root.T)
    begin = flat[rng.choice(len(flat), SEARCHERS, replace=len(flat) < SEARCHERS)]
    walkers = Walkers(target, key, begin, center, factor)
    lowest = excursion(walkers)[-1]
    ends = walkers.unwhiten(np.asarray(walkers.x))
    modes, spent = climb(target, np.concatenate([begin, ends]), center, factor)
    how = f"a walk of {SEARCHERS} draws heated to {lowest:.2g} of the log density and cooled again"
    if not modes:
        found = _no_mode(how)
    else:
        masses = weigh(target, modes, rng)
        inside = nearest(modes, flat)[:, None] == np.arange(len(modes))
        share, error = _shares(inside.reshape(*z.shape[:2], -1), chains)
        found = (
            _missed(masses, share == 0, modes, target, how),
            _weights(masses, share, error, modes, target),
        )
    return found, walkers.gradients + spent


def excursion(walkers: Walkers) -> list[float]:
    """Heat the walkers by bounded steps until they are far from the fit, and cool them again.

    The rung after inverse temperature b is b - 2 / sd, where sd is the standard deviation of the
    log density among the walkers at b, and b / 4 at least. Returns all b on the way down.
    """
    rungs = [1.0]
    while True:
        trace = walkers.go(PER_LEVEL, rungs[-1])[:, PER_LEVEL // 2 :]
        spread = np.sqrt(np.mean(trace**2))
        values = walkers.log_prob[:, PER_LEVEL // 2 :]
        sd = float(np.std(values[np.isfinite(values)]))
        if rungs[-1] <= LOWEST or not spread < FAR or not np.isfinite(sd):
            break
        rungs.append(max(rungs[-1] - CHANGE / max(sd, 1e-6), rungs[-1] / FACTOR, LOWEST))
    for rung in rungs[-2::-1]:
        walkers.go(PER_LEVEL, rung)
    return rungs


def _shares(inside: np.ndarray, chains: bool) -> tuple[np.ndarray, np.ndarray]:
    """Share of the draws in each mode, and its standard error; `inside` is (chains, n, modes)."""
    n = inside.shape[0] * inside.shape[1]
    share = inside.mean(axis=(0, 1))
    ess = np.full(len(share), float(n))
    for k in np.flatnonzero((share > 0) & (share < 1) & chains):
        ess[k] = np.nan_to_num(min(float(ess_mean(inside[..., k].astype(float))), n), nan=1.0)
    smooth = (share * n + 1) / (n + 2)
    return share, np.sqrt(smooth * (1 - smooth) / ess)


def _no_mode(how: str) -> tuple[Evidence, Evidence]:
    meaning = f"not measured: neither the draws nor {how} lead up to a mode"
    weights = "not measured: no mode was found"
    return (
        Evidence("mode search", np.nan, "mass missed <= 2 %", "info", meaning),
        Evidence("mode weights", np.nan, "off by <= 5 %", "info", weights),
    )


def _missed(
    masses: Masses, unseen: np.ndarray, modes: list[Mode], target: Target, how: str
) -> Evidence:
    name, threshold = "mode search", "mass missed <= 2 %"
    share = float(masses.share[unseen].sum())
    if not share > 0.02:
        meaning = f"{how} found no mode without draws that has more than 2 % of the mass"
        return Evidence(name, share, threshold, "ok", meaning)
    best = int(np.argmax(np.where(unseen, masses.share, -1)))
    where = f"{unseen.sum()} mode(s) without draws, one near {_place(modes[best], target)}"
    advice = "infer.ParallelTempering() weighs modes; init= starts there"
    if not masses.khat <= KHAT:
        meaning = f"cannot tell whether much mass is missed: {how} found {where}, but the weights "
        meaning += f"that should measure the mass have k-hat {masses.khat:.2g}; {advice}"
        return Evidence(name, np.nan, threshold, "suspect", meaning)
    meaning = f"mode missed: about {share:.0%} of the mass lies in {where}; {advice}"
    status: Status = "failed" if share > 0.1 else "suspect"
    return Evidence(name, share, threshold, status, meaning)


def _weights(
    masses: Masses, share: np.ndarray, error: np.ndarray, modes: list[Mode], target: Target
) -> Evidence:
    name, threshold = "mode weights", "off by <= 5 % or by chance ok, > 20 % failed"
    seen = share > 0
    if seen.sum() == 1:
        return Evidence(name, 0.0, threshold, "info", "the draws are around one mode")
    if not masses.khat <= KHAT:
        meaning = f"cannot tell whether the shares of {seen.sum()} modes are right: the weights "
        meaning += f"that should measure their masses have k-hat {masses.khat:.2g}"
        return Evidence(name, np.nan, threshold, "info", meaning)
    total = masses.share[seen].sum()  # a missed mode is told elsewhere
    mass, mass_error = masses.share[seen] / total, masses.error[seen] / total
    off = np.abs(share[seen] - mass)
    limit = bonferroni(len(off)) * np.hypot(error[seen], mass_error)
    beyond = np.where(off > limit, off, 0.0)
    worst = int(np.argmax(np.where(beyond.any(), beyond, off)))
    mode = modes[int(np.flatnonzero(seen)[worst])]
    meaning = f"around {len(off)} modes: {share[seen][worst]:.0%} of the draws and "
    meaning += f"{mass[worst]:.0%} of the mass (+/- {limit[worst]:.0%} by chance) are near "
    meaning += _place(mode, target)
    status: Status = "ok"
    if beyond[worst] > 0.05:
        status = "failed" if beyond[worst] > 0.2 else "suspect"
        meaning += "; means and probabilities over all modes are wrong, those of each are not. "
        meaning += "infer.ParallelTempering() crosses between modes"
    return Evidence(name, float(off[worst]), threshold, status, meaning)


def _place(mode: Mode, target: Target) -> str:
    names = target.coordinate_names()
    where = ", ".join(f"{n} = {v:.3g}" for n, v in zip(names[:4], mode.z[:4], strict=False))
    return f"{where} (unconstrained)"
