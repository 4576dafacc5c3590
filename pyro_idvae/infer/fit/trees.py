# SPDX-License-Identifier: Apache-2.0
"""Nested states, such as an optimiser's, as tensors by name and JSON: nothing is ever pickled."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pyro_idvae.errors import ArgumentError

PLAIN = (bool, int, str, type(None))


def pack(what: str, tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a nested state as JSON, its tensors put aside under the names that stand for them.

    Args:
        what: name of the state: the first part of the tensors' names.
        tree: dicts, lists, tuples, numbers, strings, None and tensors.
        tensors: gets the tensors.

    Raises:
        ArgumentError: for a part of another type.
    """
    if isinstance(tree, Tensor):
        while what in tensors:
            what += "'"  # "a.b" of "c" and "a" of "b.c" would be one name
        tensors[what] = tree
        return {"tensor": what}
    if isinstance(tree, np.generic):
        tree = tree.item()
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else {"float": repr(tree)}
    if isinstance(tree, PLAIN):
        return tree
    if isinstance(tree, (list, tuple, deque)):
        kind = next(k.__name__ for k in (tuple, deque, list) if isinstance(tree, k))
        return {kind: [pack(f"{what}.{i}", part, tensors) for i, part in enumerate(tree)]}
    if isinstance(tree, Mapping):
        kind = "counter" if isinstance(tree, Counter) else "dict"
        keys = [key for key in tree if not isinstance(key, PLAIN)]
        if not keys:
            return {kind: [[k, pack(f"{what}.{k}", part, tensors)] for k, part in tree.items()]}
        tree = keys[0]
    raise ArgumentError(
        f"{what} is a {type(tree).__name__}: a checkpoint keeps numbers, strings, tensors, and "
        "lists and dicts of them, and never pickles; give what has this state a state_dict of these"
    )


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested state that :func:`pack` made JSON of."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind in ("list", "tuple", "deque"):
        parts = [unpack(part, tensors) for part in content]
        return {"list": list, "tuple": tuple, "deque": deque}[kind](parts)
    pairs = {key: unpack(part, tensors) for key, part in content}
    return Counter(pairs) if kind == "counter" else pairs


def copied(tree: Any) -> Any:
    """Return a nested state with copies of its tensors."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, (list, tuple, deque)):
        return type(tree)(copied(part) for part in tree)
    if isinstance(tree, Counter):
        return Counter(tree)
    if isinstance(tree, Mapping):
        return {key: copied(part) for key, part in tree.items()}
    return tree
