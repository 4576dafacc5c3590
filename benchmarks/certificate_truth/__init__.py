"""Certificates beside the truth; run by ``python -m benchmarks.certificate_truth``."""

import pyro

from benchmarks.certificate_truth.bounded import bounded
from benchmarks.certificate_truth.refused import refused
from pyro_idvae import certify
from pyro_idvae.errors import NoCertificateError


def cases():
    """Return all cases."""
    return [*bounded(), *refused()]


def verdict(case):
    """Return what certify says of a case: a certificate, or the refusal."""
    pyro.clear_param_store()
    try:
        return certify(case.model, case.arguments, num_samples=500)
    except NoCertificateError as error:
        return error
