"""Lists the GPUs that workers may use: what nvidia-smi shows, as far as CUDA_VISIBLE_DEVICES lets it."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from stream.errors import UserError

GIB = 1 << 30
_MIB = 1 << 20
_QUERY = ("--query-gpu=index,uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
_MIG = re.compile(r"MIG (\S+)\s+Device.*\(UUID: (MIG-[^)]+)\)")
_CARD = re.compile(r"^GPU (\d+):(.*(?:\n\s+MIG .*)*)", re.MULTILINE)
_PROFILE_GB = re.compile(r"\.(\d+)gb")
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or a slice of one (MIG)."""

    name: str
    """What CUDA_VISIBLE_DEVICES calls it: an index, a uuid, or a MIG uuid."""
    model: str = ""
    total_bytes: int = 0
    """Of memory; 0 where it is not known."""
    free_bytes: int = 0


def visible_gpus() -> list[Gpu]:
    """The GPUs that workers may use, [] without any.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES names one that this machine does not have.

    """
    listed = _listed()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed if given is None else chosen(listed, given)


def chosen(listed: Sequence[Gpu], given: str) -> list[Gpu]:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES names, in its order: by index, uuid, or the beginning of a uuid.

    Without nvidia-smi (`listed` is empty) names are taken as they are, with unknown memory.

    Raises:
        UserError: a name fits none of the listed GPUs, or one is named twice.

    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    if names in ([], ["-1"], ["NoDevFiles"]):
        return []
    found = [_named(listed, name) for name in names]
    if len({gpu.name for gpu in found}) < len(found):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES is {given!r}, which names a GPU twice; want each once: roles share it anyway"
        )
    return found


def _named(listed: Sequence[Gpu], name: str) -> Gpu:
    if not listed:
        return Gpu(name)
    for gpu in listed:
        if name == gpu.name or (name.startswith("GPU-") and _uuids.get(gpu.name, "").startswith(name)):
            return Gpu(name, gpu.model, gpu.total_bytes, gpu.free_bytes)
        if name.startswith("MIG-") and gpu.name.startswith(name):
            return gpu
    shown = ", ".join(gpu.name for gpu in listed)
    raise UserError(f"CUDA_VISIBLE_DEVICES names {name!r}; this machine has {shown}: correct or unset it")


_uuids: dict[str, str] = {}
"""Uuid of each index, as nvidia-smi said last."""


def _listed() -> list[Gpu]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    gpus = []
    for line in _output(smi, *_QUERY).splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 5:
            index, uuid, model, total, free = fields
            _uuids[index] = uuid
            gpus.append(Gpu(index, model, _bytes(total), _bytes(free)))
    listing = _output(smi, "-L")
    cut = {index for index, rest in _CARD.findall(listing) if "MIG-" in rest}  # no process can have the whole card
    return [gpu for gpu in gpus if gpu.name not in cut] + parsed_mig(listing)


def parsed_mig(listing: str) -> list[Gpu]:
    """The MIG slices in what `nvidia-smi -L` prints; their memory is in the profile's name, e.g. 3g.40gb."""
    found = []
    for profile, uuid in _MIG.findall(listing):
        size = _PROFILE_GB.search(profile)
        total = int(size[1]) * GIB if size else 0
        found.append(Gpu(uuid, f"MIG {profile}", total, total))
    return found


def driver_version() -> str:
    """Of the NVIDIA driver, "" where there is none."""
    smi = shutil.which("nvidia-smi")
    found = _output(smi, "--query-gpu=driver_version", "--format=csv,noheader") if smi else ""
    return found.split("\n")[0].strip()


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _bytes(mib: str) -> int:
    return int(mib) * _MIB if mib.isdigit() else 0  # `[N/A]` where cards share memory with the machine


def imagined(text: str) -> list[Gpu]:
    """The GPUs of `8x80`: eight of 80 GiB, to plan for a machine that is not at hand.

    Raises:
        UserError: it has another form.

    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not int(match[1]):
        raise UserError(f"--gpus is {text!r}; want NUMBERxGIB, e.g. 8x80 for eight GPUs of 80 GiB")
    size = int(match[2]) * GIB
    return [Gpu(str(index), "(imagined)", size, size) for index in range(int(match[1]))]
