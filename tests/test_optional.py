"""Without the optional libraries everything else works, and asking says what to install."""

import subprocess
import sys

SCRIPT = """
import importlib.abc, importlib.util, sys

MISSING = (
    "blackjax", "arviz_base", "arviz_stats", "arviz_plots", "xarray", "pandas", "matplotlib",
    "flowjax",
)

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
real = importlib.util.find_spec
importlib.util.find_spec = (
    lambda name, *a: None if name.split(".")[0] in MISSING else real(name, *a)
)

import jax.numpy as jnp
import infer

target = infer.from_log_density(lambda p: -0.5 * jnp.sum(p["x"] ** 2), {"x": jnp.zeros(2)})
fits = {
    "vi": infer.fit(target, infer.VI(), key=0, steps=300),
    "svgd": infer.fit(target, infer.SVGD(n_particles=20), key=0, steps=50),
    "mala": infer.fit(target, infer.MALA(), key=0, steps=100, warmup=100),
}
print(infer.compare(fits))
for result in fits.values():
    print(result.summary())

asked = {
    "nuts": infer.NUTS,
    "hmc": infer.HMC,
    "flowjax": lambda: infer.from_flowjax(None),
    "arviz": fits["mala"].to_arviz,
    "frame": fits["mala"].summary().to_dataframe,
    "plot": lambda: infer.plot_comparison(fits),
    "examine": lambda: fits["vi"].examine(key=0),
}
for name, ask in asked.items():
    try:
        ask()
    except ImportError as error:
        assert "pip install 'infer-jax[" in str(error), (name, error)
    else:
        raise AssertionError(f"{name} did not ask for its library")
print("all asked for")
"""


def test_without_the_optional_libraries():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("all asked for")
