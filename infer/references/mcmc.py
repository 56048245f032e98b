"""Markov chains: Hamiltonian, microcanonical, slice, tempered and independence samplers."""

from infer.references.citation import Citation, EntryType
from infer.references.works import (
    AISTATS,
    ANNALS,
    JMLR,
    JRSSB,
    NEURIPS,
    STATISTICS_AND_COMPUTING,
    article,
    preprint,
    proceedings,
)

HOFFMAN_2014 = article(
    "Hoffman, Matthew D. and Gelman, Andrew",
    "The No-U-Turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo",
    JMLR,
    2014,
    "15",
    "47",
)
NEAL_2011 = Citation(
    "Neal, Radford M.",
    "MCMC using Hamiltonian dynamics",
    "Handbook of Markov Chain Monte Carlo. Chapman & Hall/CRC",
    2011,
    EntryType.CHAPTER,
)
HOROWITZ_1991 = article(
    "Horowitz, Alan M.",
    "A generalized guided Monte Carlo algorithm",
    "Physics Letters B",
    1991,
    "268",
    "2",
)
NEAL_2020 = preprint(
    "Neal, Radford M.",
    "Non-reversibly updating a uniform [0,1] value for Metropolis accept/reject decisions",
    "2001.11950",
    2020,
)
HOFFMAN_2022 = proceedings(
    "Hoffman, Matthew D. and Sountsov, Pavel",
    "Tuning-free generalized Hamiltonian Monte Carlo",
    AISTATS,
    2022,
)
ROBNIK_2023 = article(
    "Robnik, Jakob and De Luca, G. Bruno and Silverstein, Eva and Seljak, Uroš",
    "Microcanonical Hamiltonian Monte Carlo",
    JMLR,
    2023,
    "24",
    "311",
)
ROBNIK_2025 = preprint(
    "Robnik, Jakob and Cohn-Gordon, Reuben and Seljak, Uroš",
    "Metropolis adjusted microcanonical Hamiltonian Monte Carlo",
    "2503.01707",
    2025,
)
MURRAY_2010 = proceedings(
    "Murray, Iain and Adams, Ryan Prescott and MacKay, David J. C.",
    "Elliptical slice sampling",
    AISTATS,
    2010,
)
NEAL_2003 = article("Neal, Radford M.", "Slice sampling", ANNALS, 2003, "31", "3")
DEL_MORAL_2006 = article(
    "Del Moral, Pierre and Doucet, Arnaud and Jasra, Ajay",
    "Sequential Monte Carlo samplers",
    JRSSB,
    2006,
    "68",
    "3",
)
SYED_2022 = article(
    "Syed, Saifuddin and Bouchard-Côté, Alexandre and Deligiannidis, George and Doucet, Arnaud",
    "Non-reversible parallel tempering: a scalable highly parallel MCMC scheme",
    JRSSB,
    2022,
    "84",
    "2",
)
TIERNEY_1994 = article(
    "Tierney, Luke",
    "Markov chains for exploring posterior distributions",
    ANNALS,
    1994,
    "22",
    "4",
)
GABRIE_2022 = article(
    "Gabrié, Marylou and Rotskoff, Grant M. and Vanden-Eijnden, Eric",
    "Adaptive Monte Carlo augmented with normalizing flows",
    "Proceedings of the National Academy of Sciences",
    2022,
    "119",
    "10",
)
HOFFMAN_2019 = preprint(
    "Hoffman, Matthew and Sountsov, Pavel and Dillon, Joshua V. and Langmore, Ian and "
    "Tran, Dustin and Vasudevan, Srinivas",
    "NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural transport",
    "1903.03704",
    2019,
)
PARNO_2018 = article(
    "Parno, Matthew D. and Marzouk, Youssef M.",
    "Transport map accelerated Markov chain Monte Carlo",
    "SIAM/ASA Journal on Uncertainty Quantification",
    2018,
    "6",
    "2",
)
NEAL_2001 = article(
    "Neal, Radford M.",
    "Annealed importance sampling",
    STATISTICS_AND_COMPUTING,
    2001,
    "11",
    "2",
)
GROSSE_2016 = proceedings(
    "Grosse, Roger B. and Ancha, Siddharth and Roy, Daniel M.",
    "Measuring the reliability of MCMC inference with bidirectional Monte Carlo",
    NEURIPS,
    2016,
)
