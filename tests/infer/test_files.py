"""Files of weights that were cut off, flipped, swapped, or lie where none can be written."""

import errno
import json
import os
import resource
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import safetensors.torch
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_idvae import IDVAE, load, save
from pyro_idvae._files import remove_parts, replacing
from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.infer.fit import container

STORED = Path(__file__).parent.parent / "stored"


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return IDVAE(2, 1, "normal", hidden_dims=[2], encoder_hidden_dims=[2], **options)


def weights(pair):
    return [p.detach().clone() for p in pair.parameters()]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def saved(tmp_path):
    pair = tiny(0)
    return save(tmp_path / "pair.st", pair.model, pair.guide), weights(pair)


def check_never_wrong(path, contents, right):
    """Load damaged contents: each is refused, or is the right file all the same."""
    target = tiny(1)
    before = weights(target)
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            load(path, target.model, target.guide)
        except CheckpointError:
            refused += 1
            assert equal(weights(target), before)
        else:
            assert equal(weights(target), right)
            target = tiny(1)
    return refused


def test_files_that_were_cut_off_are_refused(saved):
    path, right = saved
    whole = path.read_bytes()
    lengths = np.linspace(0, len(whole) - 1, 200).astype(int)
    assert check_never_wrong(path, [whole[:n] for n in lengths], right) == 200


def test_flipped_bits_are_found(saved):
    path, right = saved
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    flipped = []
    for place, bit in zip(
        rng.integers(len(whole), size=200), rng.integers(8, size=200), strict=True
    ):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        flipped.append(bytes(content))
    # What is not refused is the right file: a flip in the blanks at the end of the header.
    assert check_never_wrong(path, flipped, right) > 190


def numbered(parameters):
    return [
        ((torch.arange(p.numel()).reshape(p.shape) + i) / 100).to(p.dtype)
        for i, p in enumerate(parameters)
    ]


def test_files_of_version_0_1_still_load():
    pair = tiny(3, learn_scale=True)
    load(STORED / "modules-0.1.pt", pair.model, pair.guide)
    assert equal(weights(pair), numbered(pair.parameters()))

    def model(x):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, scale), obs=x)

    guide = AutoNormal(model)
    load(STORED / "functions-0.1.pt", model, guide, data=torch.zeros(3))
    assert pyro.param("scale").item() == pytest.approx(1.5)
    assert equal(weights(guide), numbered(guide.parameters()))

    class Tutorial(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = nn.Linear(1, 2)

        def model(self, x):
            pyro.module("decoder", self.decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    tutorial = Tutorial()
    load(STORED / "methods-0.1.pt", tutorial.model, data=torch.zeros(3, 2))
    assert equal(weights(tutorial), numbered(tutorial.parameters()))


def test_damaged_files_of_version_0_1_are_refused(tmp_path):
    whole = (STORED / "modules-0.1.pt").read_bytes()
    path = tmp_path / "old.pt"
    path.write_bytes(whole)
    pair = tiny(3, learn_scale=True)
    load(path, pair.model, pair.guide)
    right, target = weights(pair), tiny(4, learn_scale=True)
    before = weights(target)
    rng = np.random.default_rng(1)
    contents = [whole[:n] for n in np.linspace(0, len(whole) - 1, 200).astype(int)]
    for place, bit in zip(
        rng.integers(len(whole), size=200), rng.integers(8, size=200), strict=True
    ):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        contents.append(bytes(content))
    for content in contents:
        path.write_bytes(content)
        try:
            load(path, target.model, target.guide)
        except CheckpointError:
            assert equal(weights(target), before)
        else:
            assert equal(weights(target), right)
            load(STORED / "modules-0.1.pt", target.model, target.guide)
            before = weights(target)


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"{}",
        b"\x00" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2**62) + b"{}",
        safetensors.torch.save({"a": torch.ones(2)}),
        safetensors.torch.save({"a": torch.ones(2)}, {"pyro_idvae": "{}"}),
        safetensors.torch.save({"a": torch.ones(2)}, {"pyro_idvae": "no json", "sha256": "x"}),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="other"):
        load(path, tiny().model)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"format": 2},
        {"format": 1},
        {"format": 1, "model": torch.ones(2)},
        {"format": 1, "model": {"a": "b"}},
        {"format": 1, "model": {}, "store": {}},
        {"format": 1, "model": {}, "guide": {}, "store": [1]},
    ],
)
def test_crafted_files_of_torch_are_refused(tmp_path, content):
    path = tmp_path / "crafted.pt"
    torch.save(content, path)
    pair = tiny()
    before = weights(pair)
    with pytest.raises(CheckpointError, match=r"crafted\.pt"):
        load(path, pair.model, pair.guide)
    assert equal(weights(pair), before)


def test_newer_formats_are_refused_by_name(saved):
    path, _ = saved
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    said = {**json.loads(metadata["pyro_idvae"]), "format": 3}
    container.write(path, tensors, said)
    with pytest.raises(CheckpointError, match="format 3: this version reads formats 1 to 2"):
        load(path, tiny().model)


def test_folders_and_missing_files_are_named(tmp_path):
    pair = tiny()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path, pair.model)
    with pytest.raises(CheckpointError, match=r"nothing\.pt cannot be read"):
        load(tmp_path / "nothing.pt", pair.model)
    with pytest.raises(CheckpointError, match="not a regular file"):
        save(tmp_path, pair.model)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(tmp_path / "no folder" / "pair.pt", pair.model)
    with pytest.raises(ArgumentError, match="path=3: expected a path"):
        save(3, pair.model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_devices_are_not_replaced(device):
    with pytest.raises(CheckpointError, match="not a regular file"):
        save(device, tiny().model)
    assert not Path(device).is_file()


def test_a_read_only_place_is_named():
    with pytest.raises(CheckpointError, match="cannot be written"):
        save("/proc/pair.pt", tiny().model)


def test_mode_and_symbolic_link_are_kept(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    target, link = folder / "pair.pt", tmp_path / "link.pt"
    save(target, tiny(0).model)
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    target.chmod(0o640)
    link.symlink_to(target)
    save(str(link), tiny(1).model)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in folder.iterdir()] == ["pair.pt"]
    other = tiny(2)
    load(target, other.model)
    assert equal(weights(other.model), weights(tiny(1).model))


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_four_threads_may_save_to_one_path_while_others_read(tmp_path):
    path = tmp_path / "pair.pt"
    pairs = [tiny(seed) for seed in range(4)]
    known = [weights(pair) for pair in pairs]
    save(path, pairs[0].model, pairs[0].guide)
    problems, writing = [], threading.Event()

    def write(pair):
        for _ in range(25):
            save(path, pair.model, pair.guide)

    def read():
        target = tiny(9)
        while not writing.is_set():
            try:
                load(path, target.model, target.guide)
            except Exception as error:
                problems.append(error)
            if not any(equal(weights(target), own) for own in known):
                problems.append("weights that nobody saved")

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(pair,)) for pair in pairs]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    reader.join()
    assert problems == []
    assert [p.name for p in tmp_path.iterdir()] == ["pair.pt"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with replacing(tmp_path / "pair.pt") as part:
        part.write_bytes(b"x")
        mine = part.name
    left = tmp_path / mine.replace(f".{os.getpid()}.", f".{dead.pid}.")
    of_another = tmp_path / f".{left.name}".replace("pair.pt", "other.pt").removeprefix(".")
    elsewhere = tmp_path / ".pair.pt.another-machine.1.0123456789ab.part"
    not_ours = tmp_path / ".pair.pt.part"
    for path in (left, of_another, elsewhere, not_ours):
        path.write_bytes(b"half")
    save(tmp_path / "pair.pt", tiny().model)
    assert not left.exists()
    assert elsewhere.exists()
    assert not_ours.exists()
    assert of_another.exists()
    remove_parts(tmp_path)
    assert not of_another.exists()
    assert elsewhere.exists()


FULL = """
import resource, signal, sys, torch
sys.path.insert(0, {root!r})
from pyro_idvae import IDVAE, save
from pyro_idvae.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
vae = IDVAE(20, 2, "normal", hidden_dims=[64], encoder_hidden_dims=[64])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    save({path!r}, vae.model, vae.guide)
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = save(tmp_path / "pair.pt", tiny().model)
    old = path.read_bytes()
    script = FULL.format(root=str(Path(__file__).parent.parent.parent), path=str(path))
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pair.pt cannot be written (File too large)" in found.stdout
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["pair.pt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    pair = tiny()
    path = save(tmp_path / "pair.pt", pair.model, pair.guide)
    with torch.no_grad():
        next(iter(pair.parameters())).fill_(value)
    with pytest.raises(CheckpointError, match="are not finite"):
        save(path, pair.model, pair.guide)

    tensors, said = container.read(path)
    name = next(iter(tensors))
    container.write(path, {**tensors, name: torch.full_like(tensors[name], value)}, said)
    target = tiny(1)
    before = weights(target)
    with pytest.raises(CheckpointError, match="are not finite"):
        load(path, target.model, target.guide)
    assert equal(weights(target), before)


def test_a_mask_of_infinities_may_be_a_buffer(tmp_path):
    def masked():
        module = nn.Linear(2, 2)
        module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        return module

    path = save(tmp_path / "masked.pt", masked())
    load(path, masked())


def test_dtypes_must_be_the_same(saved):
    path, _ = saved
    target = tiny(1).double()
    before = weights(target)
    with pytest.raises(CheckpointError, match="float32', '.* float64"):
        load(path, target.model, target.guide)
    assert equal(weights(target), before)


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.eye(2).to_sparse())

    def forward(self, x):
        return None


def test_sparse_tensors_are_refused_and_nothing_is_changed(tmp_path):
    with pytest.raises(CheckpointError, match="only dense tensors"):
        save(tmp_path / "sparse.pt", Sparse())
    assert list(tmp_path.iterdir()) == []
    dense = Sparse()
    dense.table = torch.eye(2)
    model, target = nn.Linear(2, 2), nn.Linear(2, 2)
    path = save(tmp_path / "pair.pt", model, dense)
    before = weights(target)
    with pytest.raises(CheckpointError, match="sparse_coo"):
        load(path, target, Sparse())
    assert equal(weights(target), before)


def test_a_failure_while_loading_changes_nothing(saved, monkeypatch):
    path, _ = saved
    target = tiny(1)
    before = weights(target)
    from pyro_idvae.infer.fit import pair as module

    whole, calls = module.copy_tensors, []

    def interrupted(targets, sources):
        calls.append(1)
        if len(calls) == 1:
            names = list(targets)[:2]
            whole({n: targets[n] for n in names}, sources)
            raise KeyboardInterrupt
        whole(targets, sources)

    monkeypatch.setattr(module, "copy_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(path, target.model, target.guide)
    assert equal(weights(target), before)


def test_parts_that_have_no_shape_yet_are_named(tmp_path):
    path = save(tmp_path / "lazy.pt", nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match="no shape yet: pass data="):
        load(path, nn.LazyLinear(2))


def test_states_that_are_no_tensors_are_refused(tmp_path):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    with pytest.raises(CheckpointError, match="_extra_state is a dict: only tensors are kept"):
        save(tmp_path / "counting.pt", Counting(2, 2))


def test_errors_of_the_system_keep_their_reason(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        CheckpointError, match=r"Disk quota exceeded\); what was there is as it was"
    ):
        save(tmp_path / "pair.pt", tiny().model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "said", [[], {}, {"roles": "model"}, {"roles": ["model"], "kind": "fit", "state": {}}]
)
def test_crafted_files_with_a_right_checksum_are_refused(tmp_path, said):
    pair = tiny()
    path = tmp_path / "crafted.st"
    container.write(path, {"a": torch.ones(2)}, {} if isinstance(said, list) else said)
    before = weights(pair)
    with pytest.raises(CheckpointError, match=r"crafted\.st"):
        load(path, pair.model)
    assert equal(weights(pair), before)
