"""What every test may rely on.

Nothing here imports `infer`: the shape checker has to be in place before the package is.
"""

import gc
import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import config

# Four CPU devices, so that layouts over several devices are tested on any machine.
jax.config.update("jax_num_cpu_devices", 4)

# `make test` names a folder for compiled functions, which the workers share; without the
# variable nothing is kept.
if cache := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    Path(cache).mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", cache)


# A compiled program takes some memory maps, of which Linux allows a process 65,530; a worker that
# runs out of them crashes.
MAPS = Path("/proc/self/maps")
MANY_MAPS = 30_000


@pytest.fixture(autouse=True)
def _few_compiled_programs():
    """Forget compiled programs when there are too many; the folder still has them."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key():
    """A key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Float64 for the length of one test; functions compiled outside compile anew inside."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def posteriordb() -> Path:
    """The folder of a posteriordb database, named by INFER_POSTERIORDB."""
    named = os.environ.get("INFER_POSTERIORDB")
    if not named:
        pytest.skip("INFER_POSTERIORDB does not name a posteriordb database")
    path = Path(named)
    if not (path / "posteriors").is_dir():
        pytest.fail(f"INFER_POSTERIORDB={named} has no folder 'posteriors'")
    return path


@pytest.fixture
def unchecked():
    """A user has no shape checker: what is tested are the messages of the library itself."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
