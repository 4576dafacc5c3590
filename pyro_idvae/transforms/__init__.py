# SPDX-License-Identifier: Apache-2.0
"""Pyro transforms made of convex potentials: Brenier maps and injections."""

from pyro_idvae.transforms.brenier_map import Brenier, brenier
from pyro_idvae.transforms.composed import BrenierInjection, brenier_injection
from pyro_idvae.transforms.conditional import ConditionalBrenier, conditional_brenier
from pyro_idvae.transforms.conditional_injection import (
    ConditionalInjection,
    InjectionAtContext,
    conditional_injection,
)
from pyro_idvae.transforms.helmert import Helmert
from pyro_idvae.transforms.injection import Injection
from pyro_idvae.transforms.linear import InjectiveLinear, injective_linear

__all__ = [
    "Brenier",
    "BrenierInjection",
    "ConditionalBrenier",
    "ConditionalInjection",
    "Helmert",
    "Injection",
    "InjectionAtContext",
    "InjectiveLinear",
    "brenier",
    "brenier_injection",
    "conditional_brenier",
    "conditional_injection",
    "injective_linear",
]
