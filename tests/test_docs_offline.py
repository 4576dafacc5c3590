"""Pages are read without a network, and code is not cut off at 1,300 px."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NEEDED = ("sphinx", "furo", "myst_nb", "sphinx-mathjax-offline")
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']((?:https?:)?//[^\"']+)"
)
PAGE = """# A page

$$\\tfrac K2\\log(1+L^2) \\le I(z;x)$$

```{code-cell}
print("an output")
```
"""


def from_elsewhere(folder):
    """Return what pages would load from other hosts: links that a reader may follow are none."""
    found = set()
    for page in folder.rglob("*.html"):
        found |= set(LOADED.findall(page.read_text()))
    for style in folder.rglob("*.css"):
        text = style.read_text()
        found |= set(re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^)\"']+)", text))
    return found


def test_what_is_loaded_from_elsewhere_is_seen(tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="https://a.example"></a><script defer src="https://b.example/x.js"></script>'
        '<link rel="stylesheet" href="//c.example/y.css"/><img src="_static/z.png"/>'
    )
    (tmp_path / "style.css").write_text('@import "https://d.example/w.css";')
    found = {url.split("//")[1].split("/")[0] for url in from_elsewhere(tmp_path)}
    assert found == {"b.example", "c.example", "d.example"}


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the docs extra"
)
def test_a_page_loads_nothing_from_elsewhere(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "index.md").write_text(PAGE)
    build = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html", "-c", str(DOCS)]
    done = subprocess.run([*build, str(source), str(out)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    page = (out / "index.html").read_text()
    assert from_elsewhere(out) == set()
    (script,) = re.findall(r'src="(_static/tex-svg\.js)[^"]*"', page)
    assert (out / script).stat().st_size > 1e6
    assert "\\tfrac K2" in page


def test_the_last_build_loads_nothing_from_elsewhere():
    built = DOCS / "_build" / "html"
    index, conf = built / "index.html", DOCS / "conf.py"
    if not index.exists() or index.stat().st_mtime < conf.stat().st_mtime:
        pytest.skip("there is no build of this configuration")
    assert from_elsewhere(built) == set()


def test_code_and_reports_fit_at_1300_pixels():
    style = (DOCS / "_static" / "custom.css").read_text()
    (media,) = re.findall(r"@media \(min-width: 67.01em\)[^{]*\{(.*?)\n\}", style, re.DOTALL)
    widest, beside = map(float, re.search(r"min\((\d+)em, calc\(100vw - (\d+)em\)", media).groups())
    content = 16 * min(widest, 1300 / 16 - beside)
    # What furo gives code: padding of .875rem, 81.25 % of the font, .6 of it a column.
    columns = (content - 2 * 0.875 * 16) / (0.6 * 0.8125 * 16)
    assert columns >= 120
