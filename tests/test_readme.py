"""The Python blocks of the README and the documentation run as they stand, each file in order."""

import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
BUILT = {"_build", "api"}
PAGES = [
    path
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if path.relative_to(ROOT / "docs").parts[0] not in BUILT
]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
BLOCKS = {
    path.relative_to(ROOT).as_posix(): re.findall(
        r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE
    )
    for path in FILES
}


LONG = {"global", "evidence", "diagnostics", "migrate", "trust"}
"""Pages whose blocks take ten seconds or more."""


def runs(name):
    return pytest.param(name, marks=[pytest.mark.slow] if Path(name).stem in LONG else [])


@pytest.mark.parametrize("name", [runs(name) for name, blocks in BLOCKS.items() if blocks])
def test_blocks_run(name):
    mpl.use("agg")
    names = {"__name__": "readme"}
    for block in BLOCKS[name]:
        exec(compile(block, f"<{name}>", "exec"), names)
    plt.close("all")


def test_there_are_blocks():
    assert sum(map(len, BLOCKS.values())) >= 3
    assert any(name.startswith("docs/layers/") for name, blocks in BLOCKS.items() if blocks)
