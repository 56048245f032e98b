"""Programs that answers are computed with."""

from infer.references.citation import Citation, EntryType
from infer.references.works import preprint


def this_library(version: str) -> Citation:
    """The library itself, in this version."""
    return Citation(
        "{the authors of infer}",
        "infer: Bayesian inference on JAX",
        f"version {version}",
        2026,
        EntryType.MISC,
        name="infer2026",
    )


JAX = Citation(
    "Bradbury, James and Frostig, Roy and Hawkins, Peter and Johnson, Matthew James and "
    "Leary, Chris and Maclaurin, Dougal and Necula, George and Paszke, Adam and "
    "VanderPlas, Jake and Wanderman-Milne, Skye and Zhang, Qiao",
    "JAX: composable transformations of Python+NumPy programs",
    "Software",
    2018,
    EntryType.MISC,
    url="https://github.com/jax-ml/jax",
    name="jax2018github",
)
BLACKJAX = preprint(
    "Cabezas, Alberto and Corenflos, Adrien and Lao, Junpeng and Louf, Rémi",
    "BlackJAX: composable Bayesian inference in JAX",
    "2402.10797",
    2024,
)
NUMPYRO = preprint(
    "Phan, Du and Pradhan, Neeraj and Jankowiak, Martin",
    "Composable effects for flexible and accelerated probabilistic programming in NumPyro",
    "1912.11554",
    2019,
)
OPTAX = Citation(
    "{DeepMind} and others",
    "The DeepMind JAX ecosystem",
    "Software",
    2020,
    EntryType.MISC,
    url="https://github.com/google-deepmind",
    name="deepmind2020jax",
)
EQUINOX = preprint(
    "Kidger, Patrick and Garcia, Cristian",
    "Equinox: neural networks in JAX via callable PyTrees and filtered transformations",
    "2111.00254",
    2021,
)
FLOWJAX = Citation(
    "Ward, Daniel",
    "FlowJAX: distributions and normalizing flows in JAX",
    "Software",
    2023,
    EntryType.MISC,
    url="https://github.com/danielward27/flowjax",
)

# A part that comes from one of these packages cites it.
PACKAGES = {
    "equinox": EQUINOX,
    "flowjax": FLOWJAX,
    "numpyro": NUMPYRO,
    "optax": OPTAX,
}
