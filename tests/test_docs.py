"""Every public name has a page, every page is reachable, every reference leads somewhere."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import pyro_idvae

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BUILT = {"_build", "api"}
PAGES = [
    path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in BUILT
]
NAMES = [path.relative_to(DOCS).as_posix() for path in PAGES]
TEXTS = dict(zip(NAMES, (path.read_text() for path in PAGES), strict=True))
FENCE = re.compile(r"^(`{3,})(\{toctree\})?[^\n]*\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


def public_modules():
    found = []
    for entry in pkgutil.iter_modules(pyro_idvae.__path__, "pyro_idvae."):
        if not entry.name.rpartition(".")[2].startswith("_"):
            module = importlib.import_module(entry.name)
            if hasattr(module, "__all__"):
                found.append(module)
    return found


def is_documented_by_template(value):
    return inspect.isclass(value) or inspect.isfunction(value)


MODULES = public_modules()
API = TEXTS["api.md"]
BIBLIOGRAPHY = re.sub(r"\s+", " ", TEXTS["bibliography.md"]).lower()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_of_a_layer_have_pages(module):
    assert re.search(rf"^   {re.escape(module.__name__)}$", API, re.MULTILINE)
    for name in module.__all__:
        if not is_documented_by_template(getattr(module, name)):
            assert f".. py:data:: {module.__name__}.{name}\n" in API


def test_the_templates_list_all_of_a_layer():
    template = (DOCS / "_templates" / "autosummary" / "module.rst").read_text()
    assert ":toctree:" in template
    assert "for item in members if item in (classes + functions + exceptions)" in template
    settings = (DOCS / "conf.py").read_text()
    for line in (
        "autosummary_generate = True",
        "autosummary_imported_members = True",
        "autosummary_ignore_module_all = False",
    ):
        assert line in settings


def test_public_names_of_the_top_level_have_pages():
    known = {id(getattr(module, name)) for module in MODULES for name in module.__all__}
    for name in pyro_idvae.__all__:
        value = getattr(pyro_idvae, name)
        if inspect.ismodule(value):
            assert value in MODULES
        elif is_documented_by_template(value):
            assert id(value) in known
        else:
            assert f".. py:data:: pyro_idvae.{name}\n" in API


def _entries(name):
    """Return the pages that the tables of contents of a page lead to."""
    folder = (DOCS / name).parent
    found = []
    for fence in FENCE.finditer(TEXTS[name]):
        if fence[2] is None:
            continue
        for line in fence[3].splitlines():
            entry = line.strip()
            if entry and not entry.startswith(":") and "*" not in entry:
                target = (folder / f"{entry}.md").resolve()
                assert target.is_file(), f"{name} leads to {entry}, which does not exist"
                found.append(target.relative_to(DOCS).as_posix())
    return found


def test_every_page_is_reachable():
    reached, waiting = set(), ["index.md"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _entries(name)
    assert reached == set(NAMES)


def _anchors(text):
    """Return the targets that other pages may name in a page: headings and labels."""
    headings = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings)
    return {slug.replace(" ", "-") for slug in slugs} | set(re.findall(r"^\((.+)\)=$", text, re.M))


LABELS = {label for text in TEXTS.values() for label in re.findall(r"^\((.+)\)=$", text, re.M)}


@pytest.mark.parametrize("name", [*NAMES, "../README.md", "../CONTRIBUTING.md"])
def test_internal_links_lead_somewhere(name):
    path = (DOCS / name).resolve()
    text = FENCE.sub("", path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.exists(), f"{name}: {target}"
        if anchor and goal.suffix == ".md":
            known = _anchors(goal.read_text()) | (LABELS if not file else set())
            assert anchor in known, f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_included_text_exists(name):
    for source, options in re.findall(
        r"^```\{include\} (\S+)\n(.*?)^```", TEXTS[name], re.DOTALL | re.MULTILINE
    ):
        text = ((DOCS / name).parent / source).read_text()
        for marker in re.findall(r'^:(?:start-after|end-before): "(.*)"$', options, re.MULTILINE):
            assert marker in text, f"{name} includes {source} at {marker!r}"
            text = text.partition(marker)[2]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_text_exist(name):
    for target in re.findall(r"\{py:\w+\}`~?([\w.]+)`", TEXTS[name]):
        value, parts = pyro_idvae, target.split(".")
        assert parts[0] == "pyro_idvae"
        for place, part in enumerate(parts[1:], start=1):
            if inspect.ismodule(value) and not hasattr(value, part):
                importlib.import_module(".".join(parts[: place + 1]))
            value = getattr(value, part)
            private = inspect.ismodule(value) and not hasattr(value, "__all__")
            assert not private, f"{name}: {target} is not where the name is public"


def test_what_docstrings_cite_is_in_the_bibliography():
    for path in sorted((ROOT / "pyro_idvae").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            entry = (ast.get_docstring(node) or "").partition("Reference:")[2]
            for title in re.findall(r"\*([^*]+)\*", re.sub(r"\s+", " ", entry)):
                assert title.lower() in BIBLIOGRAPHY, f"{path.name} cites {title}"
