import torch

from pyro_idvae.distributions import (
    InjectiveBernoulli,
    InjectiveBeta,
    InjectiveBinomial,
    InjectiveCategorical,
    InjectiveGamma,
    InjectiveLaplace,
    InjectiveMultinomial,
    InjectiveNegativeBinomial,
    InjectiveNormal,
    InjectivePoisson,
    InjectiveStudentT,
    InjectiveZeroInflated,
)
from pyro_idvae.testing import LikelihoodLaws
from pyro_idvae.transforms import brenier_injection, injective_linear


def small():
    return brenier_injection(1, 2, hidden_dims=[8], lipschitz_bounds=(0.5, 2.0))


class TestNormal(LikelihoodLaws):
    def make(self):
        return InjectiveNormal(small(), scale=0.5)


class TestNormalPerFeature(LikelihoodLaws):
    def make(self):
        return InjectiveNormal(small(), scale=torch.tensor([0.5, 2.0]), learn_scale=True)


class TestNormalLinear(LikelihoodLaws):
    def make(self):
        return InjectiveNormal(injective_linear(2, 3))


class TestLaplace(LikelihoodLaws):
    def make(self):
        return InjectiveLaplace(small(), learn_scale=True)


class TestStudentT(LikelihoodLaws):
    def make(self):
        return InjectiveStudentT(small(), df=5.0, learn_df=True)


class TestBernoulli(LikelihoodLaws):
    def make(self):
        return InjectiveBernoulli(small())


class TestBinomial(LikelihoodLaws):
    def make(self):
        return InjectiveBinomial(small(), total_count=4)


class TestCategorical(LikelihoodLaws):
    def make(self):
        return InjectiveCategorical(small())


class TestMultinomial(LikelihoodLaws):
    options = {"total_count": torch.tensor(5.0)}  # noqa: RUF012

    def make(self):
        return InjectiveMultinomial(small())


class TestPoisson(LikelihoodLaws):
    def make(self):
        return InjectivePoisson(small())


class TestNegativeBinomial(LikelihoodLaws):
    def make(self):
        return InjectiveNegativeBinomial(small(), concentration=3.0)


class TestZeroInflatedPoisson(LikelihoodLaws):
    def make(self):
        return InjectiveZeroInflated(InjectivePoisson(small()), gate=0.3)


class TestZeroInflatedNegativeBinomial(LikelihoodLaws):
    def make(self):
        base = InjectiveNegativeBinomial(small(), learn_concentration=False)
        return InjectiveZeroInflated(base, gate=0.3, learn_gate=False)


class TestGamma(LikelihoodLaws):
    def make(self):
        return InjectiveGamma(small(), concentration=3.0)


class TestBeta(LikelihoodLaws):
    def make(self):
        return InjectiveBeta(small(), precision=8.0)
