from pyro_idvae.testing import InjectionLaws, TransformLaws
from pyro_idvae.transforms import brenier, brenier_injection, injective_linear


class TestBrenier(TransformLaws):
    input_dim = 3

    def make(self):
        return brenier(3, hidden_dims=[16])


class TestBrenierOfOneDimension(TransformLaws):
    input_dim = 1

    def make(self):
        return brenier(1)


class TestBrenierDeep(TransformLaws):
    input_dim = 3

    def make(self):
        return brenier(3, hidden_dims=[16, 8])


class TestBrenierWindow(TransformLaws):
    input_dim = 3

    def make(self):
        return brenier(3, hidden_dims=[16], strong_convexity=0.5, smoothness=2.0)


class TestInjectiveLinear(InjectionLaws):
    input_dim = 2

    def make(self):
        return injective_linear(2, 5)


class TestInjectiveLinearSquare(InjectionLaws):
    input_dim = 3

    def make(self):
        return injective_linear(3, 3, min_singular_value=0.2, max_singular_value=2.0)


class TestBrenierInjection(InjectionLaws):
    input_dim = 2

    def make(self):
        return brenier_injection(2, 5, hidden_dims=[16])


class TestBrenierInjectionWindow(InjectionLaws):
    input_dim = 2

    def make(self):
        return brenier_injection(2, 4, hidden_dims=[16], lipschitz_bounds=(0.8, 3.0))


class TestBrenierInjectionSquare(InjectionLaws):
    input_dim = 3

    def make(self):
        return brenier_injection(3, 3, hidden_dims=[12, 8])
