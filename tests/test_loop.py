"""The run loop: nothing but the key, the target and the settings may change an answer."""

import dataclasses
import sys
from collections import deque
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
import infer.run.loop
from infer.core.linalg import empty_moments
from infer.geometry.warmup import restart, window

traces = deque()  # one entry per time Python runs through the density; a list would be read


def log_density(x, data):
    traces.append(0)
    return -0.5 * jnp.sum(((x - data["mean"]) / data["sd"]) ** 2) - 0.1 * jnp.sum(x**4)


def make(mean):
    data = {"mean": jnp.asarray(mean, float), "sd": jnp.array([1.0, 0.5])}
    return infer.from_log_density(log_density, jnp.zeros(2), data=data)


TARGET = make([1.0, -0.5])
SETTINGS = {
    "MALA": (infer.MALA(), {"warmup": 30, "chains": 3}),
    "NUTS": (infer.NUTS(max_doublings=4), {"warmup": 30, "chains": 3}),
    "VI": (infer.VI(n_samples=2, stopping=None), {"chains": 2}),
    "SVGD": (infer.SVGD(n_particles=4, stopping=None), {"chains": 2}),
}
STEPS = 42


def fit(name, target=TARGET, **options):
    algorithm, usual = SETTINGS[name]
    usual = usual | {"key": 3, "steps": STEPS, "progress": False}
    return infer.fit(target, algorithm, **(usual | options))


@cache
def whole(name):
    """The run that every other way of running has to repeat."""
    return fit(name, chunk=7)


def assert_same(a, b):
    """Draws, history, states and counts of two results are the same bits."""
    np.testing.assert_array_equal(a.z, b.z)
    np.testing.assert_array_equal(a.log_prob, b.log_prob)
    assert a.history.keys() == b.history.keys()
    for name in a.history:
        np.testing.assert_array_equal(a.history[name], b.history[name], err_msg=name)
    assert_same_bits(a.trail.carry, b.trail.carry)
    assert (a.gradients, a.outcome) == (b.gradients, b.outcome)


def assert_same_bits(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def stop_at(step, phase="steps"):
    return lambda progress: progress.phase == phase and progress.step >= step


# One loop runs every method: a sampler and an optimizer are quick.
BOTH_KINDS = ["MALA", "VI", *slow("NUTS", "SVGD")]
CHUNKS = [("MALA", 1), ("MALA", None), ("VI", 1000)]
CHUNKS += slow(("MALA", 1000), ("VI", 1), ("VI", None), ("NUTS", None))
CHUNKS += slow(*(("SVGD", chunk) for chunk in (1, 1000, None)))


@pytest.mark.parametrize("name, chunk", CHUNKS)
def test_chunks_change_no_bit(name, chunk):
    assert_same(fit(name, chunk=chunk), whole(name))


@pytest.mark.parametrize("name", ["MALA", *slow("VI")])
def test_the_progress_bar_changes_no_bit(name, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert_same(fit(name, chunk=7, progress=True), whole(name))
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, chunk",
    [("MALA", 7), ("VI", 7), *slow(("MALA", None), ("VI", None))],
)
def test_thinning_keeps_every_kth_row(name, chunk):
    thinned, every = fit(name, thin=3, chunk=chunk), whole(name)
    for field in every.history:
        np.testing.assert_array_equal(thinned.history[field], every.history[field][:, 2::3])
    if name == "MALA":
        np.testing.assert_array_equal(thinned.z, every.z[:, 2::3])
    assert_same_bits(thinned.trail.carry, every.trail.carry)
    assert thinned.gradients == every.gradients


@pytest.mark.parametrize("name", ["MALA", "VI", *slow("SVGD")])
def test_a_chain_does_not_know_of_the_others(name):
    """To rounding: another number of chains is another program."""
    many, alone = whole(name), fit(name, chains=1, chunk=7)
    np.testing.assert_allclose(alone.history["loss"], many.history["loss"][:1], rtol=1e-4)
    state = jax.tree.map(lambda x: x[:1], many.trail.carry.states)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        alone.trail.carry.states,
        state,
    )
    assert not np.allclose(many.history["loss"][0], many.history["loss"][1])


@pytest.mark.parametrize("name", BOTH_KINDS)
def test_extending_is_one_longer_run(name):
    part = fit(name, steps=14, chunk=7)
    before = part.z.copy()
    assert_same(part.extend(steps=STEPS - 14, progress=False, chunk=7), whole(name))
    np.testing.assert_array_equal(part.z, before)  # the shorter result is left as it was
    assert part.outcome.steps == 14 == part.trail.taken


def test_an_earlier_result_is_carried_on_without_warming_up():
    part = whole("MALA")
    with pytest.raises(ValueError, match="this very key"):
        fit("MALA", init=part, warmup=None, steps=7)
    more = fit("MALA", init=part, key=4, warmup=None, chunk=7, steps=7)
    assert more.plan.warmup == 0
    assert_same_bits(more.trail.carry.states.tuning, part.trail.carry.states.tuning)
    fresh = fit("MALA", init=whole("VI"), chunk=7, steps=7)
    assert fresh.plan.warmup == 30


@pytest.mark.parametrize(
    "name, stop, chunk",
    [
        ("MALA", stop_at(14), 1),
        ("MALA", stop_at(14, "warmup"), 1000),
        ("VI", stop_at(21), 1),
        *slow(
            ("MALA", stop_at(7), None),
            ("NUTS", stop_at(14), 7),
            ("VI", stop_at(21), None),
            ("SVGD", stop_at(7), 1000),
        ),
    ],
)
def test_stopped_and_resumed_is_one_run(name, stop, chunk, tmp_path):
    path = tmp_path / "folder" / "run.infer"
    part = fit(name, chunk=7, callbacks=[stop], checkpoint=path)
    assert part.outcome.ending is infer.Ending.CALLBACK
    assert part.trail.taken < STEPS
    assert_same(fit(name, chunk=chunk, resume=path), whole(name))


def interrupt(progress):
    if progress.phase == "steps" and progress.step >= 14:
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["MALA", *slow("VI")])
def test_ctrl_c_keeps_what_was_done(name):
    result = fit(name, chunk=7, callbacks=[interrupt])
    assert result.outcome.ending is infer.Ending.INTERRUPTED
    assert result.outcome.steps == 14
    assert np.isfinite(result.z).all() and result.z.size
    assert result.verdict["outcome"].meaning.startswith("interrupted")
    more = result.extend(steps=STEPS - 14, progress=False, chunk=7)
    assert_same(more, whole(name))


def test_out_of_time():
    result = fit("MALA", warmup=0, chunk=7, max_seconds=1e-9)
    assert result.outcome.ending is infer.Ending.OUT_OF_BUDGET
    assert result.z.shape == (3, 7, 2) and np.isfinite(result.z).all()
    nothing = fit("MALA", chunk=7, max_seconds=1e-9)  # the time ends within the warm-up
    assert nothing.z.shape == (3, 0, 2)
    assert nothing.verdict.status == "failed"
    assert "before the first draw" in str(nothing.verdict)


def test_what_callbacks_see():
    seen = []
    fit("MALA", chunk=7, callbacks=[lambda p: seen.append((p, p.trail.warmed, p.trail.taken))])
    warming = [p for p, _, _ in seen if p.phase == "warmup"]
    taking = [p for p, _, _ in seen if p.phase == "steps"]
    assert [p.step for p in warming] == [7, 14, 21, 28, 30]
    assert [p.step for p in taking] == [7, 14, 21, 28, 35, 42]
    assert {p.total for p in warming} == {30} and {p.total for p in taking} == {STEPS}
    assert all(p.loss.shape == (0,) for p in warming)
    assert all(p.loss.shape == (3,) for p in taking)
    np.testing.assert_array_equal(taking[-1].loss, whole("MALA").history["loss"][:, -1])
    assert all((w, t) == ((p.step, 0) if p in warming else (30, p.step)) for p, w, t in seen)


# Values that are not finite -------------------------------------------------------------------


def cliff(x):
    """A normal, but for a slope beyond 20 that ends in a hole."""
    x = x[0]
    return jnp.where(x > 40, jnp.nan, jnp.where(x > 20, 30 * x, -0.5 * x**2))


CLIFF = infer.from_log_density(cliff, jnp.zeros(1))


def on_the_cliff(starts=(0.0, 25.0, 1.0), **options):
    options = {"key": 1, "steps": STEPS, "warmup": 0, "chunk": 7, "progress": False} | options
    init = {"x": np.array(starts, np.float32)[:, None]}
    return infer.fit(CLIFF, infer.ULA(), chains=len(starts), init=init, **options)


def test_a_chain_that_meets_a_hole_stops_alone():
    result = on_the_cliff()
    first = result.outcome.first_nonfinite
    assert result.outcome.ending is infer.Ending.FINISHED
    assert result.outcome.nonfinite == (0, 1, 0)
    assert first[0] == first[2] == -1 and 0 < first[1] < STEPS
    moved = np.diff(result.z[..., 0], axis=1) != 0
    assert moved[0].all() and moved[2].all()
    assert moved[1, : first[1] - 1].all() and not moved[1, first[1] - 1 :].any()
    assert np.isfinite(result.z).all()
    assert result.verdict["outcome"].status == "suspect"
    assert "1 of 3 chains" in result.verdict["outcome"].meaning
    others = on_the_cliff(starts=(0.0, 0.5, 1.0))
    np.testing.assert_array_equal(others.z[[0, 2]], result.z[[0, 2]])


def test_a_hole_can_be_skipped():
    halted, result = on_the_cliff(), on_the_cliff(on_nonfinite="skip")
    assert result.outcome.ending is infer.Ending.FINISHED
    assert result.outcome.first_nonfinite == halted.outcome.first_nonfinite
    assert result.outcome.nonfinite[1] > 1 and result.outcome.nonfinite[::2] == (0, 0)
    assert np.isfinite(result.z).all() and result.z.max() <= 40
    np.testing.assert_array_equal(halted.z[[0, 2]], result.z[[0, 2]])


@pytest.mark.parametrize(
    "policy, starts",
    [
        ("stop", (25.0, 26.0, 30.0)),
        ("skip", (0.0, 25.0, 1.0)),
        *slow(("stop", (0.0, 25.0, 1.0)), ("skip", (25.0, 26.0, 30.0))),
    ],
)
def test_the_policy_does_not_know_of_chunks(policy, starts):
    """Where all chains halt the record ends with the last of them."""
    a, b = (on_the_cliff(starts, on_nonfinite=policy, chunk=chunk) for chunk in (7, 1000))
    assert_same(a, b)
    if policy == "stop" and starts[0]:
        assert a.outcome.ending is infer.Ending.NONFINITE
        assert a.z.shape[1] == max(a.outcome.first_nonfinite) < STEPS
        assert a.verdict.status == "failed"
        assert "hole" in str(a.verdict)


# Stopping by itself ---------------------------------------------------------------------------


def test_early_stopping_does_not_know_of_chunks():
    rule = infer.LossSettled(tolerance=2.0, minimum=40, every=20)
    algorithm = infer.VI(n_samples=2, stopping=rule)
    runs = [
        infer.fit(TARGET, algorithm, key=3, chains=2, steps=2000, chunk=c, progress=False)
        for c in (7, 33, None)
    ]
    assert runs[0].outcome.ending is infer.Ending.CONVERGED
    assert 40 <= runs[0].outcome.steps < 2000 and runs[0].outcome.steps % 20 == 0
    for other in runs[1:]:
        assert_same(runs[0], other)
    losses = runs[0].history["loss"]
    earlier = [n for n in range(40, losses.shape[1], 20)]
    assert not any(all(rule.settled(row[:n]) for row in losses) for n in earlier)


def traced(rule, losses):
    """The first check at which the rule fires on a trace, or None."""
    for n in range(rule.every, len(losses) + 1, rule.every):
        if rule.settled(losses[:n]):
            return n
    return None


def noise(phi=0.0, sd=1.0, n=8000, seeds=100):
    """Stationary AR(1) traces (seeds, n)."""
    rng = np.random.default_rng(0)
    x = np.empty((n, seeds))
    x[0] = rng.normal(size=seeds)
    for t in range(1, n):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * rng.normal(size=seeds)
    return sd * x.T


RULE = infer.LossSettled()


def test_the_rule_fires_on_a_flat_loss():
    assert all(traced(RULE, x) == RULE.minimum for x in noise(sd=0.01))
    assert all(traced(RULE, x) is not None for x in noise(sd=0.3))


def test_the_rule_waits_for_a_slow_ramp():
    """Falls by 1.5 tolerances in the first quarter looked at, within noise of any size."""
    ramp = -1.5 * RULE.tolerance / (RULE.minimum / 4) * np.arange(8000)
    assert traced(RULE, ramp) is None
    for sd in (0.1, 1.0, 10.0):
        assert all(traced(RULE, ramp + x) is None for x in noise(sd=sd))
    # Too slow a ramp to be seen at first, and so much noise that no one can tell.
    assert all(traced(RULE, 0.1 * ramp + x) is None for x in noise(sd=10.0))


def test_the_rule_sees_slow_noise():
    """With AR(1) noise the fall is within two of its standard errors in nine of ten traces."""
    quarter = 2000
    covered, naive = [], []
    for x in noise(phi=0.95):
        fall, se = RULE.change(x)
        covered.append(abs(fall) < 2 * se)
        last = x[-2 * quarter :]
        naive.append(abs(fall) < 2 * last.std() * np.sqrt(2 / quarter))
    assert np.mean(covered) > 0.85 and np.mean(naive) < 0.5
    assert all(traced(RULE, x) is None for x in noise(phi=0.95, sd=1.0))


def test_the_rule_and_missing_numbers():
    flat = np.zeros(4000)
    assert RULE.settled(flat) and not RULE.settled(flat[:999]) and not RULE.settled(flat[:30], 1000)
    for bad in (np.nan, np.inf):
        broken = flat.copy()
        broken[-10] = bad
        assert not RULE.settled(broken)
    assert RULE.looks_at(thin=1) == 250 and RULE.looks_at(thin=7) == 252
    with pytest.raises(ValueError, match="stopping=None"):
        infer.LossSettled(tolerance=0.0)


# Memory, compilation, devices -----------------------------------------------------------------


def test_the_buffer_on_the_device_is_bounded(monkeypatch):
    sizes, real = [], infer.run.loop.advance

    def advance(*arguments):
        carry, buffer, gradients = real(*arguments)
        if buffer:
            sizes.append(buffer["position"].nbytes)
        return carry, buffer, gradients

    monkeypatch.setattr(infer.run.loop, "advance", advance)
    monkeypatch.setattr(infer.run.loop, "BUFFER_BYTES", 7 * 3 * 2 * 4)
    assert_same(fit("MALA"), whole("MALA"))
    assert sizes and max(sizes) <= 7 * 3 * 2 * 4


@pytest.mark.parametrize("name", BOTH_KINDS)
def test_a_second_fit_traces_nothing(name):
    """Other data, another step size, more steps, and a run carried on from its file."""
    algorithm, _ = SETTINGS[name]
    fit(name)
    scaled = jax.tree.map(lambda x: 0.9 * x if eqx.is_inexact_array(x) else x, algorithm)
    moved = make([0.5, 0.5])
    before = len(traces)
    result = fit(name, moved, steps=3 * STEPS, key=4)
    usual = SETTINGS[name][1] | {"key": 5, "steps": 600, "progress": False}
    infer.fit(moved, scaled, **usual)
    assert len(traces) == before
    assert result.z.shape[1] != whole(name).z.shape[1] or name in ("VI", "SVGD")


class TwoPrograms(infer.AbstractSampler):
    """A sampler whose warm-up is hidden in `adapt`, so that each phase has a program of its own."""

    inner: infer.HMC
    exact_target, adjusted = True, True
    default_warmup, default_steps = 30, 40

    def init(self, key, target):
        return self.inner.init(key, target)

    def step(self, key, target, state):
        return self.inner.step(key, target, state)

    def adapt(self, key, target, state, i, n):
        return self.inner.adapt(key, target, state, i, n)

    def position(self, state):
        return self.inner.position(state)


@pytest.mark.parametrize("chains", [1, 3])
def test_one_program_serves_both_phases(chains, monkeypatch):
    ahead, phases = infer.run.loop.ahead, []

    def watched(*arguments):
        phases.append(arguments[-1].value)
        return ahead(*arguments)

    monkeypatch.setattr(infer.run.loop, "ahead", watched)
    algorithm = infer.HMC(n_leapfrog=3)
    options = {"key": 3, "steps": 20, "thin": 2, "chunk": 7, "warmup": 60, "chains": chains}
    one, two = (
        infer.fit(TARGET, a, progress=False, **options) for a in (algorithm, TwoPrograms(algorithm))
    )
    assert phases == ["either", "warmup", "sampling"]
    # The same steps of two programs: equal to rounding, which trajectories enlarge.
    np.testing.assert_allclose(one.z, two.z, rtol=1e-3, atol=1e-3)
    assert one.history.keys() == two.history.keys()
    step_size = one.history["step_size"]
    np.testing.assert_allclose(step_size, two.history["step_size"], rtol=1e-3)
    assert np.all(step_size == step_size[:, :1]) and np.all(step_size != 1.0)
    assert one.gradients == two.gradients


def test_a_resumed_run_traces_nothing(tmp_path):
    path = tmp_path / "run.infer"
    fit("MALA", chunk=7, callbacks=[stop_at(14, "warmup")], checkpoint=path)
    fit("MALA", chunk=7, resume=path)
    before = len(traces)
    fit("MALA", chunk=7, resume=path)
    assert len(traces) - before <= 1  # the shapes of the states in the file


def rows_target():
    rng = np.random.default_rng(0)
    rows = {
        "a": jnp.asarray(rng.normal(size=(16, 2)), float),
        "y": jnp.asarray(rng.normal(size=16)),
    }
    return infer.from_log_density(
        example=jnp.zeros(2),
        log_prior=lambda x: -0.5 * jnp.sum(x**2),
        log_likelihood=lambda x, rows: -0.5 * (rows["y"] - rows["a"] @ x) ** 2,
        data=rows,
    )


@pytest.mark.parametrize(
    "axis, algorithm, chains",
    [
        ("chains", infer.MALA(), 4),
        ("particles", infer.SVGD(n_particles=8, stopping=None), 1),
        ("data", infer.VI(n_samples=2, stopping=None), 1),
        *slow(("samples", infer.VI(n_samples=8, stopping=None), 2)),
        ("samples", infer.VI(n_samples=16, at_once=8, keep_best=10, stopping=None), 1),
    ],
)
def test_four_devices_agree_with_one(axis, algorithm, chains):
    if len(jax.devices()) < 4:
        pytest.skip("needs 4 devices")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), (axis,))
    one, four = (
        infer.fit(
            rows_target(), algorithm, key=2, steps=20, chains=chains, mesh=m, progress=False,
            **({"warmup": 0} if axis == "chains" else {}),
        )
        for m in (None, mesh)
    )  # fmt: skip
    np.testing.assert_allclose(one.history["loss"], four.history["loss"], rtol=1e-3)
    np.testing.assert_allclose(one.z, four.z, atol=1e-3)
    spread = [len(leaf.sharding.device_set) for leaf in jax.tree.leaves(four.trail.carry.states)]
    assert max(spread) == 4


# Warm-up --------------------------------------------------------------------------------------


SCHEDULES = [1, 19, 20, 150, 1000]
SCHEDULES += slow(10, 21, 60, 99, 100, 140, 149, 151, 300, 2000)


@pytest.mark.parametrize("n", SCHEDULES)
def test_windows_are_those_of_stan(n):
    from blackjax.adaptation.window_adaptation import build_schedule

    ours = jax.vmap(lambda i: jnp.stack(window(i, jnp.asarray(n))))(jnp.arange(n))
    np.testing.assert_array_equal(ours, np.asarray(build_schedule(n)).astype(bool))


@pytest.mark.parametrize("dense", [False, True])
def test_running_moments(dense, x64):
    x = 1e3 + np.random.default_rng(0).normal(size=(200, 3)) @ np.diag([1.0, 5.0, 0.1])
    moments = empty_moments(jnp.zeros(3), dense)
    assert not np.asarray(moments.covariance()).any()
    moments, _ = jax.lax.scan(lambda m, v: (m.add(v), None), moments, jnp.asarray(x))
    covariance = np.cov(x, rowvar=False)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
    expected = covariance if dense else np.diag(covariance)
    np.testing.assert_allclose(moments.covariance(), expected, rtol=1e-9, atol=1e-9)
    assert moments.count == 200


def test_dual_averaging(x64):
    """Steps as in BlackJAX; the average as in the paper, which takes the step just computed."""
    from blackjax.optimizers.dual_averaging import dual_averaging

    begin, update, _ = dual_averaging()
    theirs, ours = begin(0.3), restart(jnp.asarray(0.3))
    average = 0.0
    for t, rate in enumerate(np.random.default_rng(0).uniform(size=30), start=1):
        theirs = update(theirs, 0.8 - rate)
        ours, log_step = ours.update(jnp.asarray(0.8 - rate))
        average = t**-0.75 * float(log_step) + (1 - t**-0.75) * average
        np.testing.assert_allclose(log_step, theirs.log_x, rtol=1e-12)
        np.testing.assert_allclose(ours.log_average, average, rtol=1e-12)


def test_warm_up_finds_the_scale():
    scales = jnp.array([5.0, 0.2])
    problem = infer.from_log_density(lambda x: -0.5 * jnp.sum((x / scales) ** 2), jnp.zeros(2))
    result = infer.fit(problem, infer.MALA(), key=0, steps=500, warmup=1000, progress=False)
    found = np.sqrt(result.trail.carry.states.tuning.scale.covariance)
    np.testing.assert_allclose(found / scales, 1, atol=0.5)
    rate = result.history["acceptance_rate"].mean()
    assert abs(rate - 0.574) < 0.1


def test_the_trail_is_a_plain_record():
    names = {field.name for field in dataclasses.fields(whole("MALA").trail)}
    assert {"carry", "warmed", "taken", "gradients", "seconds"} <= names
    assert whole("MALA").gradients == 3 * (30 + STEPS)
