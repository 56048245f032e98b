"""All cases by name."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from infer.bridges.numpyro import from_numpyro
from infer.core.target import Target
from infer.scoreboard import models, programs
from infer.scoreboard.case import Case, Group, Tag
from infer.scoreboard.synthetic import synthetic

HARD = frozenset({"eight_schools-eight_schools_centered"})  # a funnel
MIXTURE = "low_dim_gauss_mix-low_dim_gauss_mix"


def cases(database: Path | None) -> dict[str, Case]:
    """Every case by name: the synthetic ones, and those whose files `database` has.

    Args:
        database: the folder `posterior_database` of posteriordb, or None.

    Raises:
        FileNotFoundError: a folder that is no such database.
    """
    found = list(synthetic())
    if database is not None:
        found = [*posteriordb(database), *found]
    return {case.name: case for case in found}


def posteriordb(database: Path) -> list[Case]:
    """The cases of a database, and one of them with its two labels free to change places."""
    if not (database / "posteriors").is_dir():
        raise FileNotFoundError(
            f"{database} has no folder 'posteriors'; give the folder `posterior_database` of "
            "posteriordb: --posteriordb PATH/posterior_database"
        )
    names = models.names(database)
    unordered = [_unordered(database)] if MIXTURE in names else []
    return [_case(database, name) for name in names] + unordered


def _case(database: Path, name: str) -> Case:
    return Case(
        name=name,
        group=Group.POSTERIORDB,
        make=partial(models.load, database, name),
        reference=partial(_reference, database, name),
        tags=frozenset({Tag.HARD_GEOMETRY} if name in HARD else ()),
        program=lambda: (models.POSTERIORS[name].model, models.arguments(database, name)),
    )


def _reference(database: Path, name: str) -> np.ndarray:
    with jax.enable_x64(True):
        target = models.load(database, name)
        return models.unconstrained(target, name, models.reference(database, name))


def _unordered(database: Path) -> Case:
    """The mixture without its order constraint: two modes of equal mass, each other's mirror."""

    def make() -> Target:
        return from_numpyro(programs.unordered_mixture, *models.arguments(database, MIXTURE))

    def reference() -> np.ndarray:
        values = models.sites(MIXTURE, models.reference(database, MIXTURE))
        mirrored = {
            "mu": values["mu"][:, ::-1],
            "sigma": values["sigma"][:, ::-1],
            "theta": 1 - values["theta"],
        }
        both = {name: np.concatenate([values[name], mirrored[name]]) for name in mirrored}
        with jax.enable_x64(True):
            return np.asarray(jax.jit(jax.vmap(make().unconstrain))(both))

    return Case(
        name="low_dim_gauss_mix, unordered",
        group=Group.SYNTHETIC,
        make=make,
        reference=reference,
        tags=frozenset({Tag.MODES}),
        program=lambda: (programs.unordered_mixture, models.arguments(database, MIXTURE)),
    )
