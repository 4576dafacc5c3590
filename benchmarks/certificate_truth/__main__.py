"""Certificates beside the truth: models that are bounded or refused, and their information.

Each model has one latent of one or two dimensions, so that its posterior is known on a grid. The
truth is E KL(p(z|x) ‖ p(z)) over draws of x from the model, p(z) the marginal of the joint that the
model's densities define; none where they define no law of z and x. The last column is what the
likelihood says by itself, for one row and N(0, I).
Run: python -m benchmarks.certificate_truth [--draws 4000]
"""

import argparse

import pyro
import torch

from benchmarks.certificate_truth import cases, verdict
from pyro_idvae.errors import NoCertificateError


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | says | truth, nats | the likelihood alone |\n|---|---|---|---|")
    for case in cases():
        pyro.set_rng_seed(0)
        found, truth = verdict(case), case.truth(options.draws)
        if isinstance(found, NoCertificateError):
            says = "refused"
        elif found.kind == "estimate":
            says = f"at least {found.low:.3f} ± {found.standard_error:.3f}, estimated"
        elif found.low_per_coordinate is None:
            says = f"at most {found.high:.3f}"
        else:
            says = f"{found.low:.3f} to {found.high:.3f}"
        try:
            alone = "{:.3f} to {:.3f}".format(*case.bare.information_bounds())
        except ValueError:
            alone = "none"
        shown = "none" if truth is None else f"{truth[0]:.3f} ± {truth[1]:.3f}"
        print(f"| {case.name} | {says} | {shown} | {alone} |", flush=True)


if __name__ == "__main__":
    main()
