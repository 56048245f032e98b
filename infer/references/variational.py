"""Objectives, estimators of gradients, families and optimizers."""

from infer.references.citation import Citation, EntryType
from infer.references.works import (
    AISTATS,
    ICLR,
    ICML,
    JMLR,
    MACHINE_LEARNING,
    NEURIPS,
    article,
    proceedings,
)

KUCUKELBIR_2017 = article(
    "Kucukelbir, Alp and Tran, Dustin and Ranganath, Rajesh and Gelman, Andrew and Blei, David M.",
    "Automatic differentiation variational inference",
    JMLR,
    2017,
    "18",
    "14",
)
JORDAN_1999 = article(
    "Jordan, Michael I. and Ghahramani, Zoubin and Jaakkola, Tommi S. and Saul, Lawrence K.",
    "An introduction to variational methods for graphical models",
    MACHINE_LEARNING,
    1999,
    "37",
    "2",
)
LI_2016_RENYI = proceedings(
    "Li, Yingzhen and Turner, Richard E.",
    "Rényi divergence variational inference",
    NEURIPS,
    2016,
)
BURDA_2016 = proceedings(
    "Burda, Yuri and Grosse, Roger and Salakhutdinov, Ruslan",
    "Importance weighted autoencoders",
    ICLR,
    2016,
)
RAINFORTH_2018 = proceedings(
    "Rainforth, Tom and Kosiorek, Adam R. and Le, Tuan Anh and Maddison, Chris J. and "
    "Igl, Maximilian and Wood, Frank and Teh, Yee Whye",
    "Tighter variational bounds are not necessarily better",
    ICML,
    2018,
)
WAN_2020 = proceedings(
    "Wan, Neng and Li, Dapeng and Hovakimyan, Naira",
    "f-divergence variational inference",
    NEURIPS,
    2020,
)
BORNSCHEIN_2015 = proceedings(
    "Bornschein, Jörg and Bengio, Yoshua", "Reweighted wake-sleep", ICLR, 2015
)
DIENG_2017 = proceedings(
    "Dieng, Adji Bousso and Tran, Dustin and Ranganath, Rajesh and Paisley, John and "
    "Blei, David M.",
    "Variational inference via χ upper bound minimization",
    NEURIPS,
    2017,
)
LI_2024 = proceedings(
    "Li, Chengrui and Wang, Yule and Li, Weihan and Wu, Anqi",
    "Forward χ² divergence based variational importance sampling",
    ICLR,
    2024,
)
RICHTER_2020 = proceedings(
    "Richter, Lorenz and Boustati, Ayman and Nüsken, Nikolas and Ruiz, Francisco J. R. and "
    "Akyildiz, Ömer Deniz",
    "VarGrad: a low-variance gradient estimator for variational inference",
    NEURIPS,
    2020,
)
WANG_2018 = proceedings(
    "Wang, Dilin and Liu, Hao and Liu, Qiang",
    "Variational inference with tail-adaptive f-divergence",
    NEURIPS,
    2018,
)
VAITL_2024 = proceedings(
    "Vaitl, Lorenz and Winkler, Ludwig and Richter, Lorenz and Kessel, Pan",
    "Fast and unified path gradient estimators for normalizing flows",
    ICLR,
    2024,
)
KINGMA_2014 = proceedings(
    "Kingma, Diederik P. and Welling, Max", "Auto-encoding variational Bayes", ICLR, 2014
)
ROEDER_2017 = proceedings(
    "Roeder, Geoffrey and Wu, Yuhuai and Duvenaud, David",
    "Sticking the landing: simple, lower-variance gradient estimators for variational inference",
    NEURIPS,
    2017,
)
TUCKER_2019 = proceedings(
    "Tucker, George and Lawson, Dieterich and Gu, Shixiang and Maddison, Chris J.",
    "Doubly reparameterized gradient estimators for Monte Carlo objectives",
    ICLR,
    2019,
)
WILLIAMS_1992 = article(
    "Williams, Ronald J.",
    "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    MACHINE_LEARNING,
    1992,
    "8",
)
MNIH_2016 = proceedings(
    "Mnih, Andriy and Rezende, Danilo J.",
    "Variational inference for Monte Carlo objectives",
    ICML,
    2016,
)
ONG_2018 = article(
    "Ong, Victor M.-H. and Nott, David J. and Smith, Michael S.",
    "Gaussian variational approximation with a factor covariance structure",
    "Journal of Computational and Graphical Statistics",
    2018,
    "27",
    "3",
)
MORNINGSTAR_2021 = proceedings(
    "Morningstar, Warren R. and Vikram, Sharad M. and Ham, Cusuh and Gallagher, Andrew and "
    "Dillon, Joshua V.",
    "Automatic differentiation variational inference with mixtures",
    AISTATS,
    2021,
)
SAUL_1995 = proceedings(
    "Saul, Lawrence K. and Jordan, Michael I.",
    "Exploiting tractable substructures in intractable networks",
    NEURIPS,
    1995,
)
NAESSETH_2017 = proceedings(
    "Naesseth, Christian A. and Ruiz, Francisco J. R. and Linderman, Scott W. and Blei, David M.",
    "Reparameterization gradients through acceptance-rejection sampling algorithms",
    AISTATS,
    2017,
)
KOTZ_2004 = Citation(
    "Kotz, Samuel and Nadarajah, Saralees",
    "Multivariate t distributions and their applications",
    "Cambridge University Press",
    2004,
    EntryType.BOOK,
)
FIGURNOV_2018 = proceedings(
    "Figurnov, Mikhail and Mohamed, Shakir and Mnih, Andriy",
    "Implicit reparameterization gradients",
    NEURIPS,
    2018,
)
SHAMIR_2013 = proceedings(
    "Shamir, Ohad and Zhang, Tong",
    "Stochastic gradient descent for non-smooth optimization: convergence results and optimal "
    "averaging schemes",
    ICML,
    2013,
)
MIDGLEY_2023 = proceedings(
    "Midgley, Laurence Illing and Stimper, Vincent and Simm, Gregor N. C. and "
    "Schölkopf, Bernhard and Hernández-Lobato, José Miguel",
    "Flow annealed importance sampling bootstrap",
    ICLR,
    2023,
)
SHARROCK_2023 = proceedings(
    "Sharrock, Louis and Nemeth, Christopher",
    "Coin sampling: gradient-based Bayesian inference without learning rates",
    ICML,
    2023,
)
ORABONA_2017 = proceedings(
    "Orabona, Francesco and Tommasi, Tatiana",
    "Training deep networks without learning rates through coin betting",
    NEURIPS,
    2017,
)
KINGMA_2015 = proceedings(
    "Kingma, Diederik P. and Ba, Jimmy", "Adam: a method for stochastic optimization", ICLR, 2015
)
