"""Chains on minibatches, and what makes their gradients less noisy."""

from infer.references.works import (
    AAAI,
    ICLR,
    ICML,
    JMLR,
    NEURIPS,
    STATISTICS_AND_COMPUTING,
    article,
    proceedings,
)

WELLING_2011 = proceedings(
    "Welling, Max and Teh, Yee Whye",
    "Bayesian learning via stochastic gradient Langevin dynamics",
    ICML,
    2011,
)
MANDT_2017 = article(
    "Mandt, Stephan and Hoffman, Matthew D. and Blei, David M.",
    "Stochastic gradient descent as approximate Bayesian inference",
    JMLR,
    2017,
    "18",
    "134",
)
LI_2016 = proceedings(
    "Li, Chunyuan and Chen, Changyou and Carlson, David and Carin, Lawrence",
    "Preconditioned stochastic gradient Langevin dynamics for deep neural networks",
    AAAI,
    2016,
)
CHEN_2014 = proceedings(
    "Chen, Tianqi and Fox, Emily B. and Guestrin, Carlos",
    "Stochastic gradient Hamiltonian Monte Carlo",
    ICML,
    2014,
)
DING_2014 = proceedings(
    "Ding, Nan and Fang, Youhan and Babbush, Ryan and Chen, Changyou and Skeel, Robert D. and "
    "Neven, Hartmut",
    "Bayesian sampling using stochastic gradient thermostats",
    NEURIPS,
    2014,
)
GAN_2015 = proceedings(
    "Gan, Zhe and Chen, Changyou and Henao, Ricardo and Carlson, David and Carin, Lawrence",
    "Scalable deep Poisson factor analysis for topic modeling",
    ICML,
    2015,
)
ALEXOS_2022 = proceedings(
    "Alexos, Antonios and Boyd, Alex J. and Mandt, Stephan",
    "Structured stochastic gradient MCMC",
    ICML,
    2022,
)
ZHANG_2020_CYCLES = proceedings(
    "Zhang, Ruqi and Li, Chunyuan and Zhang, Jianyi and Chen, Changyou and Wilson, Andrew Gordon",
    "Cyclical stochastic gradient MCMC for Bayesian deep learning",
    ICLR,
    2020,
)
BAKER_2019 = article(
    "Baker, Jack and Fearnhead, Paul and Fox, Emily B. and Nemeth, Christopher",
    "Control variates for stochastic gradient MCMC",
    STATISTICS_AND_COMPUTING,
    2019,
    "29",
    "3",
)
JOHNSON_2013 = proceedings(
    "Johnson, Rie and Zhang, Tong",
    "Accelerating stochastic gradient descent using predictive variance reduction",
    NEURIPS,
    2013,
)
