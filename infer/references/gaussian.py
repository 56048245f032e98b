"""Gaussian approximations, and points to take expectations at."""

from infer.references.citation import Citation, EntryType
from infer.references.works import (
    ANNALS,
    ICML,
    JASA,
    JMLR,
    NEURIPS,
    article,
    proceedings,
)

DIAO_2023 = proceedings(
    "Diao, Michael Ziyang and Balasubramanian, Krishnakumar and Chewi, Sinho and Salim, Adil",
    "Forward-backward Gaussian variational inference via JKO in the Bures-Wasserstein space",
    ICML,
    2023,
)
LAMBERT_2022 = proceedings(
    "Lambert, Marc and Chewi, Sinho and Bach, Francis and Bonnabel, Silvère and Rigollet, Philippe",
    "Variational inference via Wasserstein gradient flows",
    NEURIPS,
    2022,
)
KHAN_2023 = article(
    "Khan, Mohammad Emtiyaz and Rue, Håvard", "The Bayesian learning rule", JMLR, 2023, "24", "281"
)
LIN_2020 = proceedings(
    "Lin, Wu and Schmidt, Mark and Khan, Mohammad Emtiyaz",
    "Handling the positive-definite constraint in the Bayesian learning rule",
    ICML,
    2020,
)
CAI_2024 = proceedings(
    "Cai, Diana and Modi, Chirag and Pillaud-Vivien, Loucas and Margossian, Charles C. and "
    "Gower, Robert M. and Blei, David M. and Saul, Lawrence K.",
    "Batch and match: black-box variational inference with a score-based divergence",
    ICML,
    2024,
)
MODI_2023 = proceedings(
    "Modi, Chirag and Gower, Robert M. and Margossian, Charles C. and Yao, Yuling and "
    "Blei, David M. and Saul, Lawrence K.",
    "Variational inference with Gaussian score matching",
    NEURIPS,
    2023,
)
GIORDANO_2024 = article(
    "Giordano, Ryan and Ingram, Martin and Broderick, Tamara",
    "Black box variational inference with a deterministic objective: faster, more accurate, and "
    "even more black box",
    JMLR,
    2024,
    "25",
    "18",
)
TIERNEY_1986 = article(
    "Tierney, Luke and Kadane, Joseph B.",
    "Accurate approximations for posterior moments and marginal densities",
    JASA,
    1986,
    "81",
    "393",
)
ZHANG_2022 = article(
    "Zhang, Lu and Carpenter, Bob and Gelman, Andrew and Vehtari, Aki",
    "Pathfinder: parallel quasi-Newton variational inference",
    JMLR,
    2022,
    "23",
    "306",
)
DOMKE_2020 = proceedings(
    "Domke, Justin",
    "Provable smoothness guarantees for black-box variational inference",
    ICML,
    2020,
)
KHALED_2023 = proceedings(
    "Khaled, Ahmed and Mishchenko, Konstantin and Jin, Chi",
    "DoWG unleashed: an efficient universal parameter-free gradient descent method",
    NEURIPS,
    2023,
)
KATSEVICH_2024 = article(
    "Katsevich, Anya and Rigollet, Philippe",
    "On the approximation accuracy of Gaussian variational inference",
    ANNALS,
    2024,
    "52",
)
OWEN_1998 = article(
    "Owen, Art B.",
    "Scrambling Sobol' and Niederreiter-Xing points",
    "Journal of Complexity",
    1998,
    "14",
)
MATOUSEK_1998 = article(
    "Matoušek, Jiří",
    "On the L2-discrepancy for anchored boxes",
    "Journal of Complexity",
    1998,
    "14",
)
SARKKA_2007 = article(
    "Särkkä, Simo",
    "On unscented Kalman filtering for state estimation of continuous-time nonlinear systems",
    "IEEE Transactions on Automatic Control",
    2007,
    "52",
)
NIEDERREITER_1992 = Citation(
    "Niederreiter, Harald",
    "Random number generation and quasi-Monte Carlo methods",
    "SIAM",
    1992,
    EntryType.BOOK,
)
CRANLEY_1976 = article(
    "Cranley, R. and Patterson, T. N. L.",
    "Randomization of number theoretic methods for multiple integration",
    "SIAM Journal on Numerical Analysis",
    1976,
    "13",
)
UHLMANN_1995 = Citation(
    "Uhlmann, Jeffrey K.",
    "Dynamic map building and localization: new theoretical foundations",
    "University of Oxford",
    1995,
    EntryType.THESIS,
)
