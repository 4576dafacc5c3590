"""One table, name → constructor, of everything that the laws are checked for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from pyro_idvae.distributions import (
    InjectiveAutoregressive,
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
    NegativeBinomialFamily,
    NeuralAutoregressive,
    NeuralLikelihood,
    PoissonFamily,
    ZeroInflatedFamily,
    in_noise_units,
    make_family,
    make_injective,
)
from pyro_idvae.models import NoHistory
from pyro_idvae.potentials import (
    ICNN,
    PartiallyConvexPotential,
    QuadraticPotential,
    RidgePotential,
)
from pyro_idvae.transforms import (
    Helmert,
    brenier,
    brenier_injection,
    conditional_brenier,
    conditional_injection,
    injective_linear,
)


class MapCase(NamedTuple):
    """A transform and the dimensions of what it takes."""

    make: Callable[[], Any]
    input_dim: int
    any_dim: bool = False


class FamilyCase(NamedTuple):
    """A family and what its members need besides η."""

    make: Callable[[], Any]
    total_count: Any = None


class LikelihoodCase(NamedTuple):
    """A likelihood and further arguments of ``condition``."""

    make: Callable[[], Any]
    options: dict[str, Any] = {}  # noqa: RUF012


def with_window(low, high):
    return {"strong_convexity": low, "smoothness": high}


def conditional_potential(smoothness=None):
    potential = PartiallyConvexPotential(3, 2, hidden_dims=[16], smoothness=smoothness)
    return depending_on_the_context(potential)


def depending_on_the_context(potential):
    for parameter in potential.network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return potential


def conditional(**options):
    transform = conditional_brenier(3, 2, hidden_dims=[16], **options)
    depending_on_the_context(transform.potential)
    return transform


def small():
    return brenier_injection(1, 2, hidden_dims=[8], lipschitz_bounds=(0.5, 2.0))


def gated_negative_binomial():
    base = InjectiveNegativeBinomial(small(), learn_concentration=False)
    return InjectiveZeroInflated(base, gate=0.3, learn_gate=False)


def neural():
    network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    return NeuralLikelihood(make_family("normal", scale=0.5), network)


POTENTIALS = {
    "icnn": lambda: ICNN(3, hidden_dims=[16, 12, 8]),
    "icnn of one layer": lambda: ICNN(3, hidden_dims=[16]),
    "icnn with a window": lambda: ICNN(3, hidden_dims=[16, 12], **with_window(0.5, 2.0)),
    "quadratic": lambda: QuadraticPotential(4),
    "quadratic with a window": lambda: QuadraticPotential(4, **with_window(0.5, 3.0)),
    "ridge": lambda: RidgePotential(3, hidden_dims=[32]),
    "ridge narrower than the data": lambda: RidgePotential(
        8, hidden_dims=[3], strong_convexity=1e-3
    ),
    "ridge of one dimension": lambda: RidgePotential(1),
    "ridge with a window": lambda: RidgePotential(3, hidden_dims=[32], **with_window(0.5, 2.0)),
}

CONDITIONAL_POTENTIALS = {
    "partially convex": conditional_potential,
    "partially convex with a window": lambda: conditional_potential(smoothness=3.0),
}

BIJECTIONS = {
    "brenier": MapCase(lambda: brenier(3, hidden_dims=[16]), 3),
    "brenier of several layers": MapCase(lambda: brenier(3, hidden_dims=[16, 8]), 3),
    "brenier of one dimension": MapCase(lambda: brenier(1), 1),
    "brenier with a window": MapCase(
        lambda: brenier(3, hidden_dims=[16], **with_window(0.5, 2.0)), 3
    ),
    "helmert": MapCase(Helmert, 3, any_dim=True),
}

CONDITIONAL_BIJECTIONS = {
    "conditional brenier": MapCase(conditional, 3),
    "conditional brenier with a window": MapCase(lambda: conditional(**with_window(0.5, 3.0)), 3),
}


def depending_injection(**options):
    """Return an injection whose networks of the context say much."""
    options = {"shift": torch.nn.Linear(3, 5), **options}
    injection = conditional_injection(2, 5, 3, hidden_dims=[8], **options)
    with torch.no_grad():
        for parameter in injection.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return injection


CONDITIONAL_INJECTIONS = {
    "conditional injection": depending_injection,
    "conditional injection without g2": lambda: depending_injection(output_hidden_dims=None),
}
"""Of contexts of width 3."""


def injective_tokens(**options):
    history = NoHistory(4, 3)
    f = conditional_injection(2, 3, 3, hidden_dims=[8], output_hidden_dims=[8])
    return InjectiveAutoregressive(history, f, **options)


SEQUENCE_LIKELIHOODS = {
    "injective": injective_tokens,
    "injective, noise units": lambda: injective_tokens(base=torch.randint(4, (30, 6))),
    "ordinary": lambda: NeuralAutoregressive(4, 2, hidden_dim=8),
    "ordinary, skip": lambda: NeuralAutoregressive(4, 2, hidden_dim=8, skip=True),
}
"""Of 4 tokens and 2 latents."""

INJECTIONS = {
    "brenier injection": MapCase(lambda: brenier_injection(2, 5, hidden_dims=[16]), 2),
    "brenier injection, square": MapCase(lambda: brenier_injection(3, 3, hidden_dims=[12, 8]), 3),
    "brenier injection with a window": MapCase(
        lambda: brenier_injection(2, 4, hidden_dims=[16], lipschitz_bounds=(0.8, 3.0)), 2
    ),
    "injective linear": MapCase(lambda: injective_linear(2, 5), 2),
    "injective linear, square": MapCase(
        lambda: injective_linear(3, 3, min_singular_value=0.2, max_singular_value=2.0), 3
    ),
}


def base_of(family, total_count=None, rows=200, data_dim=3):
    """Observations at uneven base rates."""
    generator = torch.Generator().manual_seed(5)
    eta = 0.7 * torch.randn(family.parameter_dim(data_dim), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return family(eta.expand(rows, -1), total_count).sample()


def at_base(name, library=None, **options):
    family = make_family(name, **options)
    base = base_of(family, library)
    return in_noise_units(family, base, family.parameter_dim(3))


FAMILIES = {
    "bernoulli": FamilyCase(lambda: make_family("bernoulli")),
    "beta": FamilyCase(lambda: make_family("beta", precision=8.0)),
    "binomial": FamilyCase(lambda: make_family("binomial", total_count=4)),
    "categorical": FamilyCase(lambda: make_family("categorical")),
    "gamma": FamilyCase(lambda: make_family("gamma", concentration=3.0)),
    "laplace": FamilyCase(lambda: make_family("laplace", scale=0.5)),
    "multinomial": FamilyCase(lambda: make_family("multinomial"), torch.tensor(5.0)),
    "negativebinomial": FamilyCase(lambda: make_family("negativebinomial", concentration=3.0)),
    "normal": FamilyCase(lambda: make_family("normal", scale=0.5)),
    "normal, a scale a feature": FamilyCase(
        lambda: make_family("normal", scale=torch.tensor([0.5, 1.0, 2.0]), learn_scale=True)
    ),
    "poisson": FamilyCase(lambda: make_family("poisson")),
    "studentt": FamilyCase(lambda: make_family("studentt", df=5.0, learn_df=True)),
    "zeroinflated": FamilyCase(lambda: ZeroInflatedFamily(PoissonFamily(), gate=0.3)),
    "zeroinflated, a fixed gate": FamilyCase(
        lambda: ZeroInflatedFamily(NegativeBinomialFamily(3.0), gate=0.3, learn_gate=False)
    ),
    "zeroinflated in noise units": FamilyCase(
        lambda: ZeroInflatedFamily(at_base("poisson"), gate=0.3)
    ),
    "bernoulli in noise units": FamilyCase(lambda: at_base("bernoulli")),
    "beta in noise units": FamilyCase(lambda: at_base("beta", precision=8.0)),
    "binomial in noise units": FamilyCase(lambda: at_base("binomial", total_count=4)),
    "categorical in noise units": FamilyCase(lambda: at_base("categorical")),
    "gamma in noise units": FamilyCase(lambda: at_base("gamma", concentration=3.0)),
    "negativebinomial in noise units": FamilyCase(
        lambda: at_base("negativebinomial", concentration=3.0)
    ),
    "poisson in noise units": FamilyCase(lambda: at_base("poisson")),
    "multinomial in noise units": FamilyCase(
        lambda: at_base("multinomial", torch.tensor(5.0)), torch.tensor(5.0)
    ),
}


def likelihood_at_base(name, library=None, **options):
    injection, family = small(), make_family(name, **options)
    simplex = name in ("categorical", "multinomial")
    base = base_of(family, library, data_dim=injection.data_dim + simplex)
    return make_injective(name, injection, base=base, **options)


LIKELIHOODS = {
    "bernoulli": LikelihoodCase(lambda: InjectiveBernoulli(small())),
    "beta": LikelihoodCase(lambda: InjectiveBeta(small(), precision=8.0)),
    "binomial": LikelihoodCase(lambda: InjectiveBinomial(small(), total_count=4)),
    "categorical": LikelihoodCase(lambda: InjectiveCategorical(small())),
    "gamma": LikelihoodCase(lambda: InjectiveGamma(small(), concentration=3.0)),
    "laplace": LikelihoodCase(lambda: InjectiveLaplace(small(), learn_scale=True)),
    "multinomial": LikelihoodCase(
        lambda: InjectiveMultinomial(small()), {"total_count": torch.tensor(5.0)}
    ),
    "negativebinomial": LikelihoodCase(
        lambda: InjectiveNegativeBinomial(small(), concentration=3.0)
    ),
    "neural": LikelihoodCase(neural),
    "normal": LikelihoodCase(lambda: InjectiveNormal(small(), scale=0.5)),
    "normal, a scale a feature": LikelihoodCase(
        lambda: InjectiveNormal(small(), scale=torch.tensor([0.5, 2.0]), learn_scale=True)
    ),
    "normal around a linear map": LikelihoodCase(lambda: InjectiveNormal(injective_linear(2, 3))),
    "poisson": LikelihoodCase(lambda: InjectivePoisson(small())),
    "studentt": LikelihoodCase(lambda: InjectiveStudentT(small(), df=5.0, learn_df=True)),
    "zeroinflated negativebinomial": LikelihoodCase(gated_negative_binomial),
    "zeroinflated poisson": LikelihoodCase(
        lambda: InjectiveZeroInflated(InjectivePoisson(small()), gate=0.3)
    ),
    "bernoulli in noise units": LikelihoodCase(lambda: likelihood_at_base("bernoulli")),
    "beta in noise units": LikelihoodCase(lambda: likelihood_at_base("beta", precision=8.0)),
    "binomial in noise units": LikelihoodCase(
        lambda: likelihood_at_base("binomial", total_count=4)
    ),
    "categorical in noise units": LikelihoodCase(lambda: likelihood_at_base("categorical")),
    "gamma in noise units": LikelihoodCase(lambda: likelihood_at_base("gamma", concentration=3.0)),
    "negativebinomial in noise units": LikelihoodCase(
        lambda: likelihood_at_base("negativebinomial", concentration=3.0)
    ),
    "poisson in noise units": LikelihoodCase(lambda: likelihood_at_base("poisson")),
    "multinomial in noise units": LikelihoodCase(
        lambda: likelihood_at_base("multinomial", torch.tensor(5.0)),
        {"total_count": torch.tensor(5.0)},
    ),
}
