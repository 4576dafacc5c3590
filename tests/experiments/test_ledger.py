import json
import math
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from pyro_idvae.experiments import digits, training
from pyro_idvae.experiments.__main__ import main
from pyro_idvae.experiments.images import Row
from pyro_idvae.experiments.ledger import EarlierRunError, Ledger, begin

ROW = {"name": "a", "seed": 0, "value": 0.1 + 0.2, "missing": math.nan}


def test_rows_are_read_as_they_were_written(tmp_path):
    ledger = Ledger(tmp_path / "table.csv")
    ledger.add([ROW])
    ledger.add([{"name": "b", "seed": 1, "value": 1e-300, "other": 3}, {"name": "c", "seed": 2}])
    again = Ledger(ledger.path)
    pd.testing.assert_frame_equal(again.frame(), ledger.frame(), check_exact=True)
    again.add([{"name": "d"}])
    ledger.add([{"name": "d"}])
    assert [row["name"] for row in again.find(seed=1)] == ["b"]
    assert again.find(name="e") == []
    pd.testing.assert_frame_equal(again.frame(), ledger.frame(), check_exact=True)


def test_a_folder_with_rows_is_not_written_over(tmp_path):
    options = {"seeds": 2, "rates": (0.1, 0.2)}
    begin(tmp_path, options, resume=False)
    begin(tmp_path, options, resume=False)  # no rows yet
    Ledger(tmp_path / "table.csv").add([ROW])
    with pytest.raises(EarlierRunError, match="go on with --resume, or give another --out"):
        begin(tmp_path, options, resume=False)
    begin(tmp_path, options, resume=True)
    with pytest.raises(EarlierRunError, match=r"\(seeds was 2, now 3; steps was null, now 1\)"):
        begin(tmp_path, {**options, "seeds": 3, "steps": 1}, resume=True)
    assert json.loads((tmp_path / "options.json").read_text())["seeds"] == 2


KILLED = """
import sys
from pathlib import Path
from pyro_idvae.experiments.ledger import Ledger

ledger = Ledger(Path(sys.argv[1]))
print("begun", flush=True)
for number in range(len(ledger.rows), 10**6):
    ledger.add([{"number": number, "text": "x" * 2000}])
"""


def test_a_table_is_whole_whenever_its_program_is_killed(tmp_path):
    path = tmp_path / "table.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    time.sleep(0.3)
    process.kill()
    process.communicate()
    rows = Ledger(path).rows
    assert len(rows) > 1
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert all(len(row["text"]) == 2000 for row in rows)


class Result:
    def __init__(self, rate):
        self.validation_losses = [rate]
        self.best_epoch, self.wall_time = 2, 1.5


def train(fits, interrupted_at):
    def fake(vae, images, *, learning_rate, num_epochs, seed, progress):
        fits.append((learning_rate, seed))
        if len(fits) == interrupted_at:
            raise KeyboardInterrupt
        return Result(abs(learning_rate - 2e-3))

    return fake


def judge(name, vae, images, *, seconds, epochs, num_samples, seed):
    numbers = [1 / 3 + seed] * 9
    bound = None if name.startswith("VAE") else 0.9
    return Row(name, bound, 100, seconds, epochs, *numbers, 16, 0.25)


def run(monkeypatch, out, *options):
    monkeypatch.setattr(sys, "argv", ["x", "digits", "--out", str(out), "--seeds=2", *options])
    main()


def test_the_digits_go_on_where_they_were_interrupted(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(digits, "judge", judge)
    monkeypatch.setattr(digits, "FLOORS", (1.0,))
    fits = []
    monkeypatch.setattr(training, "train", train(fits, None))
    run(monkeypatch, tmp_path / "whole")
    total = len(fits)
    assert total == 2 * (3 + 2)
    capsys.readouterr()
    files = ("digits.csv", "tuning.csv", "training.csv", "options.json")
    for moment in (1, 3, 5, total):
        out, fits = tmp_path / str(moment), []
        monkeypatch.setattr(training, "train", train(fits, moment))
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, out)
        assert ended.value.code == 130
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith("interrupted: the rows in ")
        if moment > 1:
            with pytest.raises(SystemExit) as ended:
                run(monkeypatch, out)
            assert ended.value.code == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "go on with --resume" in said
            with pytest.raises(SystemExit) as ended:
                run(monkeypatch, out, "--resume", "--epochs=7")
            assert ended.value.code == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "epochs was 300, now 7" in said
        rest = []
        monkeypatch.setattr(training, "train", train(rest, None))
        run(monkeypatch, out, "--resume")
        assert len(rest) == total - moment + 1
        for name in files:
            found, wanted = (tmp_path / folder / "digits" / name for folder in (out, "whole"))
            assert found.read_bytes() == wanted.read_bytes()
        assert (out / "digits" / "digits.png").stat().st_size > 1000
        capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_program_keeps_its_rows_and_goes_on(tmp_path, how):
    command = [sys.executable, "-m", "pyro_idvae.experiments", "digits", "--out", str(tmp_path)]
    command += ["--seeds=1", "--epochs=2", "--samples=20", "--images=10"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    tuning = tmp_path / "digits" / "tuning.csv"
    deadline = time.monotonic() + 120
    while not tuning.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    _, said = process.communicate(timeout=30)
    rows = len(pd.read_csv(tuning))
    assert rows > 0
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.count("\n") == 1
        assert said.startswith("interrupted: the rows in ")
    subprocess.run([*command, "--resume"], check=True, capture_output=True, timeout=300)
    assert len(pd.read_csv(tuning)) >= max(12, rows)
    assert len(pd.read_csv(tmp_path / "digits" / "digits.csv")) == 4
