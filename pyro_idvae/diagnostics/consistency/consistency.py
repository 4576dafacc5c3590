# SPDX-License-Identifier: Apache-2.0
"""Are the latents of runs with other seeds the same, up to a class of maps?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyro_idvae._checks import check_count, check_list, check_real, check_seed
from pyro_idvae.diagnostics.consistency.pairs import measure_pairs
from pyro_idvae.diagnostics.consistency.report import Consistency, report_on
from pyro_idvae.diagnostics.consistency.runs import read_runs


def consistency(
    runs: Sequence[Any] | Mapping[str, Any],
    data: Any = None,
    *,
    var_names: Sequence[str] | None = None,
    num_samples: int = 100,
    threshold: float = 0.01,
    confidence: float = 0.95,
    num_splits: int = 8,
    seed: int = 0,
) -> Consistency:
    r"""Tell how far the latents of several runs agree, and up to which class of maps.

    Every run has its posterior means :math:`\mathbb E_q[z|x]` of the same rows. For each ordered
    pair of runs, A and B, what A says of B is

    - *MCC*, the mean correlation coefficient: latents are paired, by the largest sum of absolute
      correlations, and the correlations of the pairs averaged; a latent of the run that has more,
      which has no partner, counts as 0;
    - :math:`R^2`, the share of the variance of all B's latents together that A's explain, mapped
      onto them by a *permutation* with signs and a scale for each latent, by an
      *orthogonal* map with one scale (Procrustes), or by any *affine* one (least squares).

    **What a fit gains by seeing the rows is taken off.** For MCC and permutations, pairs and signs
    are chosen by two thirds of the rows and judged on the other third, in several ways. The
    :math:`R^2` of orthogonal and affine maps falls with the number of rows they are fitted to, as
    one over it, and the jackknife takes that off. Runs that have nothing to do with each other then
    have 0 in the mean, sometimes less. ``in_sample`` is what is usually reported, of maps and pairs
    judged on the rows they were fitted to, and ``by_chance`` what that gives where the rows of one
    run are shuffled.

    **Limits** are for rows like these and for these very runs: by leaving out one block of rows
    after the other, on Fisher's scale for MCC and that of :math:`\log(1 - R^2)` for :math:`R^2`.
    Rows have to be independent. How other seeds would differ, the least and the largest of the
    pairs tell. Where no pairs stand out MCC errs low, and its limits are wide.

    A latent whose posterior means do not vary over rows, as one that has collapsed, can be neither
    recovered nor paired. It is left out, and counts nowhere.

    Args:
        runs: a list, or a dict by name, of at least two: pairs (model, guide), objects that have
            both such as :class:`~pyro_idvae.models.VAE`, ArviZ data of :func:`from_guide` or
            :func:`mcmc`, or arrays of posterior means of shape ``(rows, latents)``. They may be of
            different models, with other numbers of latents. Programs whose parameters are in
            Pyro's store share them: give draws of these.
        data: what pairs are run on: a Tensor, or a tuple or dict of their arguments. Held-out rows,
            for a paper.
        var_names: latent sites; all continuous ones with a value for each row if None.
        num_samples: draws of a guide that is not Normal; one that is has its means in closed form.
        threshold: least share of the variance of a latent that its posterior means have; below it
            the latent has no variance. Of arrays latents are taken to have variance 1, so that it
            is the rule of :func:`active_units`.
        confidence: of the limits.
        num_splits: ways to deal the rows into thirds.
        seed: of the dealing, the shuffles, and draws of guides; no generator of yours is moved.

    Returns:
        A :class:`Consistency`.

    Raises:
        ArgumentError: for fewer than two runs, or what is none; an unknown site; fewer than 24
            rows, or 8 for each latent and 8 more.
        DataError: for runs on different observations, or means that are not finite.
        ShapeError: for runs on different numbers of rows.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> z = torch.randn(200, 2)
        >>> turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
        >>> found = idvae.consistency({"a": z, "b": z @ turn, "noise": torch.randn(200, 2)})
        >>> found.pairs.loc[("a", "b"), ["r2_permutation", "r2_orthogonal"]].round(1).tolist()
        [0.6, 1.0]
        >>> bool(abs(found.pairs.loc[("a", "noise"), "r2_affine"]) < 0.1)
        True

    Reference:
        Khemakhem, Kingma, Monti & Hyvärinen, *Variational Autoencoders and Nonlinear ICA: A
        Unifying Framework*, AISTATS 2020; Kivva, Rajendran, Ravikumar & Aragam, *Identifiability of
        deep generative models without auxiliary information*, NeurIPS 2022; Locatello et al.,
        *Challenging Common Assumptions in the Unsupervised Learning of Disentangled
        Representations*, ICML 2019.
    """
    check_count("num_samples", num_samples, minimum=2)
    check_count("num_splits", num_splits)
    check_real("threshold", threshold, at_least=0.0, below=1.0)
    check_real("confidence", confidence, above=0.0, below=1.0)
    check_seed(seed)
    wanted = [var_names] if isinstance(var_names, str) else var_names
    sites = None if wanted is None else check_list("var_names", wanted, "names of sites")
    means = read_runs(runs, data, var_names=sites, num_samples=num_samples, seed=seed)
    found = measure_pairs(means, threshold=threshold, num_splits=num_splits, seed=seed)
    return report_on(means, found, threshold=threshold, confidence=confidence)
