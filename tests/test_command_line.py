"""Bad values on the command line: one line, status 2, before any work, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyro_idvae import __main__ as demo
from pyro_idvae.experiments import __main__ as experiments
from pyro_idvae.experiments import consistency, digits, mixture, pca
from pyro_idvae.experiments import demo as demo_module

NOT_NUMBERS = ["abc", "1e9", "1.5", "", "-1", "1\n2"]


def bad(main, option, *values):
    return [(main, f"{option}={value}") for value in values]


DEMO = [
    *bad([], "--epochs", "0", *NOT_NUMBERS),
    *bad([], "--draws", "0", "1", *NOT_NUMBERS),
    *bad([], "--seed", 2**32, 2**40, *NOT_NUMBERS),
]
EXPERIMENTS = [
    *bad(["digits"], "--seeds", "0", *NOT_NUMBERS),
    *bad(["digits"], "--epochs", "0", *NOT_NUMBERS),
    *bad(["digits"], "--samples", "0", "1", *NOT_NUMBERS),
    *bad(["consistency"], "--seeds", "0", "1", *NOT_NUMBERS),
    *bad(["consistency"], "--epochs", "0", *NOT_NUMBERS),
]
for name in ("mixture", "pca"):
    EXPERIMENTS += [
        *bad([name], "--data", "0", "1", *NOT_NUMBERS),
        *bad([name], "--chains", "0", *NOT_NUMBERS),
        *bad([name], "--samples", "0", "1", "19", *NOT_NUMBERS),
        *bad([name], "--warmup", *NOT_NUMBERS),
        *bad([name], "--steps", "0", "1", *NOT_NUMBERS),
        *bad([name], "--seed", 2**32, 2**40, *NOT_NUMBERS),
    ]


@pytest.fixture(autouse=True)
def no_work(monkeypatch, tmp_path):
    def work(*args, **kwargs):
        raise AssertionError("work had begun")

    for module in (demo_module, consistency, digits, mixture, pca):
        monkeypatch.setattr(module, "run", work)
    monkeypatch.chdir(tmp_path)


def refused(main, arguments, capsys, monkeypatch):
    """Return the line that says why."""
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "error: " in err
    return err


@pytest.mark.parametrize(("words", "option"), DEMO, ids=str)
def test_the_demo_refuses_a_bad_value(words, option, capsys, monkeypatch):
    line = refused(demo.main, [*words, option], capsys, monkeypatch)
    name, value = option.split("=", 1)
    assert f"argument {name}: {value!r} is not a whole number" in line
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(("words", "option"), EXPERIMENTS, ids=str)
def test_an_experiment_refuses_a_bad_value(words, option, capsys, monkeypatch):
    line = refused(experiments.main, [*words, option], capsys, monkeypatch)
    name, value = option.split("=", 1)
    assert f"argument {name}: {value!r} is not a whole number" in line
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "NAME"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["digits", "--nothing=1"], "unrecognized arguments: --nothing=1"),
        (["digits", "--seed=3"], "unrecognized arguments: --seed=3"),
        (["digits", "--epochs"], "expected one argument"),
        (["digits", "a\nb"], "unrecognized arguments: a b"),
    ],
)
def test_what_is_not_there_is_refused(arguments, words, capsys, monkeypatch):
    assert words in refused(experiments.main, arguments, capsys, monkeypatch)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("out", ["file", "file/below", "new/" + 300 * "x", "nul\0"])
def test_a_folder_that_cannot_be_is_refused(out, capsys, monkeypatch):
    Path("file").write_text("kept")
    for main, words in ((demo.main, []), (experiments.main, ["pca"])):
        line = refused(main, [*words, "--out", out], capsys, monkeypatch)
        assert "argument --out: " in line
        assert "cannot be a folder for results" in line
        assert [path.name for path in Path.cwd().iterdir()] == ["file"]
    assert Path("file").read_text() == "kept"


def test_a_folder_that_cannot_be_written_to_is_refused(capsys, monkeypatch):
    Path("locked").mkdir(mode=0o500)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # of root all is allowed
    line = refused(demo.main, ["--out", "locked"], capsys, monkeypatch)
    assert "it cannot be written to" in line


def test_good_values_reach_the_run(monkeypatch):
    given = {}
    monkeypatch.setattr(demo_module, "run", lambda out, **options: given.update(options, out=out))
    options = ["--out=a/b", "--epochs=1", "--draws=4", f"--seed={2**32 - 1}"]
    monkeypatch.setattr(sys, "argv", ["x", *options])
    demo.main()
    assert given == {"out": Path("a/b"), "num_epochs": 1, "num_draws": 4, "seed": 2**32 - 1}
    assert Path("a/b").is_dir()


def test_the_process_ends_with_status_2():
    for module, option in (
        ("pyro_idvae", "--epochs=0"),
        ("pyro_idvae.experiments", "nothing"),
    ):
        command = [sys.executable, "-m", module, option]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"python -m {module}: error: ")
    assert list(Path.cwd().iterdir()) == []
