"""`make bench`: our time and memory beside the peers', in one run; writes docs/benchmarks.md."""

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "benchmarks.md"
CASES = {
    "vi": "Variational inference: the second fit of a session",
    "external": "BlackJAX: the sampling phase of its kernels",
    "svgd": "SVGD: one step",
    "gaussian": "Gaussian VI: time to the best Gaussian",
    "flows": "Flows: one gradient of the evidence lower bound",
    "flow_training": "Flows: training one beside the guides of NumPyro and the trainer of flowjax",
    "langevin": "Langevin: time of a step, gradients to a given error",
    "vae": "VAE: one step beside NumPyro, memory of the evidence",
}
PACKAGES = ("jax", "numpyro", "blackjax", "optax", "numpy")
HEAD = """# Benchmarks

Written by `make bench`, last on {date}, on {machine}, Python {python}, {versions}. Every number is
the median of 3 to 9 interleaved repeats in one process, unless its section says otherwise; results
are waited for; compilation is left out unless a row says otherwise. In the first table `ratio` is
the peer's time over ours; in the second it is ours over that of a scan written by hand; in the
third a column says what it divides, and the bare step is three matrix products and one exponential,
with a fixed bandwidth; in the fourth it is the time over that of `infer FBGVI()`; in the fifth it
is over `Reparam`; in the last two it is the time over that of a scan written by hand.
"""


def machine() -> str:
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{os.cpu_count()} cores of {model}, {platform.system()}"


def tables(rows: list[dict[str, Any]]) -> str:
    """A table per value of "table", each with the columns that it fills."""
    names = list(dict.fromkeys(row.get("table", "") for row in rows))
    parts = []
    for name in names:
        inside = [
            {k: v for k, v in row.items() if k not in ("table", "repeats")}
            for row in rows
            if row.get("table", "") == name
        ]
        columns = list(dict.fromkeys(column for row in inside for column in row))
        lines = [f"{name}:\n"] if name else []
        lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        for row in inside:
            lines.append("| " + " | ".join(cell(row.get(c, "")) for c in columns) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def one(name: str) -> None:
    """Run one case in this process and print its rows as JSON on the last line."""
    sys.path.insert(0, str(HERE))
    module = __import__(name)
    rows = module.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "peak": peak, "note": getattr(module, "NOTE", "")}))


def main() -> None:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    page = HEAD.format(
        date=datetime.date.today(),
        machine=machine(),
        python=platform.python_version(),
        versions=versions,
    )
    for name, title in CASES.items():
        command = [sys.executable, __file__, name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        text = f"\n## {title}\n\n"
        text += f"{found['note']}\n\n" if found["note"] else ""
        text += f"{tables(found['rows'])}\n\n"
        text += f"Peak memory of the process: {found['peak']:.0f} MB.\n"
        page += text
        print(text)
    PAGE.write_text(page)


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
