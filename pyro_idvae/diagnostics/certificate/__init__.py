# SPDX-License-Identifier: Apache-2.0
"""What is guaranteed before training: information in nats that a likelihood must carry."""

from pyro_idvae.diagnostics.certificate.certify import certify
from pyro_idvae.diagnostics.certificate.record import Certificate

__all__ = ["Certificate", "certify"]
