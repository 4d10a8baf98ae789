"""Takes the digest of a folder of published weights, as learner and producers both do. Never imports torch."""

import hashlib
from pathlib import Path

WEIGHTS_FILE = "model.safetensors"


def digest_of(folder: str | Path) -> str:
    """sha256, hexadecimal, of the folder's weights file.

    Raises:
        FileNotFoundError: the folder is gone, or holds no weights.

    """
    with (Path(folder) / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
