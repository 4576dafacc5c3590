# SPDX-License-Identifier: Apache-2.0
"""The file format: tensors by safetensors, all else as JSON, and a checksum over both."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_idvae._files import replacing
from pyro_idvae.errors import CheckpointError

FORMAT = 2
"""Version 0.1 wrote format 1, by ``torch.save``; it is still read."""

WEIGHTS = "weights/"
"""Beginning of the names of a pair's tensors."""

KEY = "pyro_idvae"
CHECKSUM = "sha256"

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and torch raise on files that somebody cut off, changed or made up."""

Content = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and what is said of them."""


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], said: Any) -> None:
    """Write tensors and a JSON object to a file, whole or not at all.

    Args:
        path: the file; another regular file there is replaced.
        tensors: by name; dense.
        said: what ``json`` can write.

    Raises:
        CheckpointError: if the file cannot be written, with the system's reason.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            raise CheckpointError(
                f"{path}: {name} is a {tensor.layout} tensor on {tensor.device}: only dense "
                "tensors with values can be kept, e.g. x.to_dense()"
            )
    # On the CPU, contiguous and each with memory of its own, as the format wants them.
    plain = {
        n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()
    }
    text = json.dumps({"format": FORMAT, **said}, sort_keys=True)
    metadata = {KEY: text, CHECKSUM: _checksum(plain, text)}
    try:
        with replacing(path) as part:
            part.write_bytes(safetensors.torch.save(plain, metadata))
    except KeyError as error:
        raise CheckpointError(f"{path}: tensors of dtype {error} cannot be kept") from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}); what was there is as it was"
        ) from error


def read(path: str | os.PathLike[str]) -> Content:
    """Return what :func:`write` wrote, the tensors on the CPU.

    Raises:
        CheckpointError: for a file that cannot be read, is none of this format, or is damaged.
    """
    try:
        # In one go: whoever opens it twice may find another file the second time.
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    if content[:4] == b"PK\x03\x04":
        return _read_first_format(path, io.BytesIO(content))
    try:
        tensors = safetensors.torch.load(content)
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, *DAMAGE) as error:
        raise _not_whole(path, error) from error
    if KEY not in metadata:
        raise CheckpointError(f"{path} is not a file written by pyro_idvae.save")
    text = metadata[KEY]
    if metadata.get(CHECKSUM) != _checksum(tensors, text):
        raise CheckpointError(f"{path} is damaged: its checksum is not that of its content")
    try:
        said = json.loads(text)
    except ValueError as error:
        raise _not_whole(path, error) from error
    if not isinstance(said, dict) or not isinstance(said.get("roles"), list):
        raise CheckpointError(f"{path} is not a file written by pyro_idvae.save")
    if said.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {said.get('format')}: this version reads formats 1 to {FORMAT}; "
            "use the version of pyro_idvae that wrote it, or a newer one"
        )
    return tensors, said


def _not_whole(path: str | os.PathLike[str], error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a file written by pyro_idvae.save, or not a whole one any more "
        f"({type(error).__name__})"
    )


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return a checksum of all that is read from a file."""
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read_first_format(path: str | os.PathLike[str], file: io.BytesIO) -> Content:
    """Read a file of version 0.1: by torch, restricted to tensors, once its checksums are right."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged, at {damaged}")
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except DAMAGE as error:
        raise _not_whole(path, error) from error
    if not isinstance(content, dict) or content.get("format") != 1:
        raise CheckpointError(f"{path} is not a file written by pyro_idvae.save")
    tensors: dict[str, Tensor] = {}
    for section, prefix in (("model", "model."), ("guide", "guide."), ("store", "param.")):
        part = content.get(section, {})
        if not isinstance(part, Mapping) or not all(isinstance(v, Tensor) for v in part.values()):
            raise CheckpointError(f"{path}: its part {section!r} holds something besides tensors")
        tensors.update({f"{WEIGHTS}{prefix}{name}": value for name, value in part.items()})
    roles = [role for role in ("model", "guide") if role in content]
    return tensors, {"format": 1, "roles": roles}
