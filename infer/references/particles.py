"""Interacting particles, their kernels, and learned transport."""

from infer.references.works import (
    AISTATS,
    ICLR,
    ICML,
    NEURIPS,
    UAI,
    article,
    preprint,
    proceedings,
)

LIU_2016 = proceedings(
    "Liu, Qiang and Wang, Dilin",
    "Stein variational gradient descent: a general purpose Bayesian inference algorithm",
    NEURIPS,
    2016,
)
GORHAM_2017 = proceedings(
    "Gorham, Jackson and Mackey, Lester", "Measuring sample quality with kernels", ICML, 2017
)
SHI_2022 = proceedings(
    "Shi, Jiaxin and Liu, Chang and Mackey, Lester",
    "Sampling with mirrored Stein operators",
    ICLR,
    2022,
)
WANG_2019 = proceedings(
    "Wang, Dilin and Tang, Ziyang and Bajaj, Chandrajit and Liu, Qiang",
    "Stein variational gradient descent with matrix-valued kernels",
    NEURIPS,
    2019,
)
DETOMMASO_2018 = proceedings(
    "Detommaso, Gianluca and Cui, Tiangang and Spantini, Alessio and Marzouk, Youssef and "
    "Scheichl, Robert",
    "A Stein variational Newton method",
    NEURIPS,
    2018,
)
D_ANGELO_2021 = proceedings(
    "D'Angelo, Francesco and Fortuin, Vincent",
    "Annealed Stein variational gradient descent",
    "Symposium on Advances in Approximate Bayesian Inference",
    2021,
)
GALLEGO_2018 = preprint(
    "Gallego, Víctor and Ríos Insua, David",
    "Stochastic gradient MCMC with repulsive forces",
    "1812.00071",
    2018,
)
PRISER_2025 = proceedings(
    "Priser, Victor and Bianchi, Pascal and Salim, Adil",
    "Long-time asymptotics of noisy SVGD outside the population limit",
    ICLR,
    2025,
)
LI_2020 = article(
    "Li, Lei and Li, Yingzhou and Liu, Jian-Guo and Liu, Zibu and Lu, Jianfeng",
    "A stochastic version of Stein variational gradient descent for efficient sampling",
    "Communications in Applied Mathematics and Computational Science",
    2020,
    "15",
    "1",
)
ZHUO_2018 = proceedings(
    "Zhuo, Jingwei and Liu, Chang and Shi, Jiaxin and Zhu, Jun and Chen, Ning and Zhang, Bo",
    "Message passing Stein variational gradient descent",
    ICML,
    2018,
)
WANG_2018_MESSAGES = proceedings(
    "Wang, Dilin and Zeng, Zhe and Liu, Qiang",
    "Stein variational message passing for continuous graphical models",
    ICML,
    2018,
)
GONG_2021 = proceedings(
    "Gong, Wenbo and Li, Yingzhen and Hernández-Lobato, José Miguel",
    "Sliced kernelized Stein discrepancy",
    ICLR,
    2021,
)
LIU_2022 = proceedings(
    "Liu, Xing and Zhu, Harrison and Ton, Jean-François and Wynne, George and Duncan, Andrew",
    "Grassmann Stein variational gradient descent",
    AISTATS,
    2022,
)
LIU_2019 = proceedings(
    "Liu, Chang and Zhuo, Jingwei and Cheng, Pengyu and Zhang, Ruiyi and Zhu, Jun",
    "Understanding and accelerating particle-based variational inference",
    ICML,
    2019,
)
CARRILLO_2019 = article(
    "Carrillo, José Antonio and Craig, Katy and Patacchini, Francesco S.",
    "A blob method for diffusion",
    "Calculus of Variations and Partial Differential Equations",
    2019,
    "58",
)
CHEN_2018 = proceedings(
    "Chen, Changyou and Zhang, Ruiyi and Wang, Wenlin and Li, Bai and Chen, Liqun",
    "A unified particle-optimization framework for scalable Bayesian sampling",
    UAI,
    2018,
)
CHEWI_2020 = proceedings(
    "Chewi, Sinho and Le Gouic, Thibaut and Lu, Chen and Maunu, Tyler and Rigollet, Philippe",
    "SVGD as a kernelized Wasserstein gradient flow of the chi-squared divergence",
    NEURIPS,
    2020,
)
KORBA_2021 = proceedings(
    "Korba, Anna and Aubin-Frankowski, Pierre-Cyril and Majewski, Szymon and Ablin, Pierre",
    "Kernel Stein discrepancy descent",
    ICML,
    2021,
)
LI_2023 = proceedings(
    "Li, Lingxiao and Liu, Qiang and Korba, Anna and Yurochkin, Mikhail and Solomon, Justin",
    "Sampling with mollified interaction energy descent",
    ICLR,
    2023,
)
FAN_2022 = proceedings(
    "Fan, Jiaojiao and Zhang, Qinsheng and Taghvaei, Amirhossein and Chen, Yongxin",
    "Variational Wasserstein gradient flow",
    ICML,
    2022,
)
