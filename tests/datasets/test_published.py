"""MNIST and its like: idx files of the user's, and downloads from a server that we are."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
import torch

from pyro_idvae.datasets import fashion_mnist, images, mnist
from pyro_idvae.datasets.idx import read_idx

LOADERS = {"MNIST": mnist, "FASHION": fashion_mnist}


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    sizes = {"train": 6, "test": 3}
    found = {f"{p}_images": rng.integers(0, 256, (n, 28, 28), np.uint8) for p, n in sizes.items()}
    return {**found, **{f"{p}_labels": np.arange(n, dtype=np.uint8) for p, n in sizes.items()}}


@pytest.fixture
def published(tmp_path, arrays):
    folder = tmp_path / "published"
    folder.mkdir()
    for part, file in images.FILES.items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(idx(arrays[part])))
    return folder


@pytest.fixture
def served(published, monkeypatch, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(published))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sums = tuple(
        hashlib.md5((published / f"{file}.gz").read_bytes()).hexdigest()
        for file in images.FILES.values()
    )
    for name in LOADERS:
        monkeypatch.setattr(images, name, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(images, f"{name}_SUMS", sums)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def is_whole(found, arrays):
    for part in ("train", "test"):
        own = torch.tensor(arrays[f"{part}_images"].reshape(-1, 784).astype(np.float64))
        assert torch.equal((getattr(found, part).double() * 255).round(), own)
        assert getattr(found, f"{part}_labels").tolist() == arrays[f"{part}_labels"].tolist()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_of_a_folder_are_read(packed, published, arrays):
    if not packed:
        for path in published.glob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    for load in LOADERS.values():
        is_whole(load(published), arrays)


def test_one_file_of_all_arrays_is_read(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    is_whole(mnist(tmp_path), arrays)


def test_downloads_are_kept(served, arrays):
    is_whole(mnist(), arrays)
    served.shutdown()
    served.server_close()
    is_whole(mnist(), arrays)


@pytest.mark.parametrize("name", list(LOADERS))
def test_another_file_is_refused_and_not_kept(name, served, monkeypatch, tmp_path):
    monkeypatch.setattr(images, f"{name}_SUMS", ("0" * 32, *getattr(images, f"{name}_SUMS")[1:]))
    with pytest.raises(FileNotFoundError, match="could not be had.*ValueError.*folder="):
        LOADERS[name]()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_connection_there_is_one_line(served):
    served.shutdown()
    served.server_close()
    with pytest.raises(FileNotFoundError, match=r"train-images.*could not be had.*connect") as told:
        mnist()
    assert len(str(told.value)) < 500


def test_without_pooch_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pyro-idvae\[data\]"):
        mnist()


def test_checksums_are_of_four_different_files():
    sums = (*images.MNIST_SUMS, *images.FASHION_SUMS)
    assert len(set(sums)) == 8
    assert all(len(one) == 32 and int(one, 16) for one in sums)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "no idx file"),
        (b"\x89PNG and so on", "no idx file"),
        (struct.pack(">HBB", 0, 13, 1) + b"\0" * 20, "no idx file"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"5 bytes.*\(2, 3\)"),
        (idx(np.zeros((2, 3), np.uint8)) + b"\0", r"7 bytes"),
        (struct.pack(">HBB", 0, 8, 2) + b"\0\0\0\2", "cut or damaged"),
        (gzip.compress(idx(np.zeros(9, np.uint8)), mtime=0)[:-9], "cut or damaged"),
    ],
    ids=["empty", "picture", "floats", "short", "long", "header", "gzip"],
)
def test_cut_files_and_others_are_named(content, named, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=named) as told:
        read_idx(path)
    assert str(path) in str(told.value)
