"""A pytest plugin: the parts of the package that need no torch, where there is none.

``pyro_idvae`` and its folders become bare packages whose ``__init__`` is not run, so that their
modules can be imported one by one. Where torch is installed nothing is changed.
"""

import importlib.util
import sys
import types
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pyro_idvae"

if importlib.util.find_spec("torch") is None:
    for name in ("pyro_idvae", "pyro_idvae.diagnostics", "pyro_idvae.plots"):
        module = types.ModuleType(name)
        module.__path__ = [str(PACKAGE.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
