"""Every Python block of the README and the documentation runs as it stands."""

import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in FILES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_run(block):
    mpl.use("agg")
    exec(compile(block, "<block>", "exec"), {"__name__": "readme"})
    plt.close("all")


def test_there_are_blocks():
    assert len(BLOCKS) >= 2
