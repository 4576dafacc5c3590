"""The closed-form gradient of a ridge potential against autograd.grad on the same potential."""

import torch
from timing import compare

from pyro_idvae.potentials import RidgePotential


def main():
    for dim, hidden, limit in ((784, 512, 1.0), (2, 512, 0.6), (2, 64, 0.6)):
        potential = RidgePotential(dim, hidden_dims=[hidden])
        x = torch.randn(128, dim)

        def closed(potential=potential, x=x):
            with torch.no_grad():
                return potential.gradient(x)

        def autograd(potential=potential, x=x):
            point = x.detach().requires_grad_()
            return torch.autograd.grad(potential(point).sum(), point)[0]

        assert torch.allclose(closed(), autograd(), rtol=1e-3, atol=1e-3)
        compare(f"gradient, d={dim}, hidden={hidden}", closed, autograd, limit=limit, inner=20)


if __name__ == "__main__":
    main()
