"""Programs in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def output(*command, folder=ROOT, **environment):
    """Run a command that must end well, in our environment but for what is given; return stdout."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def printed(script, *arguments):
    """Run a script of this folder; return the JSON of its last line that is some."""
    path = Path(__file__).parent / script
    found = output(sys.executable, path, *arguments, PYTHONPATH=str(ROOT), PYTHONWARNINGS="ignore")
    return json.loads([line for line in found.splitlines() if line.startswith("{")][-1])
