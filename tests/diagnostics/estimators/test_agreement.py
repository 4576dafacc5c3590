"""Agreement of columns: 0 by chance, 1 for copies, and limits that cover."""

import numpy as np
import pytest

from pyro_idvae.diagnostics.estimators.agreement import BIASED, agreement, by_chance, in_sample
from pyro_idvae.diagnostics.estimators.alignments import affine
from pyro_idvae.diagnostics.estimators.block_moments import deal
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
from pyro_idvae.diagnostics.estimators.jackknife import (
    correlation_limits,
    jackknife,
    share_limits,
)
from pyro_idvae.diagnostics.estimators.pairing import splits_of

BLOCKS = 30


def measured(a, b, rng, splits=4):
    """Return each measure with its error and limits, from A to B."""
    a, b = a - a.mean(0), b - b.mean(0)
    found = agreement(a, b, deal(len(a), BLOCKS, rng), splits_of(BLOCKS, splits, rng))
    values = {"mcc": found.mcc, **found.forward.shares, "each": found.forward.each}
    result = {}
    for name, value in values.items():
        estimate = jackknife(value, biased=name in (*BIASED, "each"))
        limits = correlation_limits if name == "mcc" else share_limits
        result[name] = (estimate, *limits(estimate, 0.95))
    return result


def turn_of(size, seed=3):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def permuted(rng, a, noise):
    signs = np.where(np.arange(a.shape[1]) % 2, -1.0, 1.0)
    return a[:, ::-1] * signs + noise * rng.normal(size=a.shape)


def test_copies_agree_exactly():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(100, 3))
    for b in (a, permuted(rng, a, 0.0) * [1.0, 2.0, 0.5]):
        found = measured(a, b, rng)
        for name in ("mcc", "permutation", "affine", "each"):
            estimate, low, high = found[name]
            np.testing.assert_allclose(estimate.estimate, 1.0, atol=1e-12)
            np.testing.assert_allclose([low, high], 1.0, atol=1e-12)
    assert found["orthogonal"][2] < 1


def test_rotated_copies_agree_up_to_a_rotation_only():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 4))
    found = measured(a, 3 * a @ turn_of(4), rng)
    assert found["orthogonal"][0].estimate == pytest.approx(1.0, abs=1e-12)
    assert found["affine"][0].estimate == pytest.approx(1.0, abs=1e-12)
    assert found["mcc"][2] < 0.95
    assert found["permutation"][2] < 0.9


def test_an_affine_copy_agrees_up_to_an_affine_map_only():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 3))
    found = measured(a, a @ np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.0], [0.5, 0.0, 0.1]]), rng)
    assert found["affine"][0].estimate == pytest.approx(1.0, abs=1e-12)
    assert found["orthogonal"][2] < 0.95


def test_noise_agrees_not_at_all_in_the_mean():
    """What is judged in sample is large; the estimates are 0 within their own spread."""
    rng = np.random.default_rng(1)
    runs = [measured(*rng.normal(size=(2, 150, 6)), rng, splits=2) for _ in range(60)]
    for name in ("mcc", "permutation", "orthogonal", "affine", "each"):
        values = np.array([np.mean(run[name][0].estimate) for run in runs])
        assert abs(values.mean()) < 4 * values.std(ddof=1) / 60**0.5
        covered = [np.mean((run[name][1] <= 0) & (run[name][2] >= 0)) for run in runs]
        assert np.mean(covered) > 0.93
    own = in_sample(CrossProducts.of(*rng.normal(size=(2, 150, 6))))
    assert own.mcc > 0.08
    assert own.forward["affine"] > 0.02


def test_in_sample_measures_of_noise_are_those_of_shuffled_rows():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 4))
    b = permuted(rng, a, 0.5)
    chance = by_chance(a, b, 40, rng)
    fresh = [in_sample(CrossProducts.of(*rng.normal(size=(2, 200, 4)))) for _ in range(40)]
    for name in ("permutation", "orthogonal", "affine"):
        ours, theirs = chance.forward[name], np.array([one.forward[name] for one in fresh])
        error = np.hypot(ours.std(), theirs.std()) / 40**0.5
        assert abs(ours.mean() - theirs.mean()) < 4 * error
        assert chance.back[name].mean() > 0.005
    theirs = np.array([one.mcc for one in fresh])
    assert abs(chance.mcc.mean() - theirs.mean()) < 4 * np.hypot(chance.mcc.std(), theirs.std()) / 6


def test_clear_pairs_give_pearsons_correlations():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 3))
    b = permuted(rng, a, 0.3)
    block, splits = deal(200, BLOCKS, rng), splits_of(BLOCKS, 3, rng)
    found = agreement(a, b, block, splits)
    related = np.abs([np.corrcoef(a[:, 2 - k], b[:, k])[0, 1] for k in range(3)])
    np.testing.assert_allclose(found.forward.correlation[0], related)
    assert found.mcc[0] == pytest.approx(related.mean())
    np.testing.assert_allclose(found.back.correlation[0], related[::-1])
    # Without a block it is what the other rows alone give.
    kept = block != 4
    alone = np.abs([np.corrcoef(a[kept, 2 - k], b[kept, k])[0, 1] for k in range(3)])
    assert found.mcc[5] == pytest.approx(alone.mean())


def test_affine_replicates_are_least_squares_without_a_block():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(90, 2))
    b = a @ rng.normal(size=(2, 3)) + rng.normal(size=(90, 3))
    block = deal(90, BLOCKS, rng)
    found = agreement(a, b, block, splits_of(BLOCKS, 1, rng))
    for replicate, kept in ((0, block >= 0), (8, block != 7)):
        x, y = a[kept] - a[kept].mean(0), b[kept] - b[kept].mean(0)
        left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        each = 1 - np.square(left).sum(0) / np.square(y).sum(0)
        np.testing.assert_allclose(found.forward.each[replicate], each)
        whole = 1 - np.square(left).sum() / np.square(y).sum()
        assert found.forward.shares["affine"][replicate] == pytest.approx(whole)


def test_columns_without_a_partner_count_as_nothing():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 4))
    found = agreement(a, a[:, :2], deal(200, BLOCKS, rng), splits_of(BLOCKS, 2, rng))
    assert found.mcc[0] == pytest.approx(0.5)
    assert found.forward.shares["permutation"][0] == pytest.approx(1.0)
    assert found.back.shares["permutation"][0] == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(found.back.correlation[0], [1, 1, 0, 0], atol=1e-12)


RELATIONS = {
    "weak": lambda rng, a: permuted(rng, a, 3.0),
    "middling": lambda rng, a: permuted(rng, a, 1.0),
    "strong": lambda rng, a: permuted(rng, a, 0.03),
    "rotated": lambda rng, a: a @ turn_of(4) + 0.3 * rng.normal(size=a.shape),
    "affine": lambda rng, a: a @ (turn_of(4) * [2.0, 1, 0.5, 0.2]) + 0.2 * rng.normal(size=a.shape),
    "half": lambda rng, a: np.where(
        np.arange(4) < 2, a + 0.5 * rng.normal(size=a.shape), rng.normal(size=a.shape)
    ),
    "crooked": lambda rng, a: np.tanh(2 * a @ turn_of(4)) + 0.3 * rng.normal(size=a.shape),
}
SETS = 400


@pytest.mark.slow
@pytest.mark.parametrize("relation", RELATIONS)
def test_limits_cover_as_often_as_they_say(relation):
    """95 % limits over simulated data sets, against the values of a very large one."""

    def draw(rng, rows):
        centres = 0.7 * np.random.default_rng(5).normal(size=(5, 4))
        a = centres[rng.integers(5, size=rows)] + 0.7 * rng.normal(size=(rows, 4))
        return a, RELATIONS[relation](rng, a)

    a, b = draw(np.random.default_rng(7), 400_000)
    large = CrossProducts.of(a, b)
    whole = in_sample(large)
    truth = {"mcc": whole.mcc, **whole.forward}
    truth["each"] = large.explained(affine(large)) / large.spread()
    rng = np.random.default_rng(11)
    runs = [measured(*draw(rng, 240), rng) for _ in range(SETS)]
    for name, value in truth.items():
        covered = np.mean([np.mean((r[name][1] <= value) & (value <= r[name][2])) for r in runs])
        # Four standard errors of a share of 95 % in 400 data sets, and what is lost to 240 rows.
        assert covered > 0.95 - 4 * (0.05 * 0.95 / SETS) ** 0.5 - 0.01, f"{name}: {covered:.3f}"
        if name != "mcc" and relation != "half":
            assert covered < 0.995, f"{name}: {covered:.3f}"
