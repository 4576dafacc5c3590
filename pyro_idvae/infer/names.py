# SPDX-License-Identifier: Apache-2.0
"""What the dimensions of a model's draws are called, and what the labels along them are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyro_idvae._stored import coordinate_labels, is_kept
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.programs.bound_model import RESERVED, BoundModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Names:
    """Names of dimensions, and labels along them.

    Attributes:
        data_dim: of the dimension of rows.
        sites: of the dimensions of each site's value.
        labels: by dimension, where they were given.
        coordinates: of the coordinates of sites, by what they are called without labels.
    """

    data_dim: str
    sites: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Array]
    coordinates: Mapping[str, str]

    @classmethod
    def of(
        cls,
        bound: BoundModel,
        coords: object = None,
        dims: object = None,
        *,
        taken: Collection[str] = (),
    ) -> Names:
        """Return the names that a user gave, and automatic ones for all else.

        Args:
            bound: the model.
            coords: labels by dimension.
            dims: names of dimensions by site: of all of them, or of all but the data plate's.
            taken: names of statistics that come with the draws.

        Raises:
            ArgumentError: for sites or dimensions that are not there, or names and labels that are
                no names and labels.
            ShapeError: for names or labels that are too many or too few.
        """
        shapes = {
            name: tuple(bound.trace.nodes[name]["value"].shape)
            for name in (*bound.latents, *bound.observed)
        }
        given = {
            site: _names(bound, shapes, site, names)
            for site, names in _mapping("dims", dims).items()
        }
        labels = {key: _labels(key, value) for key, value in _mapping("coords", coords).items()}
        data_dim = _data_dim(bound, given, labels)
        for site, names in given.items():
            for name in names:
                _check_free(f"dims[{site!r}]", name, {*shapes, *taken})
        if data_dim != bound.data_dim:
            _check_free("coords", data_dim, {*shapes, *taken})
        sites = {site: _with_rows(bound, site, given.get(site), data_dim) for site in shapes}
        _check_sizes(bound, data_dim, sites, shapes, labels)
        coordinates: dict[str, str] = {}
        for site in bound.latents:
            own = {n: s for n, s in zip(sites[site], shapes[site], strict=True) if n != data_dim}
            plain = coordinate_labels(site, [range(size) for size in own.values()])
            named = [labels.get(name, range(size)) for name, size in own.items()]
            coordinates.update(zip(plain, coordinate_labels(site, named), strict=True))
        return cls(data_dim, sites, labels, coordinates)


def _mapping(argument: str, value: object) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        what = "names of dimensions by site" if argument == "dims" else "labels by dimension"
        raise ArgumentError(f"{argument} is a {type(value).__name__}: expected a dict, {what}")
    return value


def _names(
    bound: BoundModel, shapes: Mapping[str, tuple[int, ...]], site: object, names: object
) -> list[str]:
    """Return the names given for a site's dimensions."""
    if site not in shapes:
        raise ArgumentError(
            f"dims has the key {site!r}: expected sites of the model, some of {sorted(shapes)}"
        )
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ArgumentError(
            f"dims[{site!r}]={names!r}: expected a list of names, one for each dimension, such as "
            '["gene"]'
        )
    for name in names:
        _check_name(site, name)
    if len(set(names)) < len(names):
        raise ArgumentError(f"dims[{site!r}]={names!r}: give each dimension a name of its own")
    size, local = len(shapes[str(site)]), bound.row_place(str(site)) is not None
    if len(names) not in ({size - 1, size} if local else {size}):
        which = f" after the {bound.rows} rows" if local else ""
        own = size - local
        raise ShapeError(
            f"dims[{site!r}]={names!r} has {len(names)} names: each value of {site!r} has {own} "
            f"dimension{'s' * (own != 1)}{which}"
        )
    return list(names)


def _check_name(site: object, name: object) -> None:
    if not isinstance(name, str) or not name or "/" in name:
        raise ArgumentError(
            f"dims[{site!r}] has the name {name!r}: expected a string that is not empty and holds "
            "no slash"
        )


def _check_free(where: str, name: str, taken: Collection[str]) -> None:
    """Raise for the name of a variable or of a dimension that means something else."""
    if name in RESERVED or name in taken or is_kept(name):
        raise ArgumentError(
            f"{where} has the name {name!r}, which sites, statistics or reports have: call the "
            "dimension something else"
        )


def _labels(key: object, value: Any) -> Array:
    """Return the labels along a dimension."""
    if isinstance(value, (str, bytes, Mapping)):
        raise ArgumentError(f"coords[{key!r}]={value!r}: expected a list of labels")
    try:
        array = np.asarray(value if hasattr(value, "__array__") else list(value))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"coords[{key!r}] is a {type(value).__name__}: expected a list of labels ({error})"
        ) from error
    if array.ndim != 1:
        raise ShapeError(
            f"coords[{key!r}] has shape {array.shape}: expected labels along one dimension"
        )
    plain = array.tolist()
    if any(part is None or _is_nan(part) for part in plain) or (
        array.dtype.kind == "O" and not all(isinstance(part, str) for part in plain)
    ):
        raise ArgumentError(
            f"coords[{key!r}] has labels that are neither all strings nor all numbers: convert "
            "them, e.g. list(map(str, labels))"
        )
    return array


def _is_nan(label: object) -> bool:
    return isinstance(label, float) and math.isnan(label)


def _data_dim(
    bound: BoundModel, given: Mapping[str, Sequence[str]], labels: Mapping[Any, Array]
) -> str:
    """Return what the dimension of rows is called.

    The name it has in a full list; else the one key of ``coords`` that names no other dimension and
    has a label for each row; else the automatic one.
    """
    full = {
        site: names[place]
        for site, names in given.items()
        if (place := bound.row_place(site)) is not None and len(names) == len(bound.dims(site))
    }
    if len(set(full.values())) > 1:
        raise ArgumentError(
            f"dims calls the rows by different names, {full}: call them the same in all sites"
        )
    if full:
        return next(iter(full.values()))
    known = {name for names in given.values() for name in names}
    for site in (*bound.latents, *bound.observed):
        known |= {bound.data_dim, *bound.dims(site)}
    spare = [key for key in labels if key not in known]
    if bound.plate is None or bound.data_dim in labels or len(spare) != 1:
        return bound.data_dim
    fits = isinstance(spare[0], str) and len(labels[spare[0]]) == bound.rows
    return spare[0] if fits else bound.data_dim


def _with_rows(
    bound: BoundModel, site: str, given: Sequence[str] | None, data_dim: str
) -> tuple[str, ...]:
    """Return the names of all dimensions of a site's value, that of its rows among them."""
    automatic, place = bound.dims(site), bound.row_place(site)
    names = list(automatic if given is None else given)
    if place is None:
        return tuple(names)
    if len(names) == len(automatic):
        del names[place]
    return (*names[:place], data_dim, *names[place:])


def _check_sizes(
    bound: BoundModel,
    data_dim: str,
    sites: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    labels: Mapping[Any, Array],
) -> None:
    """Raise unless a name is that of one size, and labels are those of named dimensions."""
    sizes = {data_dim: bound.rows}
    owners = {data_dim: "data"}
    for site, names in sites.items():
        place = bound.row_place(site)
        for axis, (name, size) in enumerate(zip(names, shapes[site], strict=True)):
            if name == data_dim and axis != place:
                raise ArgumentError(
                    f"dims[{site!r}]={list(names)}: {name!r} is what the rows are called, and this "
                    "dimension is not in their plate; call it something else"
                )
            if sizes.setdefault(name, size) != size:
                raise ShapeError(
                    f"dims[{site!r}] has the name {name!r} for a dimension of size {size}, which "
                    f"{owners[name]!r} has for one of size {sizes[name]}: use two names"
                )
            owners.setdefault(name, site)
    for key, values in labels.items():
        if key not in sizes:
            raise ArgumentError(
                f"coords has the key {key!r}: expected dimensions, some of {sorted(sizes)}; name "
                'others by dims, e.g. dims={"site": ["name"]}, and the rows by as many labels as '
                f"there are rows, {bound.rows}"
            )
        if len(values) != sizes[key]:
            what = "data has" if key == data_dim else f"the dimension, of {owners[key]!r}, has"
            rows = "rows" if key == data_dim else "places"
            raise ShapeError(
                f"coords[{key!r}] has {len(values)} labels but {what} {sizes[key]} {rows}"
            )
        twice = [label for label, times in Counter(values.tolist()).items() if times > 1]
        # Rows may share labels, those of classes for instance; latents are told apart by theirs.
        if twice and key != data_dim:
            raise ArgumentError(
                f"coords[{key!r}] has the label {twice[0]!r} more than once: give each place along "
                "the dimension a label of its own"
            )
