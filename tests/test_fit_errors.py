"""Wrong use of `fit` raises before anything is compiled, and says what to write."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.core.support import positive
from infer.fit import as_key
from infer.starts import starting_points

DATA = jnp.array([1.0, 2.0, 0.5])


def log_density(params, data):
    z = (params["mu"] - data) / params["sigma"]
    return -0.5 * jnp.sum(z**2) - 4 * jnp.log(params["sigma"]) - params["sigma"]


def make(data=DATA, density=log_density, example=None, supports=None):
    example = {"mu": 0.0, "sigma": 1.0} if example is None else example
    supports = {"sigma": positive} if supports is None else supports
    return infer.from_log_density(density, example, supports=supports, data=data)


TARGET = make()
MINI = infer.from_log_density(
    example=jnp.zeros(1),
    log_prior=lambda x: -0.5 * jnp.sum(x**2),
    log_likelihood=lambda x, y: -0.5 * (y - x[0]) ** 2,
    data=DATA,
    batch_size=2,
)
MALA, VI = infer.MALA(), infer.VI()

pytestmark = pytest.mark.usefixtures("unchecked")


def fit(target=TARGET, algorithm=MALA, **options):
    return infer.fit(target, algorithm, **({"key": 0, "progress": False} | options))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": -3}, "steps must be an integer >= 1, got -3"),
        ({"steps": 10.0}, "steps must be an integer >= 1, got 10.0"),
        ({"steps": True}, "steps must be an integer >= 1, got True"),
        ({"chains": 0}, "chains must be an integer >= 1, got 0"),
        ({"thin": 0}, "thin must be an integer >= 1, got 0"),
        ({"draws": 0}, "draws must be an integer >= 1, got 0"),
        ({"chunk": 0}, "chunk must be an integer >= 1, got 0"),
        ({"steps": 10, "thin": 4}, "the last 2 would be lost. Write steps=8"),
        ({"steps": 3, "thin": 4}, "Write steps=4"),
        ({"warmup": -1}, "warmup must be an integer >= 0, got -1"),
        ({"warmup": 1.5}, "warmup must be an integer >= 0, got 1.5"),
        ({"steps": 10, "draws": 20}, "steps=10 and draws=20 with thin=1 do not agree"),
        ({"steps": 10, "draws": 10, "thin": 2}, "do not agree; give one of them"),
        ({"max_seconds": 0}, "max_seconds must be > 0, got 0"),
        ({"max_seconds": -1.0}, "max_seconds must be > 0, got -1.0"),
        ({"max_seconds": float("nan")}, "max_seconds must be > 0, got nan"),
        ({"on_nonfinite": "ignore"}, 'on_nonfinite must be "stop" or "skip", got \'ignore\''),
        ({"algorithm": VI, "warmup": 100}, "VI has no warm-up; leave out warmup=100"),
        ({"algorithm": VI, "steps": 0}, "steps must be an integer >= 1"),
        ({"target": MINI}, "MALA needs the density on all rows"),
        ({"target": MINI, "algorithm": infer.NUTS()}, "NUTS needs the density on all rows"),
        ({"target": MINI, "algorithm": infer.ULA()}, "infer.fit(target.full(), ...)"),
        ({"init": {"tau": 0.0}}, "needed ['mu', 'sigma'], got ['tau']"),
        ({"init": {"mu": 0.0, "sigma": 1.0, "tau": 1.0}}, "got ['mu', 'sigma', 'tau']"),
        ({"init": {"mu": np.zeros(3), "sigma": 1.0}}, "init has shapes {'mu': (3,), 'sigma': ()}"),
        ({"init": {"mu": 0.0, "sigma": -1.0}}, "sigma"),
        ({"init": {"mu": np.nan, "sigma": 1.0}}, "mu"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_values(options, message):
    with pytest.raises(ValueError) as error:
        fit(**options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"key": None}, "key must be an integer or a JAX PRNG key, got None; write key=0"),
        ({"key": "a"}, "got 'a'; write key=0"),
        ({"key": True}, "got True; write key=0"),
        ({"key": 1.5}, "got 1.5; write key=0"),
        (
            {"key": jax.random.split(jax.random.key(0), 3)},
            "one PRNG key, got an array of shape (3,)",
        ),
        ({"key": np.zeros(2)}, "type float64; write key=0"),
        ({"init": jnp.zeros_like}, "init needs values by name, or an earlier result, got the func"),
        ({"algorithm": infer.MALA}, "got the class; write infer.MALA()"),
        ({"algorithm": "mala"}, "fit needs an algorithm such as infer.NUTS(), got 'mala'"),
        ({"algorithm": None}, "fit needs an algorithm such as infer.NUTS(), got None"),
        ({"target": log_density}, "write infer.from_numpyro(model, ...)"),
        ({"step": 10}, "unexpected keyword argument 'step'"),
        ({"num_samples": 10}, "unexpected keyword argument 'num_samples'"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_kinds(options, message):
    with pytest.raises(TypeError) as error:
        fit(**options)
    assert message in str(error.value)


@pytest.mark.parametrize("key", [-1, 2**32])
def test_integers_that_would_be_another_key(key):
    with pytest.raises(ValueError, match=f"in 0, ..., 2..32 - 1, got {key}; write key=0"):
        fit(key=key)
    assert not np.array_equal(jax.random.key_data(as_key(2**32 - 1)), jax.random.PRNGKey(0))


def test_a_key_is_never_chosen_for_you():
    with pytest.raises(TypeError, match="key"):
        infer.fit(TARGET, MALA)


@pytest.mark.parametrize("key", [7, np.int64(7), jax.random.PRNGKey(7), jax.random.key(7)])
def test_keys_that_are_keys(key):
    np.testing.assert_array_equal(jax.random.key_data(as_key(key)), jax.random.PRNGKey(7))


@pytest.mark.parametrize(
    "make_algorithm, message",
    [
        (lambda: infer.MALA(step_size=-0.1), "step_size must be > 0, got -0.1; write step_size="),
        (lambda: infer.ULA(step_size=0.0), "step_size must be > 0"),
        (lambda: infer.NUTS(step_size=-1), "step_size must be > 0"),
        (lambda: infer.MALA(acceptance=1.0), "acceptance must lie in (0, 1), got 1.0"),
        (lambda: infer.NUTS(acceptance=0.0), "acceptance must lie in (0, 1), got 0.0"),
        (lambda: infer.MALA(step_size=np.nan), "step_size must be > 0, got nan"),
        (lambda: infer.HMC(n_leapfrog=0), "n_leapfrog >= 1, got 0"),
        (lambda: infer.VI(n_samples=0), "n_samples >= 1, got 0"),
        (lambda: infer.FullRank(scale=0.0), "scale must be > 0"),
        (lambda: infer.VI(n_samples=True), "n_samples"),
    ],
)
def test_wrong_settings(make_algorithm, message):
    with pytest.raises(ValueError) as error:
        make_algorithm()
    assert message in str(error.value)


def test_wrong_parts():
    with pytest.raises(TypeError, match=r"family=infer.FullRank\(\)"):
        infer.VI(family=infer.FullRank)
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        infer.VI(learning_rate=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepsize'"):
        infer.MALA(stepsize=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lr'"):
        infer.ADVI(lr=0.1)


def half(params):
    """Finite only where b > 10: no random start gets there."""
    return -(params["a"] ** 2) + jnp.log(params["b"] - 10)


def test_nan_at_the_start_names_the_term_and_the_site():
    data = DATA.at[1].set(jnp.nan)
    with pytest.raises(ValueError, match="data 'data' has 1 NaN.*'log_density' is nan"):
        fit(make(data))
    nowhere = make(None, half, {"a": 0.0, "b": 1.0}, {})
    with pytest.raises(ValueError, match=r"No starting point.*give one: `init="):
        fit(nowhere)
    root = make(
        None, lambda p: -(p["a"] ** 2) - jnp.sqrt(jnp.abs(p["b"])), {"a": 0.0, "b": 1.0}, {}
    )
    with pytest.raises(ValueError, match="gradient of site 'b' is not finite in 1 of 1"):
        fit(root, init={"a": 1.0, "b": 0.0})


# Files ----------------------------------------------------------------------------------------

RUN = {"steps": 14, "warmup": 7, "chains": 2, "chunk": 7}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The checkpoint of a run, in a folder that did not exist."""
    path = tmp_path_factory.mktemp("files") / "new" / "folder" / "run.infer"
    fit(**RUN, checkpoint=path)
    assert path.exists() and [p.name for p in path.parent.iterdir()] == ["run.infer"]
    return path


@pytest.fixture
def file(written, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copy(written, tmp_path / "copy.infer")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": make(None, half, {"a": 0.0, "b": 1.0}, {}), "init": None}, "on another model"),
        ({"target": make(DATA + 1)}, "on another posterior: the sites agree"),
        ({"target": make(supports={})}, "on another model"),
        (
            {"algorithm": infer.ULA()},
            "is a run of MALA, not of ULA; resume it with infer.MALA(...)",
        ),
        ({"algorithm": infer.MALA(step_size=0.2)}, "was run with settings = "),
        ({"key": 1}, "was run with key = [0, 0], now it is [0, 1]"),
        ({"chains": 3}, "was run with chains = 2, now it is 3"),
        ({"warmup": 8}, "was run with warmup = 7, now it is 8"),
        ({"thin": 2}, "was run with thin = 1, now it is 2"),
        ({"on_nonfinite": "skip"}, "was run with skip_nonfinite = False, now it is True"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_files_of_another_run(options, message, written):
    with pytest.raises(ValueError) as error:
        fit(**(RUN | options), resume=written)
    assert message in str(error.value) and str(written) in str(error.value)


def test_the_same_run_is_resumed(written):
    assert fit(**RUN, resume=written).outcome.steps == 14
    assert fit(**(RUN | {"steps": 21}), resume=written).outcome.steps == 21


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(**RUN, resume=tmp_path / "nowhere")


@pytest.mark.parametrize("part", [0.3, 0.99, 1.5])
def test_truncated_and_tampered_files(part, file):
    content = bytearray(file.read_bytes())
    if part < 1:
        content = content[: int(len(content) * part)]
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its checksum does not match"):
        fit(**RUN, resume=file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"hello\n" * 100, b"\x80\x04K\x01."])
def test_foreign_files(content, file):
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is not a file written by infer"):
        fit(**RUN, resume=file)


def test_a_file_of_another_precision(written):
    with jax.enable_x64(True), pytest.raises(ValueError, match="settings|precision"):
        fit(make(), infer.MALA(), **RUN, resume=written)


def test_wrong_extensions():
    result = fit(**RUN)
    with pytest.raises(ValueError, match="steps must be an integer >= 1"):
        result.extend(steps=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'thin'"):
        result.extend(steps=7, thin=3)
    with pytest.raises(ValueError, match="has 2 chains; leave out chains="):
        fit(init=result, chains=3)


def test_wrong_meshes():
    devices = np.array(jax.devices()[:1])
    with pytest.raises(ValueError, match="mesh needs one axis named one of .*got.*'x'"):
        fit(mesh=jax.sharding.Mesh(devices, ("x",)))
    if len(jax.devices()) >= 4:
        devices = np.array(jax.devices()[:4])
        with pytest.raises(ValueError, match="3 chains do not divide over 4 devices"):
            fit(chains=3, mesh=jax.sharding.Mesh(devices, ("chains",)))
        with pytest.raises(ValueError, match="data rows do not divide over 4 devices"):
            fit(mesh=jax.sharding.Mesh(devices, ("data",)))
        with pytest.raises(ValueError, match='has no draws to lay out along "samples"'):
            fit(mesh=jax.sharding.Mesh(devices, ("samples",)))
        with pytest.raises(ValueError, match="6 draws do not divide over 4 devices; choose n_sam"):
            mesh = jax.sharding.Mesh(devices, ("samples",))
            infer.fit(TARGET, infer.VI(n_samples=6), key=0, steps=5, mesh=mesh)


def test_sites_that_are_left_out_of_a_start_begin_as_without_it():
    """By name or by chain; each beside the start of the other site that the search finds."""
    key, chains = jax.random.key(3), 4
    free = starting_points(TARGET, key, chains, None)
    for given in (2.5, np.arange(1.0, 5.0)):
        z = starting_points(TARGET, key, chains, {"sigma": given})
        values = jax.vmap(TARGET.constrain)(z)
        np.testing.assert_allclose(values["sigma"], np.broadcast_to(given, chains), rtol=1e-5)
        np.testing.assert_array_equal(values["mu"], jax.vmap(TARGET.constrain)(free)["mu"])
    with pytest.raises(ValueError, match=r"init must give every site: .* got \['tau'\]"):
        starting_points(TARGET, key, chains, {"tau": 1.0})
