"""Sphinx configuration."""

import warnings

from pyro_idvae import __version__

warnings.filterwarnings("ignore", category=FutureWarning)

project = "pyro_idvae"
copyright = "the pyro_idvae authors"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
napoleon_use_ivar = True
templates_path = ["_templates"]
autodoc_typehints = "none"
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = "pyro_idvae"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]
