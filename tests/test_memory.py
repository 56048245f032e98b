"""Memory: asked for before a run, and a run that meets its end keeps what it had."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_reliability import CHUNK, STEPS, TARGET, WARMUP, assert_same, fit, whole

import infer
import infer.run.loop
import infer.run.memory
from infer.run.chunk import Phase, advance
from infer.run.memory import free_on, free_on_host, row_bytes

MEMINFO = "MemTotal: 16000 kB\nMemFree: 100 kB\nMemAvailable:    8000 kB\nSwapFree: 1000 kB\n"


def tree(root, files):
    """A file system with what Linux tells of memory."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


GROUP = "sys/fs/cgroup/job/step/"
LEGACY = "sys/fs/cgroup/memory/box/"


@pytest.mark.parametrize(
    "files, free",
    [
        ({}, 9000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                GROUP + "memory.max": "5000000\n",
                GROUP + "memory.current": "2000000\n",
                GROUP + "memory.stat": "anon 1\ninactive_file 500000\n",
            },
            3_500_000,
        ),
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                GROUP + "memory.max": "max\n",
                GROUP + "memory.current": "2000000\n",
                "sys/fs/cgroup/job/memory.max": "4000000\n",
                "sys/fs/cgroup/job/memory.current": "3900000\n",
            },
            100_000,
        ),
        (
            {
                "proc/self/cgroup": "5:devices:/\n4:memory:/box\n0::/\n",
                LEGACY + "memory.limit_in_bytes": "6000000\n",
                LEGACY + "memory.usage_in_bytes": "7000000\n",
                LEGACY + "memory.stat": "total_inactive_file 1500000\n",
            },
            500_000,
        ),
    ],
)
def test_free_memory_is_the_least_that_anyone_leaves(files, free, tmp_path):
    assert free_on_host(tree(tmp_path, files)) == free


def test_where_nobody_tells_nothing_is_refused(tmp_path, monkeypatch):
    assert free_on_host(tmp_path) is None
    assert free_on(jax.devices("cpu")[0]) is None
    monkeypatch.setattr(infer.run.memory, "free_on_host", lambda: None)
    fit()


def test_free_memory_of_this_machine():
    free = free_on_host()
    if free is None:
        pytest.skip("this system does not tell")
    assert 10**7 < free < 10**14


@dataclasses.dataclass
class Card:
    """An accelerator that tells how full it is."""

    limit: int
    in_use: int
    platform: str = "gpu"

    def memory_stats(self):
        return {"bytes_limit": self.limit, "bytes_in_use": self.in_use}


def test_a_run_that_does_not_fit_is_refused_before_its_first_step(monkeypatch):
    began = []
    options = {"chains": 2, "callbacks": [began.append]}
    row = row_bytes(infer.MALA(), whole().trail.carry)
    monkeypatch.setattr(infer.run.memory, "free_on_host", lambda: 10**9)
    most = 10**9 // (2 * row)
    with pytest.raises(MemoryError, match="MALA needs 2.* GB of main memory, of which 1 GB") as e:
        fit(steps=2 * most, **options)
    assert not began
    for advice in ("fewer chains=", f"chunk= (now {CHUNK})", "a greater thin="):
        assert advice in str(e.value)
    steps = 1000 * (most // 400)
    fit(steps=steps, thin=1000, max_seconds=1e-9, **options)  # thinned it fits
    assert began
    assert row >= 2 * (2 * 4 + 4)  # of two chains two coordinates and a loss


def test_a_chunk_that_does_not_fit_on_a_device_is_refused(monkeypatch):
    real = infer.run.memory.check_memory
    devices = [Card(10**6, 0), Card(10**6, 10**6 - 100)]

    def check(need, here, *rest):
        real(need, devices, *rest)

    monkeypatch.setattr(infer.run.loop, "check_memory", check)
    with pytest.raises(MemoryError, match="of memory of Card.*, of which 100 B are free"):
        fit()
    devices.pop()
    fit()


@pytest.mark.parametrize(
    "algorithm, advice",
    [
        (infer.VI(n_samples=4), "a smaller n_samples=, a smaller at_once=, fewer chains="),
        (infer.SVGD(), "a smaller n_particles=, fewer chains="),
    ],
)
def test_the_advice_is_for_the_algorithm(algorithm, advice):
    told = infer.run.memory.remedies(algorithm, 100)
    assert told.startswith(advice) and "thin" not in told


def test_the_estimate_counts_what_a_chunk_takes(monkeypatch):
    """Draws of 50 coordinates, 4 chains, 1000 rows: 0.8 MB of results, and as much of draws."""
    needs = []
    monkeypatch.setattr(infer.run.loop, "check_memory", lambda need, *rest: needs.append(need))
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(50))
    infer.fit(target, infer.ULA(), key=0, steps=2000, chunk=1000, warmup=0, max_seconds=1e-9)
    rows = 4 * 50 * 4 * 1000
    assert rows < needs[0].program < 4 * rows
    assert 2 * 2 * rows < needs[0].store < 3 * 2 * rows


# On the way -----------------------------------------------------------------------------------


def exhausted(*arguments):
    raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.\nmore"
    )


def test_a_chunk_that_ran_out_is_halved_until_it_fits(monkeypatch):
    tried = []

    def small(algorithm, problem, keys, carry, schedule, rows, phase):
        if phase is Phase.SAMPLING:
            tried.append(rows)
            if rows > 12:
                exhausted()
        return advance(algorithm, problem, keys, carry, schedule, rows, phase)

    monkeypatch.setattr(infer.run.loop, "advance", small)
    monkeypatch.setattr(infer.run.loop, "HELPS", 0)
    result = fit(chunk=40)
    assert sorted(set(tried), reverse=True) == [40, 20, 10]
    assert_same(result, whole())


@pytest.mark.parametrize("raised", [exhausted, lambda *a: (_ for _ in ()).throw(MemoryError())])
def test_a_run_that_runs_out_of_memory_keeps_what_it_had(raised, monkeypatch, tmp_path):
    path = tmp_path / "run.infer"

    def fill(progress):
        if progress.phase == "steps" and progress.step == 30:
            monkeypatch.setattr(infer.run.loop, "advance", raised)

    with pytest.warns(RuntimeWarning, match="MALA ran out of memory after 30 steps") as told:
        result = fit(callbacks=[fill], checkpoint=path)
    assert "To go on, set fewer chains=, a smaller chunk=" in str(told[0].message)
    assert "\n" not in str(told[0].message)
    assert result.outcome.ending is infer.Ending.OUT_OF_MEMORY
    assert "ran out of memory" in result.verdict["outcome"].meaning
    np.testing.assert_array_equal(result.z, whole().z[:, :30])
    monkeypatch.undo()
    assert_same(result.extend(steps=STEPS - 30, progress=False), whole())
    assert_same(fit(resume=path), whole())


def test_memory_that_runs_out_while_warming_up_leaves_a_failed_result(monkeypatch):
    monkeypatch.setattr(infer.run.loop, "advance", exhausted)
    with pytest.warns(RuntimeWarning, match="after 0 steps"):
        result = fit()
    assert result.z.shape == (2, 0, 2) and result.verdict.status == "failed"


def test_other_errors_of_the_device_are_no_lack_of_memory(monkeypatch):
    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device was lost")

    monkeypatch.setattr(infer.run.loop, "advance", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device was lost"):
        fit()


def test_more_steps_than_have_addresses_are_refused():
    for options in ({"steps": 2**31}, {"steps": 2**31 - 10, "warmup": 10}):
        with pytest.raises(ValueError, match="warmup \\+ steps must be below 2147483648"):
            fit(**options)
    with pytest.raises(ValueError, match="must be below 2147483648"):
        whole().extend(steps=2**31 - STEPS - WARMUP)
    assert TARGET.dim == 2
