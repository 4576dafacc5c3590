import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.distributions import Family, make_family
from pyro_idvae.distributions.table import FAMILIES as BY_NAME
from pyro_idvae.errors import NoCertificateError, NoClosedFormError
from pyro_idvae.testing import FamilyLaws, LikelihoodLaws, run_laws
from tests.testing.table import FAMILIES, LIKELIHOODS


class TestFamilies(FamilyLaws):
    @pytest.fixture(autouse=True, params=FAMILIES)
    def _case(self, request):
        self.make, self.total_count = FAMILIES[request.param]


class TestLikelihoods(LikelihoodLaws):
    @pytest.fixture(autouse=True, params=LIKELIHOODS)
    def _case(self, request):
        self.make, self.options = LIKELIHOODS[request.param]


def test_every_family_with_a_name_is_tested():
    assert set(BY_NAME) <= set(FAMILIES)
    assert set(BY_NAME) <= set(LIKELIHOODS)


class Wordless(Family):
    """A Normal that has no closed forms to offer."""

    name = "wordless"

    def forward(self, eta, total_count=None):
        return dist.Normal(eta, 1.0)


def test_a_family_without_closed_forms_passes_every_law():
    class TestWordless(FamilyLaws):
        def make(self):
            return Wordless()

    assert "test_fisher_information" in run_laws(TestWordless)


def test_without_a_closed_form_there_is_a_typed_error():
    family = make_family("studentt")
    eta = torch.zeros(3)
    with pytest.raises(NoClosedFormError, match="Bhattacharyya distance of two studentt"):
        family.bhattacharyya(eta, eta)
    with pytest.raises(NoClosedFormError, match="Fisher information of a wordless"):
        Wordless().fisher_information(eta)
    assert issubclass(NoClosedFormError, NoCertificateError)
