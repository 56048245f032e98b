"""Variants of the VAE on the same data; writes tables into the docs.

    python tests/reproduce/vae.py [--only NAME ...] [--only-print]

digits       binarized digits: likelihood, active latent variables, quality of samples
codes        the same by discrete codes
importance   the toy of variational importance sampling: one latent variable, quadrature
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import vae_importance
from experiments import Found, run
from sklearn.datasets import load_digits

import infer
from infer import regularizers
from infer.likelihoods import Bernoulli

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD = ROOT / "docs" / "vae.md", ROOT / "build" / "vae.json"
STEPS, BATCH, LATENT = 15_000, 64, 8


def split() -> tuple[np.ndarray, np.ndarray]:
    """The digits with pixels >= 8 as ones, in a fixed random order: 1437 rows and 360."""
    x = (load_digits().data >= 8).astype(np.float32)
    x = x[np.random.default_rng(0).permutation(len(x))]
    return x[:1437], x[1437:]


TRAIN, TEST = split()
IWAE_10 = {"objective": infer.IWAE(), "n_samples": 10}
WAKE, CHI = (infer.ForwardKL(), infer.IWAE()), (infer.ChiSquare(), infer.IWAE())
MIWAE = infer.Repeated(infer.IWAE(), groups=2)
CIWAE = infer.Blend((infer.ReverseKL(), infer.IWAE()), (0.05, 0.95))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("", {}),
    "VAE, ordinary gradient": ("estimator=Reparam()", {"estimator": infer.Reparam()}),
    "VAE, closed-form KL": (
        "beta=0, regularizers=(KL(),), estimator=Reparam()",
        {"beta": 0.0, "regularizers": (regularizers.KL(),), "estimator": infer.Reparam()},
    ),
    "free bits 0.1": (
        "beta=0, regularizers=(KL(free_bits=0.1),), estimator=Reparam()",
        {
            "beta": 0.0,
            "regularizers": (regularizers.KL(free_bits=0.1),),
            "estimator": infer.Reparam(),
        },
    ),
    "beta-VAE": ("beta=0.5", {"beta": 0.5}),
    "IWAE": ("objective=IWAE(), n_samples=10", IWAE_10),
    "VR-IWAE": (
        "objective=Renyi(0.5), n_samples=10",
        {"objective": infer.Renyi(0.5), "n_samples": 10},
    ),
    "PIWAE": (
        "objective=(Repeated(IWAE(), 2), IWAE()), n_samples=10",
        {"objective": (MIWAE, infer.IWAE()), "n_samples": 10},
    ),
    "CIWAE": (
        "objective=Blend((ReverseKL(), IWAE()), (.05, .95)), n_samples=10",
        {"objective": CIWAE, "n_samples": 10},
    ),
    "wake-wake": (
        "objective=(ForwardKL(), IWAE()), n_samples=10",
        {"objective": WAKE, "n_samples": 10},
    ),
    "VIS": ("objective=(ChiSquare(), IWAE()), n_samples=10", {"objective": CHI, "n_samples": 10}),
    "full covariance": ("posterior=FullRank(1.0)", {"posterior": infer.FullRank(1.0)}),
    "flow posterior": ("posterior=RealNVP(4)", {"posterior": infer.RealNVP(4)}),
    "mixture prior": (
        "prior=Mixture(MeanField(1.0), 10)",
        {"prior": infer.Mixture(infer.MeanField(1.0), 10)},
    ),
    "VampPrior": ("prior=VampPrior(50)", {"prior": infer.VampPrior(50)}),
    "flow prior": ("prior=RealNVP(4, scale=1.0)", {"prior": infer.RealNVP(4, scale=1.0)}),
    "InfoVAE": (
        "beta=0.5, regularizers=(MMD(50),)",
        {"beta": 0.5, "regularizers": (regularizers.MMD(50.0),)},
    ),
    "WAE": (
        "posterior=Point(), beta=0, regularizers=(MMD(50),)",
        {"posterior": infer.Point(), "beta": 0.0, "regularizers": (regularizers.MMD(50.0),)},
    ),
    "SWAE": (
        "posterior=Point(), beta=0, regularizers=(SlicedWasserstein(20),)",
        {
            "posterior": infer.Point(),
            "beta": 0.0,
            "regularizers": (regularizers.SlicedWasserstein(20.0),),
        },
    ),
    "two levels": (
        "posterior=HierarchicalPosterior(3), prior=HierarchicalPrior(3)",
        {"posterior": infer.HierarchicalPosterior(3), "prior": infer.HierarchicalPrior(3)},
    ),
}


CODES: dict[str, tuple[str, dict[str, Any]]] = {
    "categorical, leave-one-out": (
        "latent=6, posterior=Categorical(8), estimator=Score(), n_samples=8",
        {
            "latent": 6,
            "posterior": infer.Categorical(8),
            "prior": infer.UniformCategorical(8),
            "estimator": infer.Score(),
            "n_samples": 8,
        },
    ),
    "categorical, VIMCO": (
        "the same with objective=IWAE()",
        {
            "latent": 6,
            "posterior": infer.Categorical(8),
            "prior": infer.UniformCategorical(8),
            "objective": infer.IWAE(),
            "estimator": infer.Score(),
            "n_samples": 8,
        },
    ),
    "Gumbel-softmax": (
        "latent=6, posterior=Categorical(8, Relaxed(0.5)), estimator=Reparam()",
        {
            "latent": 6,
            "estimator": infer.Reparam(),
            "posterior": infer.Categorical(8, infer.Relaxed(0.5)),
            "prior": infer.UniformCategorical(8),
        },
    ),
    "VQ-VAE": (
        "posterior=VectorQuantized(32, width=2), beta=0, regularizers=(Commitment(),)",
        {
            "posterior": infer.VectorQuantized(32, width=2),
            "beta": 0.0,
            "regularizers": (infer.Commitment(),),
        },
    ),
    "finite scalar quantization": (
        "latent=6, posterior=FiniteScalar((5,) * 6), beta=0",
        {"latent": 6, "posterior": infer.FiniteScalar((5,) * 6), "beta": 0.0},
    ),
}


def digits() -> list[dict[str, Any]]:
    return variants(VARIANTS)


def codes() -> list[dict[str, Any]]:
    return variants(CODES)


def variants(chosen: dict[str, tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    data = infer.Data(TRAIN, batch_size=BATCH, held_out=infer.Data(TEST))
    rows = []
    for name, (settings, arguments) in chosen.items():
        clock = time.perf_counter()
        vae = infer.VAE(Bernoulli(), **({"latent": LATENT} | arguments))
        result = infer.fit(data, vae, key=0, steps=STEPS, progress=False)
        row: dict[str, Any] = {
            "variant": name,
            "settings": settings or "as it comes",
            "seconds": result.timings.run,
        }
        if result.model.head.has_density:
            looked = result.evidence(key=1, n_samples=2000)
            row |= {
                "NLL": -float(looked.log_evidence.mean()),
                "minus bound": -float(looked.elbo.mean()),
                "k-hat > .7": float(np.mean(looked.khat > 0.7)),
                "active": result.latents(key=1).active,
            }
        else:
            row["active"] = int(np.sum(np.var(result.encode(TEST), axis=0) > 0.01))
        quality = _quality(result.generate(1000, key=2))
        if chosen is CODES:  # the codes that were seen, as they were
            again = result.with_prior(infer.Empirical(result.encode()))
        else:
            again = result.ex_post(key=3)
        refitted = _quality(again.generate(1000, key=2))
        row |= {
            "Frechet": quality.generated.frechet,
            "Frechet ex post": refitted.generated.frechet,
            "coverage": quality.generated.coverage,
            "coverage ex post": refitted.generated.coverage,
            "floor": quality.floor.frechet,
            "ceiling": quality.ceiling.frechet,
            "coverage floor": quality.floor.coverage,
            "verdict": result.verdict.status,
            "all seconds": time.perf_counter() - clock,
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def _quality(x: jax.Array) -> Any:
    return infer.sample_quality(np.asarray(x), TRAIN, TEST, key=0)


def importance() -> list[dict[str, Any]]:
    return [
        {"method": name, "gap": spread(fits.gap), "error of the mean": spread(fits.error)}
        for name, fits in vae_importance.compare(batch_size=100, steps=2000).items()
    ]


def spread(values: np.ndarray) -> list[float]:
    return [float(np.mean(values)), float(np.std(values))]


EXPERIMENTS: dict[str, Callable[[], Any]] = {
    "digits": digits,
    "codes": codes,
    "importance": importance,
}


def tables(found: Found) -> str:
    parts = []
    if "digits" in found or "codes" in found:
        rows = found.get("digits", []) + found.get("codes", [])
        parts.append(
            "| variant | settings beside the default | NLL | minus bound | active | Frechet | ex "
            "post | coverage | ex post | seconds |\n|" + " --- |" * 10
        )
        for r in rows:
            known = "NLL" in r
            parts[-1] += (
                f"\n| {r['variant']} | `{r['settings']}` | "
                + (f"{r['NLL']:.2f} | {r['minus bound']:.2f}" if known else "no density |")
                + f" | {r['active']} | {r['Frechet']:.2f} | {r['Frechet ex post']:.2f} | "
                f"{r['coverage']:.2f} | {r['coverage ex post']:.2f} | {r['seconds']:.0f} |"
            )
        first = rows[0]
        parts.append(
            f"Real against real rows: Frechet {first['floor']:.2f}, coverage "
            f"{first['coverage floor']:.2f}; shuffled columns: Frechet {first['ceiling']:.2f}."
        )
    if "importance" in found:
        lines = [
            "| method | nats below the best p(x) | error of E(z \\| x) |",
            "| --- | --- | --- |",
        ]
        for r in found["importance"]:
            gap, error = r["gap"], r["error of the mean"]
            lines.append(
                f"| {r['method']} | {gap[0]:.4f} +/- {gap[1]:.4f} | {error[0]:.2f} +/- "
                f"{error[1]:.2f} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    run(__doc__ or "", EXPERIMENTS, tables, RECORD, PAGE, "variants")
