"""Models of rows: autoencoders, codes, likelihoods and regularizers."""

from infer.references.works import (
    AAAI,
    AISTATS,
    ICLR,
    ICML,
    NEURIPS,
    article,
    proceedings,
)

HINTON_1995 = article(
    "Hinton, Geoffrey E. and Dayan, Peter and Frey, Brendan J. and Neal, Radford M.",
    'The "wake-sleep" algorithm for unsupervised neural networks',
    "Science",
    1995,
    "268",
)
SONDERBY_2016 = proceedings(
    "Sønderby, Casper Kaae and Raiko, Tapani and Maaløe, Lars and Sønderby, Søren Kaae and "
    "Winther, Ole",
    "Ladder variational autoencoders",
    NEURIPS,
    2016,
)
JANG_2017 = proceedings(
    "Jang, Eric and Gu, Shixiang and Poole, Ben",
    "Categorical reparameterization with Gumbel-softmax",
    ICLR,
    2017,
)
MADDISON_2017 = proceedings(
    "Maddison, Chris J. and Mnih, Andriy and Teh, Yee Whye",
    "The concrete distribution: a continuous relaxation of discrete random variables",
    ICLR,
    2017,
)
VAN_DEN_OORD_2017 = proceedings(
    "van den Oord, Aäron and Vinyals, Oriol and Kavukcuoglu, Koray",
    "Neural discrete representation learning",
    NEURIPS,
    2017,
)
MENTZER_2024 = proceedings(
    "Mentzer, Fabian and Minnen, David and Agustsson, Eirikur and Tschannen, Michael",
    "Finite scalar quantization: VQ-VAE made simple",
    ICLR,
    2024,
)
SALIMANS_2017 = proceedings(
    "Salimans, Tim and Karpathy, Andrej and Chen, Xi and Kingma, Diederik P.",
    "PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other "
    "modifications",
    ICLR,
    2017,
)
HIGGINS_2017 = proceedings(
    "Higgins, Irina and Matthey, Loic and Pal, Arka and Burgess, Christopher and "
    "Glorot, Xavier and Botvinick, Matthew and Mohamed, Shakir and Lerchner, Alexander",
    "beta-VAE: learning basic visual concepts with a constrained variational framework",
    ICLR,
    2017,
)
TOLSTIKHIN_2018 = proceedings(
    "Tolstikhin, Ilya and Bousquet, Olivier and Gelly, Sylvain and Schölkopf, Bernhard",
    "Wasserstein auto-encoders",
    ICLR,
    2018,
)
TOMCZAK_2018 = proceedings(
    "Tomczak, Jakub M. and Welling, Max", "VAE with a VampPrior", AISTATS, 2018
)
CHEN_2018_CORRELATION = proceedings(
    "Chen, Ricky T. Q. and Li, Xuechen and Grosse, Roger and Duvenaud, David",
    "Isolating sources of disentanglement in variational autoencoders",
    NEURIPS,
    2018,
)
ZHAO_2019 = proceedings(
    "Zhao, Shengjia and Song, Jiaming and Ermon, Stefano",
    "InfoVAE: balancing learning and inference in variational autoencoders",
    AAAI,
    2019,
)
KOLOURI_2019 = proceedings(
    "Kolouri, Soheil and Pope, Phillip E. and Martin, Charles E. and Rohde, Gustavo K.",
    "Sliced Wasserstein auto-encoders",
    ICLR,
    2019,
)
LOAIZA_GANEM_2019 = proceedings(
    "Loaiza-Ganem, Gabriel and Cunningham, John P.",
    "The continuous Bernoulli: fixing a pervasive error in variational autoencoders",
    NEURIPS,
    2019,
)
LUCAS_2019 = proceedings(
    "Lucas, James and Tucker, George and Grosse, Roger and Norouzi, Mohammad",
    "Don't blame the ELBO! A linear VAE perspective on posterior collapse",
    NEURIPS,
    2019,
)
GHOSH_2020 = proceedings(
    "Ghosh, Partha and Sajjadi, Mehdi S. M. and Vergari, Antonio and Black, Michael and "
    "Schölkopf, Bernhard",
    "From variational to deterministic autoencoders",
    ICLR,
    2020,
)
RYBKIN_2021 = proceedings(
    "Rybkin, Oleh and Daniilidis, Kostas and Levine, Sergey",
    "Simple and effective VAE training with calibrated decoders",
    ICML,
    2021,
)
JANJOS_2023 = proceedings(
    "Janjoš, Faris and Rosenbaum, Lars and Dolgov, Maxim and Zöllner, J. Marius",
    "Unscented autoencoder",
    ICML,
    2023,
)
DOWSON_1982 = article(
    "Dowson, D. C. and Landau, B. V.",
    "The Fréchet distance between multivariate normal distributions",
    "Journal of Multivariate Analysis",
    1982,
    "12",
)
RIVERA_2024 = proceedings(
    "Rivera, Mariano",
    "How to train your VAE",
    "IEEE International Conference on Image Processing",
    2024,
)
