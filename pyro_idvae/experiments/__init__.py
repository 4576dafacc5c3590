# SPDX-License-Identifier: Apache-2.0
"""Experiments on real data: ``python -m pyro_idvae.experiments NAME --out DIR``."""
