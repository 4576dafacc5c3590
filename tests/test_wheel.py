"""The wheel with its extras, in an environment of its own: the scripts of how-tos run in it."""

import re
import sys
import venv
from pathlib import Path

import pytest

from tests.processes import output

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run(*command, folder):
    return output(*command, folder=folder, PYTHONPATH="", PIP_DISABLE_PIP_VERSION_CHECK="1")


@pytest.mark.slow
def test_how_tos_run_with_the_wheel_alone(tmp_path):
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        ROOT,
        "-w",
        tmp_path,
        folder=tmp_path,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    binary = tmp_path / "env" / "bin"
    constraints = ROOT / "constraints.txt"
    run(
        binary / "pip", "install", "-q", "-c", constraints, f"{wheel}[lightning,store]",
        folder=tmp_path,
    )  # fmt: skip
    texts = {
        page: (ROOT / "docs" / "howto" / f"{page}.md").read_text() for page in ("many", "store")
    }
    blocks = {page: BLOCK.findall(text) for page, text in texts.items()}
    (tmp_path / "store.py").write_text(blocks["store"][0])
    (tmp_path / "many.py").write_text("\n".join(blocks["many"]))
    (tmp_path / "shared.py").write_text(blocks["many"][0])
    assert "collapse report" in run(binary / "python", "store.py", folder=tmp_path)
    assert run(binary / "python", "many.py", folder=tmp_path).splitlines()[-1].startswith("tensor(")
    alone = run(binary / "python", "shared.py", folder=tmp_path)
    both = run(binary / "torchrun", "--nproc-per-node", 2, "shared.py", folder=tmp_path)
    # But for the time it took, two processes say what one does.
    assert seconds_out(both) == seconds_out(alone)


def seconds_out(text):
    return re.sub(r"\d+ s\)", "s)", text)
