# SPDX-License-Identifier: Apache-2.0
"""The remedies for posterior collapse of the literature, one file each."""

from pyro_idvae.infer.objectives.annealed import Annealed
from pyro_idvae.infer.objectives.batch_norm import BatchNorm
from pyro_idvae.infer.objectives.beta import Beta
from pyro_idvae.infer.objectives.delta import Delta
from pyro_idvae.infer.objectives.free_bits import FreeBits
from pyro_idvae.infer.objectives.importance_weighted import ImportanceWeighted
from pyro_idvae.infer.objectives.inverse_lipschitz import InverseLipschitz
from pyro_idvae.infer.objectives.lagging import Lagging
from pyro_idvae.infer.objectives.latent_reconstruction import LatentReconstruction
from pyro_idvae.infer.objectives.mmd import MMD
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.schedules import Cyclical, Linear
from pyro_idvae.infer.objectives.semi_amortised import SemiAmortised
from pyro_idvae.infer.objectives.table import OBJECTIVES, make_objective
from pyro_idvae.infer.objectives.target_rate import TargetRate
from pyro_idvae.infer.objectives.weighted import Weighted

__all__ = [
    "MMD",
    "OBJECTIVES",
    "Annealed",
    "BatchNorm",
    "Beta",
    "Cyclical",
    "Delta",
    "FreeBits",
    "ImportanceWeighted",
    "InverseLipschitz",
    "Lagging",
    "LatentReconstruction",
    "Linear",
    "Objective",
    "SemiAmortised",
    "TargetRate",
    "Weighted",
    "make_objective",
]
