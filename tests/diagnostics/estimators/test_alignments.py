"""Maps between two sets of columns are the best of their class, and products add up."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from pyro_idvae.diagnostics.estimators.alignments import (
    affine,
    explained_by_rank,
    matched,
    orthogonal,
    permutation,
)
from pyro_idvae.diagnostics.estimators.block_moments import BlockMoments, deal
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts


def columns(seed, rows=80, first=3, second=3):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, first)) @ rng.normal(size=(first, first))
    return a, a @ rng.normal(size=(first, second)) + rng.normal(size=(rows, second))


def left_of(a, b, maps):
    a, b = a - a.mean(0), b - b.mean(0)
    return np.square(b - a @ maps).sum()


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4), (4, 2), (1, 1)])
def test_what_a_map_explains_is_what_it_leaves_less(sizes):
    a, b = columns(0, first=sizes[0], second=sizes[1])
    found = CrossProducts.of(a, b)
    for align in (permutation, orthogonal, affine):
        maps = align(found)
        explained = found.spread().sum() - found.explained(maps).sum()
        assert explained == pytest.approx(left_of(a, b, maps))


def test_affine_maps_are_least_squares():
    a, b = columns(1)
    wanted = np.linalg.lstsq(a - a.mean(0), b - b.mean(0), rcond=None)[0]
    np.testing.assert_allclose(affine(CrossProducts.of(a, b)), wanted, rtol=1e-9)


def test_affine_maps_of_columns_that_depend_on_each_other():
    a, b = columns(1)
    twice = np.concatenate([a, a[:, :1] - 2 * a[:, 1:2]], 1)
    found = affine(CrossProducts.of(twice, b))
    assert left_of(twice, b, found) == pytest.approx(left_of(a, b, affine(CrossProducts.of(a, b))))


@pytest.mark.parametrize("seed", range(5))
def test_permutations_are_the_best_of_all(seed):
    a, b = columns(seed)
    found = CrossProducts.of(a, b)
    related = np.abs(np.corrcoef(a, b, rowvar=False)[:3, 3:])
    np.testing.assert_allclose(np.abs(found.correlations()), related)
    best = max(sum(related[i, j] for i, j in enumerate(p)) for p in permutations(range(3)))
    assert related[matched(related)].sum() == pytest.approx(best)
    maps = permutation(found)
    assert ((maps != 0).sum(0) == 1).all()
    assert ((maps != 0).sum(1) == 1).all()
    for i, j in np.argwhere(maps):
        slope = np.polyfit(a[:, i], b[:, j], 1)[0]
        assert maps[i, j] == pytest.approx(slope)


def test_rotations_are_those_of_procrustes():
    a, b = columns(2)
    found = CrossProducts.of(a, b)
    maps = orthogonal(found, np.array(3))
    turn, scale = orthogonal_procrustes(a - a.mean(0), b - b.mean(0))
    size = scale / np.square(a - a.mean(0)).sum()
    np.testing.assert_allclose(maps, size * turn, rtol=1e-9)


def test_directions_that_are_not_shared_are_left_out():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 4000, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    b = np.concatenate([a[:, :2], noise[:, :2]], 1) @ turn
    found = CrossProducts.of(a, b)
    assert explained_by_rank(found).argmax() == 1
    maps = orthogonal(found)
    assert np.linalg.matrix_rank(maps, 1e-6) == 2
    assert left_of(a, b, maps) < 0.52 * np.square(b).sum()
    all_turned = orthogonal(found, np.array(4))
    assert left_of(a, b, all_turned) > 0.7 * np.square(b).sum()


def test_many_at_once_are_each_by_itself():
    pairs = [columns(seed, first=2, second=3) for seed in range(4)]
    parts = [CrossProducts.of(*pair) for pair in pairs]
    together = CrossProducts(*(np.stack(part) for part in zip(*parts, strict=True)))
    for align in (permutation, orthogonal, affine):
        maps = align(together)
        for place, part in enumerate(parts):
            np.testing.assert_allclose(maps[place], align(part), atol=1e-12)


def test_products_of_unions_of_blocks_are_those_of_their_rows():
    rng = np.random.default_rng(0)
    values, block = rng.normal(5.0, 1.0, size=(50, 4)), deal(50, 7, rng)
    moments = BlockMoments.of(values, block)
    for chosen in product((0.0, 1.0), repeat=7):
        if sum(chosen) < 2:
            continue
        parts = np.array(chosen)
        own = values[parts[block] == 1]
        centred = own - own.mean(0)
        np.testing.assert_allclose(
            moments.centred(parts, around=parts), centred.T @ centred, atol=1e-8
        )
    whole = np.ones(7)
    pieces = moments.centred(np.eye(7), around=whole[None])
    np.testing.assert_allclose(pieces.sum(0), moments.centred(whole, around=whole), atol=1e-8)


def test_blocks_are_of_one_size_but_for_a_row():
    sizes = np.bincount(deal(100, 30, np.random.default_rng(0)))
    assert set(sizes) == {3, 4}
    assert sizes.sum() == 100
