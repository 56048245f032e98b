"""Real posteriors against their reference draws, where a posteriordb folder is at hand."""

import numpy as np
import pytest
from marks import slow

import infer
from infer.diagnostics import ess_bulk
from infer.scoreboard import models


@pytest.mark.parametrize("name", ["kidiq-kidscore_momiq", *slow("garch-garch11")])
def test_nuts_agrees_with_the_reference(posteriordb, name):
    """Flat priors, a badly scaled regression, and a bound that depends on another parameter."""
    target = models.load(posteriordb, name)
    # With 1000 draws the verdict on the second is ok or suspect by rounding.
    sampler = infer.NUTS(preconditioner=infer.Dense())
    result = infer.fit(target, sampler, key=0, draws=3000)
    assert result.verdict.status == "ok", result.verdict
    reference = models.reference(posteriordb, name)
    compared = 0
    for stan, draws in reference.items():
        site, _, index = stan.rstrip("]").partition("[")
        ours = result[site][..., int(index) - 1] if index else result[site]
        ess = min(float(ess_bulk(ours)), 10_000)
        limit = 4.5 * draws.std() * np.sqrt(1 / ess + 1e-4)  # 5 names, 1 in 1000 by chance
        assert abs(ours.mean() - draws.mean()) < limit, stan
        assert abs(np.log(ours.std() / draws.std())) < 0.1, stan
        compared += 1
    assert compared == len(reference) > 2


@pytest.mark.parametrize(
    "name", ["arK-arK", *slow("kidiq-kidscore_momiq", "earnings-logearn_height")]
)
@pytest.mark.parametrize(
    "method", [infer.FBGVI, pytest.param(infer.NaturalGradientVI, marks=pytest.mark.slow)]
)
def test_the_best_gaussian_agrees_with_the_reference(posteriordb, name, method):
    """On regressions whose raw condition numbers are 100, 500,000 and 1,400,000."""
    target = models.load(posteriordb, name)
    result = infer.fit(target, method(), key=0, draws=40_000, progress=False)
    assert result.verdict.status == "ok", result.verdict
    errors = models.compare(result.draws(), name, models.reference(posteriordb, name)).values()
    assert max(abs(error.mean) for error in errors) < 0.06
    assert max(abs(error.log_sd) for error in errors) < 0.05
