"""Stop a run, resume it from its checkpoint, extend it, save it, and join runs.

Whatever happens in between, the draws are those of one uninterrupted run, bit for bit.
"""

import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import infer


def log_density(z: jnp.ndarray) -> jnp.ndarray:
    """A correlated Gaussian with a bend."""
    return -0.5 * (z[0] ** 2 + (z[1] - 0.5 * z[0]) ** 2 / 0.3 + (z[2] - 0.2 * z[0] ** 2) ** 2)


def stop_half_way(progress: infer.run.loop.Progress) -> bool:
    """A callback sees the run after every chunk; one that returns True ends it."""
    return progress.phase == "steps" and progress.step >= 500


def main() -> None:
    target = infer.from_log_density(log_density, jnp.zeros(3))
    method = infer.MALA()
    whole = infer.fit(target, method, key=0, steps=1000)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.infer"
        part = infer.fit(
            target, method, key=0, steps=1000, chunk=100, checkpoint=path, callbacks=[stop_half_way]
        )
        print("stopped: ", part.outcome)
        resumed = infer.fit(target, method, key=0, steps=1000, resume=path)
        print("resumed: ", resumed.outcome)
        print("the same bits as the run that was not stopped:", np.array_equal(whole.z, resumed.z))

        longer = resumed.extend(steps=1000)
        again = infer.fit(target, method, key=0, steps=2000)
        print("extended:", longer.outcome, "- the same bits:", np.array_equal(longer.z, again.z))

        longer.save(path)
        print("a file alone gives", infer.load(path))

    # Runs of other keys, on other machines perhaps, become chains of one result.
    runs = [infer.fit(target, method, key=key, steps=2000) for key in (1, 2)]
    joined = infer.combine([again, *runs])
    print("joined:  ", joined)
    print(joined.summary())


if __name__ == "__main__":
    main()
