# SPDX-License-Identifier: Apache-2.0
"""Abstract or final: what a subclass must write, what it may override, and nothing else.

No metaclass: ``ABCMeta`` cannot be combined with that of ``PyroModule``, so ``PyroModule[C]`` and
``to_pyro_module_`` fail on every class that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])
Instance = TypeVar("Instance", bound="AbstractOrFinal")

_RULE = "_subclass_rule"


def must_write(method: Method) -> Method:
    """Mark a method that a subclass has to write before it can be instantiated."""
    setattr(method, _RULE, "must")
    return method


def may_override(method: Method) -> Method:
    """Mark a concrete method that a subclass may replace; the replacement is final."""
    setattr(method, _RULE, "may")
    return method


def rule_of(value: object) -> str | None:
    """Return ``"must"``, ``"may"``, ``"final"`` for methods and properties, None for data."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, staticmethod | classmethod):
        value = value.__func__
    return getattr(value, _RULE, "final") if isinstance(value, FunctionType) else None


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def overrides(cls: type, has_rules: Callable[[type], bool]) -> Iterator[tuple[type, str, type]]:
    """Yield (class, method, base) wherever a class of the MRO overrides what a base finished.

    Args:
        cls: the class whose method resolution order is looked at.
        has_rules: tells whose methods count; anybody's may be overridden who has no rules.
    """
    for place, base in enumerate(cls.__mro__):
        if not has_rules(base):
            continue
        for name, value in vars(base).items():
            if _is_special(name) or rule_of(value) != "final":
                continue
            for earlier in cls.__mro__[:place]:
                if name in vars(earlier):
                    yield earlier, name, base


def names_with(rule: str, cls: type, has_rules: Callable[[type], bool]) -> list[str]:
    """Return the names that a class resolves to methods marked with a rule, sorted."""
    found: dict[str, object] = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            found.setdefault(name, value if has_rules(base) else None)
    return sorted(name for name, value in found.items() if rule_of(value) == rule)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"


class AbstractOrFinal:
    """Mixin for the roots of hierarchies: classes are abstract, or all they define is final.

    A subclass writes the methods marked :func:`must_write` and may replace those marked
    :func:`may_override`; class attributes, ``__init__`` and other special methods are its own
    business. Anything else is refused when the subclass is made, and an abstract class when it is
    instantiated, both by ``TypeError``.
    """

    _abstract_methods: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for culprit, name, base in overrides(cls, _has_rules):
            parent = next(above for above in cls.__mro__[1:] if _has_rules(above))
            allowed = names_with("must", parent, _has_rules) + names_with("may", parent, _has_rules)
            raise TypeError(
                f"{culprit.__name__} overrides {name}, which is final in {base.__name__}: a "
                f"subclass of {parent.__name__} may override {_listed(sorted(allowed))}"
            )
        cls._abstract_methods = tuple(names_with("must", cls, _has_rules))

    def __new__(cls: type[Instance], *args: Any, **kwargs: Any) -> Instance:
        """Refuse a class that still has methods to write."""
        if cls._abstract_methods:
            raise TypeError(
                f"{cls.__name__} is abstract: a subclass must write "
                f"{_listed(list(cls._abstract_methods))}"
            )
        return super().__new__(cls)


def _has_rules(cls: type) -> bool:
    return issubclass(cls, AbstractOrFinal) and cls is not AbstractOrFinal
