"""The task that ``fastworker demo`` has its subworkers run."""

from __future__ import annotations

import hashlib
import os
from typing import Final, TypedDict

from fastworker.tasks import task

CHUNK_BYTES: Final = 1 << 20
"""Read at a time, so that a file of any size needs little memory."""


class FileCount(TypedDict):
    """What is found out about one file; ``process`` is the pid that did the work."""

    bytes: int
    words: int
    sha256: str
    process: int


@task(name="demo.count_words")
def count_words(path: bytes) -> FileCount:
    """Hash a file and count its words: what white space separates, whatever the encoding.

    Args:
        path: as the file system has it, since a file's name need not be text.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    size = words = 0
    inside_word = False
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            words += len(chunk.split())
            if inside_word and not chunk[:1].isspace():
                words -= 1  # it began in the chunk before and has been counted there
            inside_word = not chunk[-1:].isspace()
    return {"bytes": size, "words": words, "sha256": digest.hexdigest(), "process": os.getpid()}
