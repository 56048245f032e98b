"""Posteriors of posteriordb as NumPyro models, and their reference draws.

The database itself is not part of this project: every function takes the path of its folder. Sites
are named as in its Stan programs, whose indices start at 1: `beta[2]` there is `beta[1]` here.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from infer.bridges.numpyro import from_numpyro
from infer.core.target import Target
from infer.scoreboard import inputs, programs

Draws = Mapping[str, np.ndarray]


class Posterior(NamedTuple):
    """A model, and what makes its arguments from the data."""

    model: Callable
    arguments: Callable[[inputs.Data], tuple]


_SCHOOLS = inputs.arrays("sigma", "y")
_LOG_EARN, _HEIGHT, _MALE = inputs.log("earn"), inputs.value("height"), inputs.value("male")
_SCORE, _HS, _IQ = (inputs.value(name) for name in ("kid_score", "mom_hs", "mom_iq"))
_WEIGHT, _GROUP = inputs.log("weight"), inputs.value("group")
_VOLUME, _AREA = inputs.log("diam1", "diam2", "canopy_height"), inputs.log("diam1", "diam2")
_SHAPE = inputs.minus(inputs.log("diam1"), inputs.log("diam2"))
_SIZES = ("diam1", "diam2", "canopy_height", "total_height", "density")
_ELECTION = inputs.linear(
    inputs.value("partyid7"),
    inputs.value("real_ideo"),
    inputs.value("race_adj"),
    *(inputs.equal("age_discrete", group) for group in (2, 3, 4)),
    *(inputs.value(name) for name in ("educ1", "gender", "income")),
)


def _interaction(y: inputs.Column, first: inputs.Column, second: inputs.Column) -> Callable:
    return inputs.linear(y, first, second, inputs.times(first, second))


# Linear regressions with flat priors, those of the sd included.
FLAT = {
    "earnings-earn_height": inputs.linear(inputs.value("earn"), _HEIGHT),
    "earnings-log10earn_height": inputs.linear(inputs.log10("earn"), _HEIGHT),
    "earnings-logearn_height": inputs.linear(_LOG_EARN, _HEIGHT),
    "earnings-logearn_height_male": inputs.linear(_LOG_EARN, _HEIGHT, _MALE),
    "earnings-logearn_interaction": _interaction(_LOG_EARN, _HEIGHT, _MALE),
    "earnings-logearn_interaction_z": _interaction(_LOG_EARN, inputs.in_sds(_HEIGHT), _MALE),
    "earnings-logearn_logheight_male": inputs.linear(_LOG_EARN, inputs.log("height"), _MALE),
    "kidiq_with_mom_work-kidscore_interaction_c": _interaction(
        _SCORE, inputs.from_mean(_HS), inputs.from_mean(_IQ)
    ),
    "kidiq_with_mom_work-kidscore_interaction_c2": _interaction(
        _SCORE, inputs.shifted(_HS, 0.5), inputs.shifted(_IQ, 100.0)
    ),
    "kidiq_with_mom_work-kidscore_interaction_z": _interaction(
        _SCORE, inputs.in_sds(_HS, 2), inputs.in_sds(_IQ, 2)
    ),
    "kidiq_with_mom_work-kidscore_mom_work": inputs.linear(
        _SCORE, *(inputs.equal("mom_work", level) for level in (2, 3, 4))
    ),
    "mesquite-mesquite": inputs.linear(
        inputs.value("weight"), *(inputs.value(name) for name in _SIZES), _GROUP
    ),
    "mesquite-logmesquite": inputs.linear(_WEIGHT, *(inputs.log(name) for name in _SIZES), _GROUP),
    "mesquite-logmesquite_logvolume": inputs.linear(_WEIGHT, _VOLUME),
    "mesquite-logmesquite_logva": inputs.linear(_WEIGHT, _VOLUME, _AREA, _GROUP),
    "mesquite-logmesquite_logvas": inputs.linear(
        _WEIGHT, _VOLUME, _AREA, _SHAPE, *(inputs.log(name) for name in _SIZES[3:]), _GROUP
    ),
    "mesquite-logmesquite_logvash": inputs.linear(
        _WEIGHT, _VOLUME, _AREA, _SHAPE, inputs.log("total_height"), _GROUP
    ),
} | {f"nes{year}-nes": _ELECTION for year in range(1972, 2001, 4)}

# The same with a half-Cauchy prior of the sd.
HALF_CAUCHY = {
    "kidiq-kidscore_momhs": inputs.linear(_SCORE, _HS),
    "kidiq-kidscore_momhsiq": inputs.linear(_SCORE, _HS, _IQ),
    "kidiq-kidscore_interaction": _interaction(_SCORE, _HS, _IQ),
}

OTHERS = {
    "eight_schools-eight_schools_noncentered": Posterior(
        programs.eight_schools_noncentered, _SCHOOLS
    ),
    "eight_schools-eight_schools_centered": Posterior(programs.eight_schools_centered, _SCHOOLS),
    "kidiq-kidscore_momiq": Posterior(programs.kidscore, inputs.arrays("mom_iq", "kid_score")),
    "arK-arK": Posterior(programs.autoregression, inputs.lagged),
    "arma-arma11": Posterior(programs.moving_average, inputs.arrays("y")),
    "sblri-blr": Posterior(programs.normal_regression, inputs.arrays("X", "y")),
    "sblrc-blr": Posterior(programs.normal_regression, inputs.arrays("X", "y")),
    "diamonds-diamonds": Posterior(programs.diamonds, inputs.diamonds),
    "gp_pois_regr-gp_regr": Posterior(programs.gaussian_process, inputs.arrays("x", "y")),
    "garch-garch11": Posterior(programs.garch, inputs.garch),
    "hmm_example-hmm_example": Posterior(programs.hidden_markov, inputs.arrays("y")),
    "low_dim_gauss_mix-low_dim_gauss_mix": Posterior(programs.mixture, inputs.arrays("y")),
    "kilpisjarvi_mod-kilpisjarvi": Posterior(programs.kilpisjarvi, inputs.kilpisjarvi),
    "wells_data-wells_dist": Posterior(
        programs.flat_logistic, inputs.linear(inputs.value("switched"), inputs.value("dist"))
    ),
    "nes_logit_data-nes_logit_model": Posterior(
        programs.election_logistic, inputs.arrays("income", "vote")
    ),
    "dogs-dogs": Posterior(programs.wide_logistic, inputs.dogs),
}

POSTERIORS = (
    OTHERS
    | {name: Posterior(programs.flat_regression, make) for name, make in FLAT.items()}
    | {name: Posterior(programs.cauchy_regression, make) for name, make in HALF_CAUCHY.items()}
)


def names(database: Path) -> list[str]:
    """The posteriors that we have a model of and this database has whole, by its names."""
    return [name for name in POSTERIORS if stored(database, name)]


def _read(folder: Path, name: str) -> Any:
    with zipfile.ZipFile(folder / f"{name}.json.zip") as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def _entry(database: Path, name: str) -> dict[str, Any]:
    return json.loads((database / "posteriors" / f"{name}.json").read_text())


def stored(database: Path, name: str) -> bool:
    """Does this database have the posterior, its data and its reference draws?"""
    if not (database / "posteriors" / f"{name}.json").is_file():
        return False
    entry = _entry(database, name)
    draws = entry["reference_posterior_name"]
    return (database / "data" / "data" / f"{entry['data_name']}.json.zip").is_file() and (
        draws is not None and (_draws(database) / f"{draws}.json.zip").is_file()
    )


def _draws(database: Path) -> Path:
    return database / "reference_posteriors" / "draws" / "draws"


def arguments(database: Path, name: str) -> tuple:
    """The arguments of the model of this posterior: its data."""
    data = _read(database / "data" / "data", _entry(database, name)["data_name"])
    return POSTERIORS[name].arguments(data)


def load(database: Path, name: str) -> Target:
    """The posterior as a target, in the precision that is switched on."""
    return from_numpyro(POSTERIORS[name].model, *arguments(database, name))


def reference(database: Path, name: str) -> dict[str, np.ndarray]:
    """Reference draws by Stan's names, those of all chains one after the other."""
    chains = _read(_draws(database), _entry(database, name)["reference_posterior_name"])
    return {key: np.concatenate([np.asarray(c[key]) for c in chains]) for key in chains[0]}


def place(stan: str) -> tuple[str, tuple[int, ...]]:
    """Our site and 0-based index of a parameter of Stan: `beta[2]` is ("beta", (1,))."""
    site, _, index = stan.rstrip("]").partition("[")
    return site, tuple(int(i) - 1 for i in index.split(",")) if index else ()


def sites(name: str, reference: Draws) -> dict[str, np.ndarray]:
    """Reference draws by our sites, (draw, *shape), latent ones that are not stored included."""
    columns: dict[str, list[np.ndarray]] = {}
    scalars = set()
    for stan, draws in reference.items():  # ascending within a site, and no site is a matrix
        site, index = place(stan)
        columns.setdefault(site, []).append(draws)
        if not index:
            scalars.add(site)
    values = {
        site: parts[0] if site in scalars else np.stack(parts, axis=1)
        for site, parts in columns.items()
    }
    if name == "eight_schools-eight_schools_noncentered":
        shift = values["theta"] - values["mu"][:, None]
        values["theta_trans"] = shift / values["tau"][:, None]
    return values


def unconstrained(target: Target, name: str, reference: Draws) -> np.ndarray:
    """Reference draws on the unconstrained scale, (draw, d)."""
    values = sites(name, reference)
    latent = {site.name: values[site.name] for site in target.sites}
    return np.asarray(jax.jit(jax.vmap(target.unconstrain))(latent))


class Error(NamedTuple):
    """How far draws are from the reference: in sd of the reference, and as log of the sd ratio."""

    mean: float
    log_sd: float


def compare(draws: Draws, name: str, reference: Draws) -> dict[str, Error]:
    """Errors by Stan's names. `draws` has our sites: `(*draws, *shape)`, as `result.draws()`."""
    errors = {}
    for stan, theirs in reference.items():
        site, index = place(stan)
        ours = np.asarray(draws[site], np.float64)[(..., *index)]
        shift = (ours.mean() - theirs.mean()) / theirs.std()
        errors[stan] = Error(float(shift), float(np.log(ours.std() / theirs.std())))
    if not errors:
        raise ValueError(f"no reference draws of {name} were given")
    return errors
