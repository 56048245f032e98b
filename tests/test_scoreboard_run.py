"""The scoreboard's fits: one pair in this process, and pairs in workers that are stopped."""

import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import infer
from infer.scoreboard import peer, record, runner
from infer.scoreboard.case import Case, Group, Tag
from infer.scoreboard.methods import Kind, Method, Need
from infer.scoreboard.record import Settings
from infer.scoreboard.work import Bench, Budget, Catalog, regressed, true_draws

SETTINGS = Settings(budget=5.0, key=3, examine=False)
SD = np.array([0.5, 2.0])


def log_density(z):
    return -0.5 * jnp.sum((z / jnp.asarray(SD)) ** 2)


def gaussian():
    return infer.from_log_density(log_density, jnp.zeros(2))


def draws(scale=1.0):
    return np.random.default_rng(0).standard_normal((4000, 2)) * SD * scale


def broken():
    raise RuntimeError("no such\ndata")


def catalog():
    """A good case, one whose reference another posterior has, one that raises, dies, or hangs."""
    made = {
        "good": Case("good", Group.SYNTHETIC, gaussian, draws),
        "wide": Case("wide", Group.POSTERIORDB, gaussian, lambda: draws(2.0)),
        "broken": Case("broken", Group.SYNTHETIC, broken, draws, frozenset({Tag.MODES})),
        "deadly": Case("deadly", Group.SYNTHETIC, lambda: os._exit(7), draws),
        "endless": Case("endless", Group.SYNTHETIC, lambda: time.sleep(600), draws),
    }
    methods = [
        Method("Laplace", Kind.VI, infer.Laplace()),
        Method("on rows", Kind.STOCHASTIC_GRADIENT, infer.SGLD(), needs=frozenset({Need.ROWS})),
    ]
    return Catalog(made, {m.name: m for m in methods})


@pytest.fixture(scope="module")
def bench():
    return Bench(catalog(), SETTINGS)


def test_a_right_fit(bench):
    found = bench.record(("good", "Laplace"))
    assert (found.label, found.verdict, found.message) == ("right", "ok", "")
    assert (found.dim, found.kind, found.group, found.dtype) == (2, "VI", "synthetic", "float32")
    assert found.settings == SETTINGS and found.chains == 1 and found.draws == 10_000
    assert found.gradients > 0 and found.compile_seconds > 0 and found.seconds > 0
    assert found.scores["lo"] <= found.scores["hi"] < 0.3 and found.scores["positive"] == 1
    assert found.units < 0.3
    assert {e.name for e in found.evidence} >= {"score regression", "KL gap", "outcome"}


def test_the_truth_is_that_of_the_reference(bench):
    """The fit is the Gaussian; the reference of this case has twice its sd."""
    found = bench.record(("wide", "Laplace"))
    assert (found.label, found.verdict) == ("wrong", "ok")
    assert found.errors.log_sd == pytest.approx(np.log(2), abs=0.05)
    assert found.units == pytest.approx(np.log(2) / np.log(1.3), rel=0.1)
    assert found.over_floor > 5


def test_what_raises_is_a_record(bench):
    found = bench.record(("broken", "Laplace"))
    assert (found.verdict, found.label, found.tags) == ("error", "", ("modes",))
    assert found.message.startswith("RuntimeError: no such\ndata (broken, line ")
    found = bench.record(("good", "on rows"))
    assert found.verdict == "unsuited" and "rows" in found.message


def test_of_a_gaussian_the_scores_tell_the_error_exactly():
    """The error of the draws themselves, by arithmetic; of 8000 every other one is looked at."""
    z = (draws(1.2) + [0.3, 0.0])[None].repeat(2, axis=0).astype(np.float32)
    found = regressed(gaussian(), z, independent=True)
    few = z[0, ::2]
    log_sd = np.abs(np.log(few.std(axis=0) / SD)) / np.log(1.3)
    mean = np.abs(few.mean(axis=0) / SD) / 0.3
    worst = max(log_sd.max(), mean.max())
    assert worst > 0.9 and found["hi"] == pytest.approx(worst, rel=1e-3)
    assert found["lo"] == pytest.approx(found["hi"], rel=1e-3)
    assert regressed(gaussian(), z[:1, :4], independent=True) == {}


def test_chains_and_particles_are_labeled_by_all_they_are():
    steps = {"key": 0, "progress": False, "steps": 60}
    chains = infer.fit(gaussian(), infer.ULA(), warmup=20, chains=2, **steps)
    np.testing.assert_array_equal(true_draws(chains), chains.z)
    assert true_draws(chains).shape == (2, 60, 2)
    particles = infer.fit(gaussian(), infer.SVGD(n_particles=20), **steps)
    assert true_draws(particles).shape == (1, 20, 2)


def test_the_budget_is_of_steps_and_not_of_compilation():
    seen = []

    def slow(z):
        return log_density(z) + 0.0 * jax.lax.fori_loop(0, 3000, lambda i, x: jnp.sin(x), z[0])

    target = infer.from_log_density(slow, jnp.zeros(2))
    result = infer.fit(
        target,
        infer.ULA(),
        key=0,
        steps=1_000_000,
        progress=False,
        callbacks=[Budget(0.3), lambda p: seen.append(p.trail.seconds + p.trail.warmup_seconds)],
    )
    assert result.outcome.ending is infer.Ending.CALLBACK
    assert seen[-1] >= 0.3 and all(before < 0.3 for before in seen[:-1])


def pairs_of(path):
    return [r.pair for r in record.read(path)]


def test_an_interrupted_run_is_resumed_and_nothing_runs_twice(tmp_path):
    every = runner.pairs(catalog(), ["good", "broken", "wide"], ["Laplace", "on rows"])
    assert every == [
        ("wide", "Laplace"),
        ("wide", "on rows"),
        ("good", "Laplace"),
        ("broken", "Laplace"),
        ("good", "on rows"),
        ("broken", "on rows"),
    ]
    path, told = tmp_path / "records.jsonl", []

    def tell(found):
        told.append(found.pair)
        if len(told) == 2:
            raise KeyboardInterrupt

    go = functools.partial(
        runner.run, make=catalog, settings=SETTINGS, out=tmp_path, workers=1, limit=300.0
    )
    with pytest.raises(KeyboardInterrupt):
        go(every, tell=tell)
    assert pairs_of(path) == told == every[:2]
    with path.open("a") as file:
        file.write('{"case": "good", "meth')  # torn off
    record.mend(path)
    done = set(pairs_of(path))
    go([pair for pair in every if pair not in done], tell=lambda found: told.append(found.pair))
    assert pairs_of(path) == told == every
    found = {r.pair: r for r in record.read(path)}
    assert found["wide", "Laplace"].label == "wrong" and found["good", "Laplace"].label == "right"
    assert found["broken", "on rows"].verdict == "error"
    assert "NPROC" not in os.environ  # what is set for workers does not stay


@pytest.mark.slow
def test_workers_that_die_or_hang_are_recorded_and_replaced(tmp_path):
    cases = ["deadly", "endless", "good"]
    runner.run(
        [(case, "Laplace") for case in cases],
        catalog,
        SETTINGS,
        tmp_path,
        workers=1,
        limit=60.0,
        tell=lambda found: None,
    )
    died, hung, good = record.read(tmp_path / "records.jsonl")
    assert (died.verdict, hung.verdict, good.verdict) == ("error", "error", "ok")
    assert "exit code 7" in died.message and "60 seconds" in hung.message


def schools(sd, y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(sd**2 + tau**2)), obs=y)


@pytest.mark.slow
def test_the_peer_agrees_with_us():
    data = jnp.array([15.0, 10.0, 16.0, 11.0]), jnp.array([28.0, 8.0, -3.0, 7.0])
    target = infer.from_numpyro(schools, *data)
    run = peer.run(schools, data, target, SETTINGS)
    ours = infer.fit(target, infer.NUTS(), key=1, progress=False).z
    assert run.z.shape == (4, 1000, 2) and run.seconds > 0 and run.gradients >= 4000
    for i in range(2):
        size = min(float(infer.diagnostics.ess_bulk(z[..., i])) for z in (run.z, ours))
        error = 4.5 * ours[..., i].std() * np.sqrt(2 / size)
        assert abs(run.z[..., i].mean() - ours[..., i].mean()) < error
