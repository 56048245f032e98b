"""What answers and samples are judged by, and made better with."""

from infer.references.works import ICLR, ICML, JASA, JMLR, NEURIPS, article, preprint, proceedings

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
