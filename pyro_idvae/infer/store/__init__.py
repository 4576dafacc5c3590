# SPDX-License-Identifier: Apache-2.0
"""Draws on disk: more than memory holds, and runs that can be killed and gone on with."""

from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.open_draws import open_draws
from pyro_idvae.infer.store.order import Order
from pyro_idvae.infer.store.sample_to import checked_folder, stored

__all__ = ["Journal", "Order", "checked_folder", "open_draws", "stored"]
