import pytest

from pyro_idvae.testing import ConditionalTransformLaws, InjectionLaws, TransformLaws
from tests.testing.table import BIJECTIONS, CONDITIONAL_BIJECTIONS, INJECTIONS


class TestBijections(TransformLaws):
    @pytest.fixture(autouse=True, params=BIJECTIONS)
    def _case(self, request):
        self.make, self.input_dim, self.any_dim = BIJECTIONS[request.param]


class TestInjections(InjectionLaws):
    @pytest.fixture(autouse=True, params=INJECTIONS)
    def _case(self, request):
        self.make, self.input_dim, self.any_dim = INJECTIONS[request.param]


class TestConditionalBijections(ConditionalTransformLaws):
    context_dim = 2

    @pytest.fixture(autouse=True, params=CONDITIONAL_BIJECTIONS)
    def _case(self, request):
        self.make, self.input_dim, self.any_dim = CONDITIONAL_BIJECTIONS[request.param]
