"""Likelihoods of decoders: the distribution of the data, given what a decoder puts out."""

from infer.likelihoods.bernoulli import Bernoulli as Bernoulli
from infer.likelihoods.bernoulli import Binomial as Binomial
from infer.likelihoods.categorical import Categorical as Categorical
from infer.likelihoods.choice import likelihood_for as likelihood_for
from infer.likelihoods.continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from infer.likelihoods.discretized_logistic import DiscretizedLogistic as DiscretizedLogistic
from infer.likelihoods.likelihood import AbstractLikelihood as AbstractLikelihood
from infer.likelihoods.location_scale import AbstractLocationScale as AbstractLocationScale
from infer.likelihoods.location_scale import Gaussian as Gaussian
from infer.likelihoods.location_scale import Laplace as Laplace
from infer.likelihoods.location_scale import StudentT as StudentT
from infer.likelihoods.negative_binomial import NegativeBinomial as NegativeBinomial
from infer.likelihoods.parts import Parts as Parts
from infer.likelihoods.scale import AbstractScale as AbstractScale
from infer.likelihoods.scale import DecodedScale as DecodedScale
from infer.likelihoods.scale import FixedScale as FixedScale
from infer.likelihoods.scale import LearnedScale as LearnedScale
