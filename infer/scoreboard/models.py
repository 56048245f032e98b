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
from infer.scoreboard import programs

Data = Mapping[str, Any]
Draws = Mapping[str, np.ndarray]


def _array(data: Data, name: str) -> np.ndarray:
    return np.asarray(data[name], float)


def _number(data: Data, name: str) -> float:
    """A scalar; the database stores some as lists of one."""
    return float(np.asarray(data[name], float).reshape(()))


def _arrays(*names: str) -> Callable[[Data], tuple]:
    return lambda data: tuple(_array(data, name) for name in names)


def _with_ones(*columns: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(columns[0])), *columns])


def _earnings(data: Data) -> tuple:
    return _with_ones(_array(data, "height")), np.log(_array(data, "earn"))


def _lagged(data: Data) -> tuple:
    y, lags = _array(data, "y"), int(_number(data, "K"))
    before = [y[lags - k : len(y) - k] for k in range(1, lags + 1)]
    return np.column_stack(before), y[lags:]


def _mesquite(data: Data) -> tuple:
    volume = _array(data, "diam1") * _array(data, "diam2") * _array(data, "canopy_height")
    return _with_ones(np.log(volume)), np.log(_array(data, "weight"))


def _election(data: Data) -> tuple:
    age = _array(data, "age_discrete")
    columns = [_array(data, "real_ideo"), _array(data, "race_adj")]
    columns += [(age == group).astype(float) for group in (2, 3, 4)]
    columns += [_array(data, name) for name in ("educ1", "gender", "income")]
    return _with_ones(*columns), _array(data, "partyid7")


def _garch(data: Data) -> tuple:
    return _array(data, "y"), _number(data, "sigma1")


def _kilpisjarvi(data: Data) -> tuple:
    priors = [
        np.array([_number(data, f"pmu{name}"), _number(data, f"ps{name}")])
        for name in ("alpha", "beta")
    ]
    return _array(data, "x"), _array(data, "y"), *priors


class Posterior(NamedTuple):
    """A model, and what makes its arguments from the data."""

    model: Callable
    arguments: Callable[[Data], tuple]


_SCHOOLS = _arrays("sigma", "y")
POSTERIORS = {
    "eight_schools-eight_schools_noncentered": Posterior(
        programs.eight_schools_noncentered, _SCHOOLS
    ),
    "eight_schools-eight_schools_centered": Posterior(programs.eight_schools_centered, _SCHOOLS),
    "kidiq-kidscore_momiq": Posterior(programs.kidscore, _arrays("mom_iq", "kid_score")),
    "earnings-logearn_height": Posterior(programs.flat_regression, _earnings),
    "arK-arK": Posterior(programs.autoregression, _lagged),
    "mesquite-logmesquite_logvolume": Posterior(programs.flat_regression, _mesquite),
    "sblri-blr": Posterior(programs.normal_regression, _arrays("X", "y")),
    "nes2000-nes": Posterior(programs.flat_regression, _election),
    "gp_pois_regr-gp_regr": Posterior(programs.gaussian_process, _arrays("x", "y")),
    "garch-garch11": Posterior(programs.garch, _garch),
    "hmm_example-hmm_example": Posterior(programs.hidden_markov, _arrays("y")),
    "low_dim_gauss_mix-low_dim_gauss_mix": Posterior(programs.mixture, _arrays("y")),
    "kilpisjarvi_mod-kilpisjarvi": Posterior(programs.kilpisjarvi, _kilpisjarvi),
}


def names() -> list[str]:
    """The posteriors, by the names they have in the database."""
    return list(POSTERIORS)


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
