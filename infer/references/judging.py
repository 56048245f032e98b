"""What answers and samples are judged by, and made better with."""

from infer.references.citation import Citation
from infer.references.works import (
    ANNALS,
    ICLR,
    ICML,
    JASA,
    JMLR,
    NEURIPS,
    STATISTICS_AND_COMPUTING,
    article,
    preprint,
    proceedings,
)

TALTS_2018 = preprint(
    "Talts, Sean and Betancourt, Michael and Simpson, Daniel and Vehtari, Aki and Gelman, Andrew",
    "Validating Bayesian inference algorithms with simulation-based calibration",
    "1804.06788",
    2018,
)
MODRAK_2025 = article(
    "Modrák, Martin and Moon, Angie H. and Kim, Shinyoung and Bürkner, Paul and Huurre, Niko and "
    "Faltejsková, Kateřina and Gelman, Andrew and Vehtari, Aki",
    "Simulation-based calibration checking for Bayesian computation: the choice of test "
    "quantities shapes sensitivity",
    "Bayesian Analysis",
    2025,
    "20",
    "2",
)
VEHTARI_2024 = article(
    "Vehtari, Aki and Simpson, Daniel and Gelman, Andrew and Yao, Yuling and Gabry, Jonah",
    "Pareto smoothed importance sampling",
    JMLR,
    2024,
    "25",
    "72",
)
OWEN_2000 = article(
    "Owen, Art and Zhou, Yi",
    "Safe and effective importance sampling",
    JASA,
    2000,
    "95",
    "449",
)
WU_2017 = proceedings(
    "Wu, Yuhuai and Burda, Yuri and Salakhutdinov, Ruslan and Grosse, Roger",
    "On the quantitative analysis of decoder-based generative models",
    ICLR,
    2017,
)
HEUSEL_2017 = proceedings(
    "Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and "
    "Hochreiter, Sepp",
    "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    NEURIPS,
    2017,
)
GRETTON_2012 = article(
    "Gretton, Arthur and Borgwardt, Karsten M. and Rasch, Malte J. and Schölkopf, Bernhard and "
    "Smola, Alexander",
    "A kernel two-sample test",
    JMLR,
    2012,
    "13",
    "25",
)
NAEEM_2020 = proceedings(
    "Naeem, Muhammad Ferjad and Oh, Seong Joon and Uh, Youngjung and Choi, Yunjey and Yoo, Jaejun",
    "Reliable fidelity and diversity metrics for generative models",
    ICML,
    2020,
)
LOPEZ_PAZ_2017 = proceedings(
    "Lopez-Paz, David and Oquab, Maxime",
    "Revisiting classifier two-sample tests",
    ICLR,
    2017,
)
THEIS_2016 = proceedings(
    "Theis, Lucas and van den Oord, Aäron and Bethge, Matthias",
    "A note on the evaluation of generative models",
    ICLR,
    2016,
)
STEIN_1981 = article(
    "Stein, Charles M.",
    "Estimation of the mean of a multivariate normal distribution",
    ANNALS,
    1981,
    "9",
    "6",
)
ROBNIK_2023_ENERGY = preprint(
    "Robnik, Jakob and Seljak, Uroš",
    "Fluctuation without dissipation: microcanonical Langevin Monte Carlo",
    "2303.18221",
    2023,
)
GEYER_1992 = article(
    "Geyer, Charles J.",
    "Practical Markov chain Monte Carlo",
    "Statistical Science",
    1992,
    "7",
    "4",
)
BETANCOURT_2016 = preprint(
    "Betancourt, Michael",
    "Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo",
    "1604.00695",
    2016,
)
VEHTARI_2021 = article(
    "Vehtari, Aki and Gelman, Andrew and Simpson, Daniel and Carpenter, Bob and "
    "Bürkner, Paul-Christian",
    r"Rank-normalization, folding, and localization: an improved $\widehat{R}$ for assessing "
    "convergence of MCMC",
    "Bayesian Analysis",
    2021,
    "16",
    "2",
)
MARGOSSIAN_2024 = Citation(
    "Margossian, Charles C. and Hoffman, Matthew D. and Sountsov, Pavel and "
    "Riou-Durand, Lionel and Vehtari, Aki and Gelman, Andrew",
    r"Nested $\widehat{R}$: assessing the convergence of Markov chain Monte Carlo when running "
    "many short chains",
    "Bayesian Analysis",
    2024,
)
SAILYNOJA_2022 = article(
    "Säilynoja, Teemu and Bürkner, Paul-Christian and Vehtari, Aki",
    "Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation "
    "and multiple sample comparison",
    STATISTICS_AND_COMPUTING,
    2022,
    "32",
)
GORHAM_2015 = proceedings(
    "Gorham, Jackson and Mackey, Lester",
    "Measuring sample quality with Stein's method",
    NEURIPS,
    2015,
)
LIU_2016_DISCREPANCY = proceedings(
    "Liu, Qiang and Lee, Jason D. and Jordan, Michael I.",
    "A kernelized Stein discrepancy for goodness-of-fit tests",
    ICML,
    2016,
)
ZHANG_2009 = article(
    "Zhang, Jin and Stephens, Michael A.",
    "A new and efficient estimation method for the generalized Pareto distribution",
    "Technometrics",
    2009,
    "51",
    "3",
)
SZEKELY_2013 = article(
    "Székely, Gábor J. and Rizzo, Maria L.",
    "Energy statistics: a class of statistics based on distances",
    "Journal of Statistical Planning and Inference",
    2013,
    "143",
    "8",
)
BONNEEL_2015 = article(
    "Bonneel, Nicolas and Rabin, Julien and Peyré, Gabriel and Pfister, Hanspeter",
    "Sliced and Radon Wasserstein barycenters of measures",
    "Journal of Mathematical Imaging and Vision",
    2015,
    "51",
)
MANOLE_2022 = article(
    "Manole, Tudor and Balakrishnan, Sivaraman and Wasserman, Larry",
    "Minimax confidence intervals for the sliced Wasserstein distance",
    "Electronic Journal of Statistics",
    2022,
    "16",
    "1",
)
PHIPSON_2010 = article(
    "Phipson, Belinda and Smyth, Gordon K.",
    "Permutation P-values should never be zero: calculating exact P-values when permutations are "
    "randomly drawn",
    "Statistical Applications in Genetics and Molecular Biology",
    2010,
    "9",
    "1",
)
KYNKAANNIEMI_2019 = proceedings(
    "Kynkäänniemi, Tuomas and Karras, Tero and Laine, Samuli and Lehtinen, Jaakko and Aila, Timo",
    "Improved precision and recall metric for assessing generative models",
    NEURIPS,
    2019,
)
