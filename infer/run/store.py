"""Files of arrays and JSON: written atomically, checksummed, never unpickled."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"infer-1\n"


def write(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> None:
    """Write named arrays and a JSON record to one file; a crash leaves the old file whole."""
    path = Path(path)
    payload = io.BytesIO()
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    named: dict[str, Any] = {"meta": text} | {f"array/{k}": v for k, v in arrays.items()}
    np.savez(payload, **named)
    data = payload.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(MAGIC + hashlib.sha256(data).digest() + data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


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
