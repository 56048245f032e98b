"""Normalizing flows."""

from infer.references.works import ICLR, ICML, NEURIPS, preprint, proceedings

REZENDE_2015 = proceedings(
    "Rezende, Danilo Jimenez and Mohamed, Shakir",
    "Variational inference with normalizing flows",
    ICML,
    2015,
)
GERMAIN_2015 = proceedings(
    "Germain, Mathieu and Gregor, Karol and Murray, Iain and Larochelle, Hugo",
    "MADE: masked autoencoder for distribution estimation",
    ICML,
    2015,
)
KINGMA_2016 = proceedings(
    "Kingma, Diederik P. and Salimans, Tim and Jozefowicz, Rafal and Chen, Xi and "
    "Sutskever, Ilya and Welling, Max",
    "Improving variational inference with inverse autoregressive flow",
    NEURIPS,
    2016,
)
TOMCZAK_2016 = preprint(
    "Tomczak, Jakub M. and Welling, Max",
    "Improving variational auto-encoders using Householder flow",
    "1611.09630",
    2016,
)
DINH_2017 = proceedings(
    "Dinh, Laurent and Sohl-Dickstein, Jascha and Bengio, Samy",
    "Density estimation using Real NVP",
    ICLR,
    2017,
)
PAPAMAKARIOS_2017 = proceedings(
    "Papamakarios, George and Pavlakou, Theo and Murray, Iain",
    "Masked autoregressive flow for density estimation",
    NEURIPS,
    2017,
)
KINGMA_2018 = proceedings(
    "Kingma, Diederik P. and Dhariwal, Prafulla",
    "Glow: generative flow with invertible 1x1 convolutions",
    NEURIPS,
    2018,
)
HO_2019 = proceedings(
    "Ho, Jonathan and Chen, Xi and Srinivas, Aravind and Duan, Yan and Abbeel, Pieter",
    "Flow++: improving flow-based generative models with variational dequantization and "
    "architecture design",
    ICML,
    2019,
)
DURKAN_2019 = proceedings(
    "Durkan, Conor and Bekasov, Artur and Murray, Iain and Papamakarios, George",
    "Neural spline flows",
    NEURIPS,
    2019,
)
