"""What a long day brings: densities that raise or turn NaN, many fits, several devices."""

import contextlib
import os
import socket
import subprocess
import sys
import traceback
from collections import deque
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_reliability import STEPS, TARGET, assert_same, fit

import infer
from infer.run.store import read

ROOT = Path(__file__).resolve().parents[1]


# Densities that fail --------------------------------------------------------------------------


def test_an_error_in_the_density_names_its_line_and_leaves_no_file(tmp_path):
    calls = deque()  # a list would be read as data

    def log_density(x):
        calls.append(0)
        if len(calls) > built:
            raise ZeroDivisionError("no scale")  # this line
        return -0.5 * jnp.sum(x**2)

    built = 10**6
    target = infer.from_log_density(log_density, jnp.zeros(2))
    built = len(calls)
    with pytest.raises(ZeroDivisionError, match="no scale") as error:
        infer.fit(target, infer.MALA(), key=0, checkpoint=tmp_path / "run.infer", progress=False)
    place = traceback.extract_tb(error.value.__traceback__)[-1]
    assert place.filename == __file__ and "# this line" in (place.line or "")
    assert os.listdir(tmp_path) == []


def test_a_solver_that_raises_on_the_way_leaves_the_last_chunk(tmp_path):
    """A density that asks the host, which refuses from some evaluation on, and later does not."""
    path, left = tmp_path / "run.infer", [10**6]

    def ask(x):
        left[0] -= 1
        if left[0] < 0:
            raise ArithmeticError("the solver did not converge")
        return np.zeros((), np.float32)

    def log_density(x):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        still = jax.lax.stop_gradient(x)
        told = jax.pure_callback(ask, shape, still, vmap_method="sequential")
        return -0.5 * jnp.sum(x**2) + told

    target = infer.from_log_density(log_density, jnp.zeros(2))
    options = {"key": 0, "steps": 40, "warmup": 0, "chains": 1, "chunk": 5, "progress": False}
    expected = infer.fit(target, infer.ULA(), **options)

    def tire(progress):
        if progress.step == 20:
            left[0] = 2

    with pytest.raises(Exception, match="the solver did not converge") as error:
        infer.fit(target, infer.ULA(), checkpoint=path, callbacks=[tire], **options)
    assert "its first 20 iterations are kept" in error.value.__notes__[0]
    assert read(path)[1]["trail"]["taken"] == 20
    left[0] = 10**6
    assert_same(infer.fit(target, infer.ULA(), resume=path, **options), expected)


def test_an_approximation_that_drifts_into_a_hole_keeps_its_last_finite_state():
    """The density grows towards a region where it is NaN: the fit gets there after some steps."""

    def log_density(x):
        return jnp.where(x[0] > 3, jnp.nan, x[0] - 0.01 * x[1] ** 2)

    target = infer.from_log_density(log_density, jnp.zeros(2))
    algorithm = infer.VI(n_samples=2, stopping=None)
    result = infer.fit(target, algorithm, key=1, steps=2000, chunk=200, progress=False)
    (first,) = result.outcome.first_nonfinite
    assert result.outcome.ending is infer.Ending.NONFINITE and first > 10
    assert result.outcome.steps == first
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.posterior))
    assert np.isfinite(result.history["loss"]).all() and result.history["loss"].shape == (1, first)
    assert result.verdict.status == "failed"
    assert f"the first at step {first}" in result.verdict["outcome"].meaning


# Many fits ------------------------------------------------------------------------------------


def log_density(x, data):
    return -0.5 * jnp.sum((x - data) ** 2)


def tiny(i):
    """A fit to data of its own."""
    target = infer.from_log_density(log_density, jnp.zeros(2), data=jnp.full(2, 0.01 * i))
    infer.fit(target, infer.ULA(), key=i, warmup=2, steps=4, chains=1, chunk=4, progress=False)


@contextlib.contextmanager
def compilations():
    """The compilations of this process, one entry each."""
    found = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_after_the_second_fit_nothing_compiles():
    with compilations() as found:
        tiny(0)
        tiny(1)
        seen = len(found)
        for i in range(2, 50):
            tiny(i)
    assert seen > 0 and len(found) == seen


def resident():
    """Bytes of this process in main memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


MANY = """
import sys
sys.path.insert(0, sys.argv[1])
from test_endurance import compilations, resident, tiny

with compilations() as found:
    for i in range(10_000):
        tiny(i)
        if i in (1, 999, 9999):
            print(len(found), resident(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_ten_thousand_fits_take_no_more_memory_than_a_thousand():
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(Path(__file__).parent)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    (second, _), (thousandth, early), (last, late) = (
        map(int, line.split()) for line in done.stdout.splitlines()
    )
    print(f"compiled {second}, {thousandth}, {last}; resident {early} and {late} bytes")
    assert second == thousandth == last
    assert late < early + 10_000_000  # a kilobyte a fit would be 9 MB


# Devices --------------------------------------------------------------------------------------


def test_any_number_of_devices_gives_the_same_numbers(tmp_path):
    """To rounding; and a run stopped on several devices goes on where there is one."""
    if len(jax.devices()) < 4:
        pytest.skip("needs 4 devices")
    path = tmp_path / "run.infer"
    usual = {"key": 3, "steps": 20, "warmup": 0, "chains": 4, "chunk": 5, "progress": False}
    usual |= {"init": {"x": np.arange(8.0).reshape(4, 2) / 4}}

    def fit(devices, **options):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("chains",))
        return infer.fit(TARGET, infer.ULA(), mesh=mesh, **(usual | options))

    plain = infer.fit(TARGET, infer.ULA(), **usual)
    fit(2, checkpoint=path, steps=10)
    back = infer.fit(TARGET, infer.ULA(), resume=path, **usual)
    for other in (fit(1), fit(2), fit(4), back):
        np.testing.assert_allclose(other.z, plain.z, rtol=1e-5, atol=1e-5)
        assert other.outcome == plain.outcome and other.gradients == plain.gradients
    assert np.abs(np.diff(plain.z, axis=1)).min() > 1e-4  # so that a wrong step would be seen


PROCESS = """
import sys
tests, port, me, folder = sys.argv[1:]
sys.path.insert(0, tests)
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"localhost:{port}", 2, int(me))
import numpy as np
from test_reliability import fit

mesh = lambda devices: jax.sharding.Mesh(np.array(devices), ("chains",))
assert jax.process_count() == 2 and len(jax.devices()) == 4 and len(jax.local_devices()) == 2
try:
    fit(mesh=mesh(jax.devices()), chains=4)
except ValueError as error:
    assert "devices of other processes" in str(error)
else:
    raise AssertionError("a mesh over processes was taken")
fit(mesh=mesh(jax.local_devices()), key=int(me)).save(f"{folder}/{me}")
"""


@pytest.mark.slow
def test_two_processes_fit_side_by_side_and_are_joined(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    arguments = (str(Path(__file__).parent), port)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments, str(me), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in (0, 1)
    ]
    for process in processes:
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
    both = infer.combine([infer.load(tmp_path / str(me), TARGET, infer.MALA()) for me in (0, 1)])
    alone = infer.combine([fit(key=me) for me in (0, 1)])
    assert both.z.shape == (4, STEPS, 2)
    np.testing.assert_allclose(both.z, alone.z, rtol=1e-4, atol=1e-5)
