"""Sphinx configuration."""

import importlib
import importlib.resources
import pkgutil
import re
import warnings
from pathlib import Path

from sphinx.util.nodes import make_refnode

import pyro_idvae

warnings.filterwarnings("ignore", category=FutureWarning)

HERE = Path(__file__).parent

project = "pyro_idvae"
author = "the pyro_idvae authors"
copyright = author
version = release = pyro_idvae.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Other projects' names: their inventories would have to be fetched.
    (r"py:.*", r"(abc|torch|pyro|nn|numpy|matplotlib|pandas|xarray|arviz|lightning)\b.*"),
    (r"py:.*", r"(object|tuple|float|int|str|bool|ValueError|RuntimeError|NamedTuple)"),
    # Annotations of dataclasses' fields, which the signature of the class shows.
    (r"py:class", r"(Tensor|FitState|collections\.abc\.(Callable|Mapping))"),
    # Bases that several public families share and that are not public themselves.
    (r"py:class", r"pyro_idvae\.distributions\.\w+\.(Count|LocationScale|Simplex)Family"),
    (r"py:class", r"pyro_idvae\._abstract\.AbstractOrFinal"),
    (r"py:class", r"pyro_idvae\.potentials\.closed_form\.ClosedFormPotential"),
]

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False

nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = "pyro_idvae"
# A copy of MathJax goes into the build, so that pages are read without a network. Its glyphs are
# paths: fonts would not load from a file in some browsers.
MATHJAX = importlib.resources.files("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg.js"
mathjax_path = MATHJAX.name
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1f5fa8",
        "color-brand-content": "#1f5fa8",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7ab8ff",
        "color-brand-content": "#7ab8ff",
    },
}


def public_modules():
    """Return the modules below the package that say what is public."""
    modules = []
    for found in pkgutil.iter_modules(pyro_idvae.__path__, "pyro_idvae."):
        if not found.name.rpartition(".")[2].startswith("_"):
            module = importlib.import_module(found.name)
            if hasattr(module, "__all__"):
                modules.append(module)
    return [*modules, *(importlib.import_module(n) for n in API_ORDER if n.count(".") > 1)]


API_ORDER = re.findall(r"^   (pyro_idvae\.[\w.]+)$", (HERE / "api.md").read_text(), re.MULTILINE)
PAGES = {name: f"{m.__name__}.{name}" for m in public_modules() for name in m.__all__}

# A class and a function that differ in capitals only would share a file on some disks.
_CLASSES = {page.lower() for page in PAGES.values() if not page.rpartition(".")[2].islower()}
autosummary_filename_map = {
    page: f"{page}-function"
    for page in PAGES.values()
    if page.rpartition(".")[2].islower() and page in _CLASSES
}


def resolve_own(app, env, node, contnode):
    """Find a public name referred to by its last part, from the top level or from a subclass."""
    if node.get("refdomain") != "py":
        return None
    parts = node["reftarget"].split(".")
    if node.get("reftype") == "meth" and node.get("py:class") is None and len(parts) == 1:
        return contnode  # a method in the table of a layer, where there is no class to look in
    owner = PAGES.get(str(node.get("py:class")).rpartition(".")[2])
    if owner is not None and len(parts) == 1 and parts[0] not in PAGES:
        module, _, name = owner.rpartition(".")
        bases = getattr(importlib.import_module(module), name).__mro__
        parts = next(([b.__name__, *parts] for b in bases if parts[0] in vars(b)), parts)
    for place, part in enumerate(parts):
        if part not in PAGES:
            continue
        name = ".".join([PAGES[part], *parts[place + 1 :]])
        entry = env.get_domain("py").objects.get(name)
        if entry is not None:
            here = node.get("refdoc", env.docname)
            return make_refnode(app.builder, here, entry.docname, entry.node_id, contnode, name)
    return None


def copy_notebooks():
    """Put the notebooks where the table of contents looks for them, their links to pages kept."""
    target = HERE / "notebooks"
    sources = {path.name: path for path in sorted((HERE.parent / "notebooks").glob("*.ipynb"))}
    for old in target.glob("*.ipynb"):
        if old.name not in sources:
            old.unlink()
    for name, path in sources.items():
        text, copy = path.read_text().replace("](../docs/", "](../"), target / name
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)


copy_notebooks()


def without_notebooks(app, docname, source):
    """Take out a table of contents that would have no entries, which Sphinx warns of."""
    if docname != "notebooks/index":
        return
    app.env.reread_always.add(docname)
    if not any((HERE / "notebooks").glob("*.ipynb")):
        source[0] = source[0].partition("```{toctree}")[0] + "There are none in this build.\n"


def top_level_table(app, docname, source):
    """Fill in, layer by layer, what can be taken from the top level."""
    if docname != "api":
        return
    app.env.reread_always.add(docname)
    rows = ["| layer | names |", "|---|---|"]
    layers = [module for module in public_modules() if module.__name__.count(".") == 1]
    for module in sorted(layers, key=lambda m: API_ORDER.index(m.__name__)):
        names = [name for name in module.__all__ if name in pyro_idvae.__all__]
        if names:
            roles = ("class" if name[0].isupper() else "func" for name in names)
            links = [
                f"{{py:{role}}}`~{PAGES[name]}`" for role, name in zip(roles, names, strict=True)
            ]
            rows.append(f"| `{module.__name__.rpartition('.')[2]}` | {', '.join(links)} |")
    source[0] = source[0].replace("<!-- top level -->", "\n".join(rows))


def setup(app):
    """Connect the functions above."""
    app.connect("missing-reference", resolve_own)
    app.connect("source-read", without_notebooks)
    app.connect("source-read", top_level_table)
