"""Langevin methods: Euler steps, velocities, mirror and proximal steps."""

from infer.references.works import (
    BERNOULLI,
    COLT,
    ICML,
    JMLR,
    JRSSB,
    NEURIPS,
    SIIMS,
    STATISTICS_AND_COMPUTING,
    article,
    preprint,
    proceedings,
)

ROBERTS_1996 = article(
    "Roberts, Gareth O. and Tweedie, Richard L.",
    "Exponential convergence of Langevin distributions and their discrete approximations",
    BERNOULLI,
    1996,
    "2",
    "4",
)
ROBERTS_1998 = article(
    "Roberts, Gareth O. and Rosenthal, Jeffrey S.",
    "Optimal scaling of discrete approximations to Langevin diffusions",
    JRSSB,
    1998,
    "60",
    "1",
)
DALALYAN_2017 = article(
    "Dalalyan, Arnak S.",
    "Theoretical guarantees for approximate sampling from smooth and log-concave densities",
    JRSSB,
    2017,
    "79",
    "3",
)
BROSSE_2019 = article(
    "Brosse, Nicolas and Durmus, Alain and Moulines, Éric and Sabanis, Sotirios",
    "The tamed unadjusted Langevin algorithm",
    "Stochastic Processes and their Applications",
    2019,
    "129",
    "10",
)
LIVINGSTONE_2022 = article(
    "Livingstone, Samuel and Zanella, Giacomo",
    "The Barker proposal: combining robustness and efficiency in gradient-based MCMC",
    JRSSB,
    2022,
    "84",
    "2",
)
LEIMKUHLER_2013 = article(
    "Leimkuhler, Benedict and Matthews, Charles",
    "Rational construction of stochastic numerical methods for molecular sampling",
    "Applied Mathematics Research eXpress",
    2013,
    "2013",
    "1",
)
SIVAK_2013 = article(
    "Sivak, David A. and Chodera, John D. and Crooks, Gavin E.",
    "Using nonequilibrium fluctuation theorems to understand and correct errors in equilibrium "
    "and nonequilibrium simulations of discrete Langevin dynamics",
    "Physical Review X",
    2013,
    "3",
)
BUSSI_2007 = article(
    "Bussi, Giovanni and Parrinello, Michele",
    "Accurate sampling using Langevin dynamics",
    "Physical Review E",
    2007,
    "75",
)
CHENG_2018 = proceedings(
    "Cheng, Xiang and Chatterji, Niladri S. and Bartlett, Peter L. and Jordan, Michael I.",
    "Underdamped Langevin MCMC: a non-asymptotic analysis",
    COLT,
    2018,
)
DALALYAN_2020 = article(
    "Dalalyan, Arnak S. and Riou-Durand, Lionel",
    "On sampling from a log-concave density using kinetic Langevin diffusions",
    BERNOULLI,
    2020,
    "26",
    "3",
)
RIOU_DURAND_2022 = preprint(
    "Riou-Durand, Lionel and Vogrinc, Jure",
    "Metropolis adjusted Langevin trajectories: a robust alternative to Hamiltonian Monte Carlo",
    "2202.13230",
    2022,
)
TALAY_1990 = article(
    "Talay, Denis and Tubaro, Luciano",
    "Expansion of the global error for numerical schemes solving stochastic differential equations",
    "Stochastic Analysis and Applications",
    1990,
    "8",
    "4",
)
ZHANG_2020 = proceedings(
    "Zhang, Kelvin Shuangjian and Peyré, Gabriel and Fadili, Jalal and Pereyra, Marcelo",
    "Wasserstein control of mirror Langevin Monte Carlo",
    COLT,
    2020,
)
CHEWI_2020_MIRROR = proceedings(
    "Chewi, Sinho and Le Gouic, Thibaut and Lu, Chen and Maunu, Tyler and Rigollet, Philippe and "
    "Stromme, Austin J.",
    "Exponential ergodicity of mirror-Langevin diffusions",
    NEURIPS,
    2020,
)
SRINIVASAN_2024 = proceedings(
    "Srinivasan, Vishwak and Wibisono, Andre and Wilson, Ashia",
    "Fast sampling from constrained spaces using the Metropolis-adjusted mirror Langevin algorithm",
    COLT,
    2024,
)
SRINIVASAN_2025 = proceedings(
    "Srinivasan, Vishwak and Wibisono, Andre and Wilson, Ashia",
    "High-accuracy sampling from constrained spaces with the Metropolis-adjusted preconditioned "
    "Langevin algorithm",
    "International Conference on Algorithmic Learning Theory",
    2025,
)
HSIEH_2018 = proceedings(
    "Hsieh, Ya-Ping and Kavis, Ali and Rolland, Paul and Cevher, Volkan",
    "Mirrored Langevin dynamics",
    NEURIPS,
    2018,
)
SHETTY_2025 = preprint(
    "Shetty, Nishanth and Prasath, Madhava and Seelamantula, Chandra Sekhar",
    "Dale meets Langevin: a multiplicative denoising diffusion model",
    "2510.02730",
    2025,
)
LAU_2022 = proceedings(
    "Lau, Tim Tsz-Kit and Liu, Han",
    "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes",
    ICML,
    2022,
)
DURMUS_2018 = article(
    "Durmus, Alain and Moulines, Éric and Pereyra, Marcelo",
    "Efficient Bayesian computation by proximal Markov chain Monte Carlo: when Langevin meets "
    "Moreau",
    SIIMS,
    2018,
    "11",
    "1",
)
PEREYRA_2016 = article(
    "Pereyra, Marcelo",
    "Proximal Markov chain Monte Carlo algorithms",
    STATISTICS_AND_COMPUTING,
    2016,
    "26",
    "4",
)
PEREYRA_2020 = article(
    "Pereyra, Marcelo and Vargas Mieles, Luis and Zygalakis, Konstantinos C.",
    "Accelerating proximal Markov chain Monte Carlo by using an explicit stabilized method",
    SIIMS,
    2020,
    "13",
    "2",
)
DURMUS_2019 = article(
    "Durmus, Alain and Majewski, Szymon and Miasojedow, Błażej",
    "Analysis of Langevin Monte Carlo via convex optimization",
    JMLR,
    2019,
    "20",
    "73",
)
SALIM_2019 = proceedings(
    "Salim, Adil and Kovalev, Dmitry and Richtárik, Peter",
    "Stochastic proximal Langevin algorithm: potential splitting and nonasymptotic rates",
    NEURIPS,
    2019,
)
