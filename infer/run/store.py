"""Files of arrays and JSON: written atomically, checksummed, never unpickled."""

import errno
import glob
import hashlib
import io
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"infer-1\n"
ABANDONED = 3600.0  # seconds since the last byte, after which an unfinished file has no writer


def write(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> None:
    """Write named arrays and a JSON record to one file; a crash leaves the old file whole.

    Every writer fills a file of its own beside `path` and renames it when it is on the disk, so of
    several writers the last one to finish wins, and no reader meets half a file.
    """
    path = Path(path)
    payload = io.BytesIO()
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    named: dict[str, Any] = {"meta": text} | {f"array/{k}": v for k, v in arrays.items()}
    np.savez(payload, **named)
    data = payload.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        with open(partial, "wb") as file:
            file.write(MAGIC + hashlib.sha256(data).digest())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # a full disk, or Ctrl-C: what is unfinished goes, whatever it was
        partial.unlink(missing_ok=True)
        raise
    _sweep(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the `OSError` that writing to `path` would end with, as far as it is known already."""
    path = Path(path)
    try:
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.parent.exists() and not path.parent.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = _beside(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); give a file in a folder that can"
        raise OSError(error.errno, reason, str(path)) from error


def _beside(path: Path) -> Path:
    """A new name next to a file."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _sweep(path: Path) -> None:
    """Remove what killed writers of this file left behind, and nothing that is still written to."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.????????.partial"):
        try:
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()
        except OSError:  # another writer was quicker to finish or to sweep
            continue


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file of `write`; refuses one that is foreign, truncated or changed."""
    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError(f"{path} is not a file written by infer (it has no infer header).")
    digest, data = content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError(
            f"{path} is damaged: its checksum does not match, so it was cut short or changed after "
            "it was written. Start again without `resume=`, or take an older copy of the file."
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {k.removeprefix("array/"): file[k] for k in file.files if k != "meta"}
        return arrays, json.loads(file["meta"].tobytes().decode())
