"""The house rules: imports run one way, files stay small, public names are sorted and exist."""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pyro_idvae"
ORDER = [
    "potentials",
    "transforms",
    "distributions",
    "models",
    "programs",
    "infer",
    "diagnostics",
    "lightning",
    "plots",
    "experiments",
]
LEAVES = {
    "errors",
    "_chains",
    "_checks",
    "_files",
    "_precision",
    "_stored",
    "_upstream",
    "_abstract",
    "_version",
    "arviz_io",
    "datasets",
}
ALONE = LEAVES - {"_chains", "_checks", "arviz_io"}
"""Leaves that import nothing of ours."""
BESIDE = {"models", "programs"}
"""Layers that stand side by side: neither imports the other."""
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_idvae."):
            yield node.module.split(".")[1], node
        elif isinstance(node, ast.ImportFrom) and node.module == "pyro_idvae":
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("pyro_idvae."):
                    yield alias.name.split(".")[1], node
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            # What is imported by a name in a string is an import all the same.
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else "unknown"
            assert "pyro_idvae" not in name, f"line {node.lineno} imports {name} dynamically"
            assert name != "unknown", f"line {node.lineno} imports a name that is not a constant"


def called(node):
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def layer(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = layer(path)
    targets = {name for name, _ in imported(path)}
    if own == "arviz_io":
        assert targets <= {"errors", "_files"}
    elif own in ALONE:
        assert targets <= {own}
    elif own in ("_checks", "_chains"):
        assert targets <= {"errors"}
    elif own in ORDER:
        allowed = set(ORDER[: ORDER.index(own) + 1]) | LEAVES
        if own in BESIDE:
            allowed -= BESIDE - {own}
        assert targets <= allowed, f"{path} imports {targets - allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("name", [*ORDER[:-1], "datasets", "testing", "errors", "arviz_io", ""])
def test_public_names_are_sorted_and_exist(name):
    module = importlib.import_module(f"pyro_idvae.{name}".rstrip("."))
    names = module.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(module, public) for public in names)
    # Sorted as ruff sorts them: constants, classes, the rest.
    groups = [
        [n for n in names if n.isupper()],
        [n for n in names if not n.isupper() and n[0].isupper()],
        [n for n in names if not n[0].isupper()],
    ]
    assert [n for group in groups for n in sorted(group)] == names


def test_public_things_have_docstrings():
    for name in ORDER[:-1]:
        module = importlib.import_module(f"pyro_idvae.{name}")
        for public in module.__all__:
            thing = getattr(module, public)
            assert isinstance(thing, int) or (thing.__doc__ or "").strip(), f"{name}.{public}"


def test_the_version_stands_in_one_place():
    root = PACKAGE.parent
    version = importlib.import_module("pyro_idvae").__version__
    assert f"version: {version}\n" in (root / "CITATION.cff").read_text()
    assert "attr: pyro_idvae._version.__version__" in (root / "setup.cfg").read_text()
    assert f"[{version}]" in (root / "CHANGELOG.md").read_text()
