"""Results as files, and runs joined: nothing is lost, and nothing foreign is taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.core.support import positive
from infer.joining import checked

SCALE = np.array([1.0, 2.0])


def log_density(p, data):
    return -0.5 * jnp.sum(((p["x"] - data) / SCALE) ** 2) - p["s"]


def make_target(center=0.0):
    return infer.from_log_density(
        log_density,
        {"x": np.zeros(2), "s": 1.0},
        supports={"s": positive},
        data=np.full(2, center),
        dims={"x": ("side",)},
        coords={"side": ["left", "right"]},
    )


MALA = infer.MALA()
ADVI = infer.VI(family=infer.MeanField(), stopping=None)
SETTINGS = {"mala": {"warmup": 50, "chains": 2}, "vi": {"chains": 2, "draws": 300}}
STEPS = 60


def run(kind, key, **changes):
    algorithm = {"mala": MALA, "vi": ADVI}[kind]
    options = {"key": key, "steps": STEPS, "progress": False} | SETTINGS[kind] | changes
    if kind == "mala":
        options.pop("draws", None)
    return infer.fit(make_target(), algorithm, **options)


@pytest.fixture(scope="module", params=["mala", "vi"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(kind):
    return {"mala": MALA, "vi": ADVI}[kind]


@pytest.fixture(scope="module")
def result(kind):
    return run(kind, 0)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run.infer"
    result.save(path)
    return path


def same(a, b):
    """Equal bit for bit, in value, shape and type."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_answer(a, b):
    assert same(a.z, b.z) and same(a.log_prob, b.log_prob)
    assert (a.log_q is None) == (b.log_q is None)
    assert a.log_q is None or same(a.log_q, b.log_q)
    for left, right in ((a.draws(), b.draws()), (a.history, b.history)):
        assert list(left) == list(right)
        assert all(same(left[name], right[name]) for name in left)


def test_a_file_alone_gives_draws_history_and_verdict_bit_for_bit(result, path):
    loaded = infer.load(path)
    assert_same_answer(loaded, result)
    assert str(loaded.verdict) == str(result.verdict)
    for there, here in zip(loaded.verdict.evidence, result.verdict.evidence, strict=True):
        assert repr(there) == repr(here)
    assert loaded.outcome == result.outcome and loaded.timings == result.timings
    assert loaded.gradients == result.gradients and loaded.best == result.best
    assert str(loaded.summary()) == str(result.summary())
    assert loaded.coordinate_names == result.coordinate_names
    assert loaded.labels.dims == result.labels.dims
    assert list(loaded.labels.coords["side"]) == ["left", "right"]
    assert loaded.plan == result.plan and loaded.made == result.made
    assert repr(loaded) == repr(result)


def test_what_needs_the_target_says_so(path):
    loaded = infer.load(path)
    for use in (lambda: loaded.posterior, lambda: loaded.predict(key=0)):
        with pytest.raises(ValueError, match=r"infer\.load\(path, target, algorithm\)"):
            use()
    with pytest.raises(ValueError, match=r"infer\.load\(path, target, algorithm\)"):
        loaded.extend(steps=10)
    with pytest.raises(ValueError, match="no use alone"):
        infer.load(path, algorithm=MALA)


def test_with_target_and_algorithm_it_goes_on_as_if_never_saved(result, path, algorithm):
    loaded = infer.load(path, make_target(), algorithm)
    for a, b in zip(loaded.posteriors, result.posteriors, strict=True):
        assert all(map(same, jax.tree.leaves(a), jax.tree.leaves(b)))
    more = {"steps": 20, "progress": False}
    assert_same_answer(loaded.extend(**more), result.extend(**more))


def test_a_saved_result_is_a_checkpoint(result, path, kind, algorithm):
    options = {"key": 0, "steps": STEPS + 20, "progress": False} | SETTINGS[kind]
    resumed = infer.fit(make_target(), algorithm, resume=path, **options)
    assert_same_answer(resumed, infer.fit(make_target(), algorithm, **options))


def test_a_loaded_result_is_saved_as_it_was(path, tmp_path, algorithm, result):
    infer.load(path).save(tmp_path / "copy")
    again = infer.load(tmp_path / "copy", make_target(), algorithm)
    assert_same_answer(again, result)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_a_loaded_result_is_a_start(path, kind, algorithm):
    options = {"key": 5, "steps": 20, "progress": False} | SETTINGS[kind]
    assert infer.fit(make_target(), algorithm, init=infer.load(path), **options).z.shape[0] == 2


def test_an_unfinished_checkpoint_is_judged_with_target_and_algorithm(kind, algorithm, tmp_path):
    path = tmp_path / "checkpoint"
    result = run(kind, 3, draws=1000, checkpoint=path)
    with pytest.raises(ValueError, match="is a checkpoint of a run, not a saved result"):
        infer.load(path)
    assert_same_answer(infer.load(path, make_target(), algorithm), result)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[: len(b) // 2], "damaged"),
        (lambda b: b[:20], "damaged"),
        (lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], "damaged"),
        (lambda b: b"PK\x03\x04" + b, "not a file written by infer"),
        (lambda b: b"", "not a file written by infer"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(path, tmp_path, damage, message):
    broken = tmp_path / "broken"
    broken.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        infer.load(broken)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        infer.load(tmp_path / "nowhere")


def test_another_target_or_algorithm_is_refused(path, kind, algorithm):
    with pytest.raises(ValueError, match="another posterior"):
        infer.load(path, make_target(center=1.0))
    other = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), np.zeros(3))
    with pytest.raises(ValueError, match="another model"):
        infer.load(path, other, algorithm)
    with pytest.raises(ValueError, match="is a run of"):
        infer.load(path, make_target(), {"mala": ADVI, "vi": MALA}[kind])
    settings = {"mala": infer.MALA(acceptance=0.6), "vi": infer.VI(stopping=None)}[kind]
    with pytest.raises(ValueError, match="with settings"):
        infer.load(path, make_target(), settings)


def test_precision_is_kept_in_a_session_of_another_one(tmp_path):
    with jax.enable_x64(True):
        target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), np.zeros(2))
        algorithm = infer.VI(family=infer.MeanField(), stopping=None)
        result = infer.fit(target, algorithm, key=0, steps=20, draws=50, progress=False)
        result.save(tmp_path / "double")
    loaded = infer.load(tmp_path / "double")
    assert loaded.z.dtype == np.float64 and same(loaded.z, result.z)
    assert same(loaded["x"], result["x"])
    with pytest.raises(ValueError, match="the same precision"):
        infer.load(tmp_path / "double", target, algorithm)


@pytest.fixture(scope="module")
def other(kind):
    return run(kind, 1)


@pytest.fixture(scope="module")
def both(result, other):
    return infer.combine([result, other])


def test_joined_runs_are_their_chains_side_by_side(result, other, both):
    for what in ("z", "log_prob"):
        parts = [np.asarray(vars(r)[what]) for r in (result, other)]
        assert same(vars(both)[what], np.concatenate(parts))
    assert (both.log_q is None) == (result.log_q is None)
    for name, values in both.draws().items():
        assert np.allclose(values, np.concatenate([result[name], other[name]]), rtol=1e-6)
    for name, values in both.history.items():
        assert same(values, np.concatenate([result.history[name], other.history[name]]))
    assert both.gradients == result.gradients + other.gradients
    assert len(both.outcome.nonfinite) == 4 and len(both.posteriors) in (1, 4)


def test_joined_runs_are_judged_over_all_chains(kind, both):
    if kind == "mala":
        assert both.verdict["R-hat"].value == pytest.approx(
            float(np.nanmax(infer.diagnostics.rhat(both.z))), rel=1e-6
        )
        assert both.verdict["bulk ESS"].value == pytest.approx(
            float(np.min(infer.diagnostics.ess_bulk(both.z))), rel=1e-6
        )
    else:
        assert both.verdict["spread between restarts"].meaning.startswith("4 restarts")
        assert both.best == int(np.argmin(both.history["loss"][:, -15:].mean(axis=1)))


def test_a_joined_result_is_saved_but_not_carried_on(both, tmp_path, kind, algorithm):
    both.save(tmp_path / "both")
    loaded = infer.load(tmp_path / "both", make_target(), algorithm)
    assert_same_answer(loaded, both)
    with pytest.raises(ValueError, match="joins 2 runs"):
        loaded.extend(steps=10)
    options = SETTINGS[kind] | {"chains": 4}
    with pytest.raises(ValueError, match="was run with key"):
        infer.fit(make_target(), algorithm, key=0, steps=80, resume=tmp_path / "both", **options)
    third = run(kind, 2)
    assert infer.combine([loaded, third]).z.shape[0] == 6
    with pytest.raises(ValueError, match="results 0 and 1 come from the same key"):
        infer.combine([loaded, run(kind, 1)])


def test_files_are_joined_where_one_knows_the_target(path, other, both, algorithm):
    joined = infer.combine([infer.load(path), other])
    assert_same_answer(joined, both)
    with pytest.raises(ValueError, match=r"infer\.load\(path, target, algorithm\)"):
        infer.combine([infer.load(path)])


def test_runs_that_do_not_belong_together_are_not_joined(result, kind):
    with pytest.raises(ValueError, match="the same key"):
        infer.combine([result, result])
    with pytest.raises(ValueError, match="carry the shorter on"):
        infer.combine([result, run(kind, 1, steps=40)])
    with pytest.raises(ValueError, match="Only runs of one algorithm"):
        infer.combine([result, run({"mala": "vi", "vi": "mala"}[kind], 1)])
    for wrong in ([], result, None, [result, "run.infer"]):
        with pytest.raises(TypeError, match="combine needs"):
            checked(wrong)
        with pytest.raises(TypeError):
            infer.combine(wrong)


def test_runs_on_other_data_are_not_joined(result, algorithm, kind):
    options = {"key": 4, "steps": STEPS, "progress": False} | SETTINGS[kind]
    elsewhere = infer.fit(make_target(center=1.0), algorithm, **options)
    with pytest.raises(ValueError, match="another posterior"):
        infer.combine([result, elsewhere])


def test_a_run_with_no_draws_is_saved(tmp_path):
    target = make_target()
    result = infer.fit(
        target, MALA, key=0, steps=10, warmup=50, chains=2, progress=False,
        callbacks=[lambda progress: True],
    )  # fmt: skip
    assert result.z.shape[1] == 0
    result.save(tmp_path / "empty")
    loaded = infer.load(tmp_path / "empty")
    assert loaded.verdict.status == "failed" and loaded["x"].shape == (2, 0, 2)
    assert dataclasses.asdict(loaded.outcome) == dataclasses.asdict(result.outcome)


@pytest.mark.slow
def test_two_nuts_runs_are_joined_into_one():
    runs = [
        infer.fit(make_target(), infer.NUTS(), key=key, warmup=50, steps=60, chains=2)
        for key in (0, 1)
    ]
    both = infer.combine(runs)
    assert same(both.z, np.concatenate([r.z for r in runs]))
    for name, values in both.history.items():
        assert same(values, np.concatenate([r.history[name] for r in runs]))
    tree = both.to_arviz()
    assert tree["sample_stats"]["energy"].shape == (4, 60)
    count = sum(int(r.history["diverging"].sum()) for r in runs)
    assert both.verdict["divergences"].value == count
