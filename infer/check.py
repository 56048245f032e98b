"""A checklist for a target before it is fitted, and the reason why no start was found."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.keys import as_key
from infer.core.target import START_RADIUS, START_TRIES, Target
from infer.core.types import Flag, Points, PRNGKey, Scalar, Values, Vector

MOST_BATCHES = 2000  # a partition into more batches than this is sampled instead
SAMPLED_BATCHES = 1000


@dataclasses.dataclass(frozen=True)
class CheckLine:
    """One line of the checklist.

    Attributes:
        name: what was looked at.
        ok: True, False, or None where it could not be looked at.
        message: what was found, with the site at fault.
    """

    name: str
    ok: bool | None
    message: str


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The checklist of a target; `ok` if nothing on it failed."""

    lines: tuple[CheckLine, ...]

    @property
    def ok(self) -> bool:
        """Did no line fail?"""
        return all(line.ok is not False for line in self.lines)

    def __getitem__(self, name: str) -> CheckLine:
        """The first line of this name."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no line named {name!r}; there is {[line.name for line in self.lines]}")

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        """The checklist as text."""
        marks = {True: "ok    ", False: "FAILED", None: "-     "}
        return "\n".join(f"{marks[line.ok]}  {line.name}: {line.message}" for line in self.lines)


class Look(eqx.Module):
    """Everything that is evaluated at one point."""

    value: Scalar
    score: Vector
    terms: Values
    back: Vector
    pointwise: Values


@eqx.filter_jit
def _look(target: Target, z: Vector) -> Look:
    value, score = target.value_and_score(z)
    back = target.ravel(target.model.unconstrain(target.model.constrain(target.unravel(z))))
    return Look(value, score, target.log_terms(z), back, target.log_likelihood(z))


@eqx.filter_jit
def _search(target: Target, key: PRNGKey) -> tuple[Vector, Flag]:
    return target.search_start(key)


@eqx.filter_jit
def _values(target: Target, points: Points) -> Array:
    return jax.lax.map(target.log_prob, points)


@eqx.filter_jit
def _batch_values(target: Target, indices: Array, z: Vector) -> Array:
    """Log density on each of these minibatches, (batches,)."""

    def one(chosen: Array) -> Scalar:
        model = target.model.take(chosen)
        return dataclasses.replace(target, model=model, minibatch=True).log_prob(z)

    return jax.lax.map(one, indices)


def check(target: Target, *, key: int | PRNGKey, show: bool = True) -> CheckReport:
    """Look at a target from all sides at one random point, and print what was found.

    Shapes and supports, data, a starting point, density and gradient, the map to the supports and
    back, the gradient against central differences, whether the density depends on every parameter,
    the pointwise likelihood against the density, and whether minibatches average to the density on
    all rows. Costs some dozen evaluations of the density, for minibatches up to 2000 more. One
    point is looked at, two for the dependence: a density that is wrong elsewhere, or a model that
    is not what you meant, is not found.

    Args:
        target: what `from_numpyro` or `from_log_density` returned.
        key: an int or a JAX key.
        show: print the checklist.

    Returns:
        A `CheckReport`: `ok`, and what was found, line by line.
    """
    key = as_key(key)
    full = target.full()
    lines = [*_site_lines(target), _data_line(target)]
    z, found = _search(full, key)
    look = _look(full, z)
    if not bool(found):
        lines.append(CheckLine("starting point", False, explain_start(full, z)))
        lines.append(_round_trip_line(full, z, look))
    else:
        lines.append(CheckLine("starting point", True, "found: density and gradient are finite"))
        terms = ", ".join(f"{name} {float(v):.6g}" for name, v in look.terms.items())
        lines.append(CheckLine("log density", True, f"{float(look.value):.6g} = sum of {terms}"))
        lines.append(_round_trip_line(full, z, look))
        lines.append(_gradient_line(full, z, look, jax.random.fold_in(key, 1)))
        lines.append(_dependence_line(full, look, jax.random.fold_in(key, 3)))
        lines.append(_pointwise_line(look))
        lines.append(_minibatch_line(target, z, look, jax.random.fold_in(key, 2)))
    report = CheckReport(tuple(lines))
    if show:
        _print(report)
    return report


def explain_start(target: Target, z: Vector) -> str:
    """Why the target cannot be started at z: terms, sites and data that are not finite."""
    look = _look(target, jnp.asarray(z))
    found = _data_faults(target)
    found += [
        f"the term of {name!r} is {float(value)}"
        for name, value in look.terms.items()
        if not math.isfinite(float(value))
    ]
    free, slopes = target.unravel(jnp.asarray(z)), target.unravel(look.score)
    values = _constrained(target, free)
    for name, slope in slopes.items():
        if not bool(jnp.all(jnp.isfinite(slope))):
            count = int(jnp.sum(~jnp.isfinite(slope)))
            point = np.array2string(np.asarray(values[name]), precision=4, threshold=6)
            found.append(
                f"the gradient of site {name!r} is not finite in {count} of {slope.size} "
                f"coordinates (the site is {point})"
            )
    if not found:
        return "No starting point was accepted, but density and gradient are finite at this one."
    return (
        "No starting point: the log density or its gradient is not finite. At the point tried "
        f"last {'; '.join(found)}. Usual causes: NaN in the data, observations outside the support "
        "of their distribution, a parameter without its support, a scale that underflows. If only "
        "the starting points are bad (uniform on "
        f"({-START_RADIUS:g}, {START_RADIUS:g}) per unconstrained coordinate, {START_TRIES} "
        "tries), give one: `init={name: value}`."
    )


@eqx.filter_jit
def _constrained(target: Target, free: Values) -> Values:
    return target.model.constrain(free)


def _site_lines(target: Target) -> list[CheckLine]:
    return [
        CheckLine(
            f"site {site.name}",
            True,
            f"shape {site.shape}, {site.support}, {math.prod(site.free_shape)} coordinates",
        )
        for site in target.sites
    ]


def _data_faults(target: Target) -> list[str]:
    found = []
    for name, leaf in (target.model.constant() | target.model.observed()).items():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        nans, wrong = int(jnp.sum(jnp.isnan(leaf))), int(jnp.sum(~jnp.isfinite(leaf)))
        if wrong:
            found.append(
                f"data {name!r} has {nans} NaN and {wrong - nans} infinite among {leaf.size}"
            )
    return found


def _data_line(target: Target) -> CheckLine:
    arrays = target.model.constant() | target.model.observed()
    faults = _data_faults(target)
    if faults:
        return CheckLine("data", False, "; ".join(faults))
    shapes = ", ".join(f"{name} {leaf.shape}" for name, leaf in arrays.items())
    return CheckLine("data", True, f"finite: {shapes}" if shapes else "none given as arguments")


def _worst_site(target: Target, error: Vector) -> tuple[str, float]:
    sizes = {name: float(jnp.max(e, initial=0.0)) for name, e in target.unravel(error).items()}
    worst = max(sizes, key=lambda name: math.inf if math.isnan(sizes[name]) else sizes[name])
    return worst, sizes[worst]


def _round_trip_line(target: Target, z: Vector, look: Look) -> CheckLine:
    eps = float(jnp.finfo(z.dtype).eps)
    name, error = _worst_site(target, jnp.abs(look.back - z))
    ok = error < 1e4 * eps
    text = f"z -> supports -> z returns within {error:.1e}"
    return CheckLine("supports", ok, text + ("" if ok else f", worst in site {name!r}"))


def _gradient_line(target: Target, z: Vector, look: Look, key: PRNGKey) -> CheckLine:
    """Central differences along one random direction per site, at two steps."""
    eps = float(jnp.finfo(z.dtype).eps)
    step = eps ** (1 / 3)
    directions = []
    for i, site in enumerate(target.sites):
        only = {s.name: jnp.zeros(s.free_shape, z.dtype) for s in target.sites}
        draw = jax.random.normal(jax.random.fold_in(key, i), site.free_shape, z.dtype)
        only[site.name] = draw / jnp.maximum(jnp.sqrt(jnp.sum(draw**2)), eps)
        directions.append(target.ravel(only))
    v = jnp.stack(directions)
    shifts = (1.0, -1.0, 2.0, -2.0)
    f = _values(target, jnp.concatenate([z + s * step * v for s in shifts]))
    values = np.asarray(f, np.float64).reshape(4, -1)
    near, far = (values[0] - values[1]) / (2 * step), (values[2] - values[3]) / (4 * step)
    exact = np.asarray(v @ look.score, np.float64)
    # what truncation (the two steps differ by three times it) and rounding can explain
    noise = 20 * eps * np.abs(values).max(axis=0) / step
    allowed = np.abs(near - far) + noise + 30 * step**2 * (1 + np.abs(exact))
    bad = [
        f"site {site.name!r}: gradient {e:.6g}, differences {n:.6g}"
        for site, e, n, a in zip(target.sites, exact, near, allowed, strict=True)
        if not abs(e - n) <= a
    ]
    if bad:
        return CheckLine("gradient", False, "; ".join(bad))
    return CheckLine("gradient", True, "finite, and equal to central differences in every site")


def _dependence_line(target: Target, look: Look, key: PRNGKey) -> CheckLine:
    """Coordinates along which the density is level here and at another point."""
    other = _look(target, _search(target, key)[0])
    level = target.unravel(((look.score == 0) & (other.score == 0)).astype(look.score.dtype))
    counts = {name: int(jnp.sum(flags)) for name, flags in level.items()}
    flat = [f"{n} of {level[name].size} of {name!r}" for name, n in counts.items() if n]
    if flat:
        text = (
            f"the density does not depend on {', '.join(flat)}: nothing bounds these coordinates; "
            "give each a prior, or leave out what the model does not use"
        )
        return CheckLine("dependence", False, text)
    return CheckLine("dependence", True, "the density depends on every coordinate")


def _pointwise_line(look: Look) -> CheckLine:
    if not look.pointwise:
        return CheckLine(
            "pointwise likelihood",
            None,
            "nothing is observed, or the density is not split into rows",
        )
    bad = []
    for name, values in look.pointwise.items():
        total, term = float(jnp.sum(values)), float(look.terms[name])
        eps = float(jnp.finfo(values.dtype).eps)
        if not abs(total - term) <= 1e3 * eps * (1 + float(jnp.sum(jnp.abs(values)))):
            bad.append(f"{name!r} sums to {total:.6g}, its term in the density is {term:.6g}")
    if bad:
        text = "; ".join(bad) + ": the density scales it, or adds to it"
        return CheckLine("pointwise likelihood", False, text)
    return CheckLine("pointwise likelihood", True, f"sums to its term: {list(look.pointwise)}")


def _batches(n: int, b: int, key: PRNGKey) -> tuple[Array, bool]:
    """Minibatches in which every row occurs equally often, or random ones; and which."""
    count = math.lcm(n, b) // b
    if count > MOST_BATCHES:
        return jax.random.randint(key, (SAMPLED_BATCHES, b), 0, n), False
    order = jax.random.permutation(key, n)
    return order[jnp.arange(count * b) % n].reshape(count, b), True


def _minibatch_line(target: Target, z: Vector, look: Look, key: PRNGKey) -> CheckLine:
    if target.batch_size is None or target.size is None:
        return CheckLine("minibatches", None, "every evaluation uses all rows")
    indices, exhaustive = _batches(target.size, target.batch_size, key)
    values = np.asarray(_batch_values(target, indices, z), np.float64)
    mean, exact = float(values.mean()), float(look.value)
    eps = float(jnp.finfo(z.dtype).eps)
    rounding = 100 * eps * math.sqrt(target.size) * (1 + float(np.abs(values).max()))
    allowed = rounding
    if not exhaustive:
        allowed += 5 * float(values.std(ddof=1)) / math.sqrt(len(values))
    kind = "a partition into" if exhaustive else "random"
    text = f"mean of {kind} {len(values)} batches {mean:.6g}, all rows {exact:.6g}"
    if abs(mean - exact) <= allowed:
        return CheckLine("minibatches", True, f"unbiased: {text}")
    why = "the model mixes rows, or takes its number of rows from somewhere else"
    return CheckLine("minibatches", False, f"biased: {text}; {why}")


def _print(report: CheckReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    words: dict[bool | None, tuple[str, str]] = {
        True: ("ok", "green"),
        False: ("failed", "bold red"),
        None: ("-", "dim"),
    }
    table = Table(show_edge=False, pad_edge=False, show_header=False)
    for line in report.lines:
        word, style = words[line.ok]
        table.add_row(Text(word, style), Text(line.name), Text(line.message))
    Console().print(table)
