"""Which GPUs there are, as nvidia-smi and CUDA_VISIBLE_DEVICES say."""

from pathlib import Path

import pytest

from infra.gpus import GIB, Gpu, chosen, imagined, parsed_mig, visible_gpus
from stream.errors import UserError

SMI = """#!/bin/sh
if [ "$1" = "-L" ]; then
  echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1)"
  echo "GPU 1: NVIDIA GB10 (UUID: GPU-bbbb-2)"
  echo "GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-dddd-4)"
  echo "  MIG 3g.40gb     Device  0: (UUID: MIG-cccc-3)"
  echo "  MIG 1g.10gb     Device  1: (UUID: MIG-cccc-4)"
else
  echo "0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 81559, 80000"
  echo "1, GPU-bbbb-2, NVIDIA GB10, [N/A], [N/A]"
  echo "2, GPU-dddd-4, NVIDIA H100 80GB HBM3, 81559, 81000"
fi
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for nvidia-smi, with two cards and a MIG slice."""
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("smi")
def test_what_nvidia_smi_lists() -> None:
    first, second, slice_, small = visible_gpus()  # a card that is cut into slices is none itself
    assert first == Gpu("0", "NVIDIA H100 80GB HBM3", 81559 << 20, 80000 << 20)
    assert (second.name, second.total_bytes) == ("1", 0)
    assert slice_ == Gpu("MIG-cccc-3", "MIG 3g.40gb", 40 * GIB, 40 * GIB)
    assert (small.name, small.total_bytes) == ("MIG-cccc-4", 10 * GIB)


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("1, 0", ["1", "0"]),
        ("GPU-aaaa-1", ["GPU-aaaa-1"]),
        ("GPU-bb", ["GPU-bb"]),
        ("MIG-cccc-3", ["MIG-cccc-3"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, given: str, names: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    found = visible_gpus()
    assert [gpu.name for gpu in found] == names
    if given == "GPU-aaaa-1":
        assert found[0].total_bytes == 81559 << 20


@pytest.mark.usefixtures("smi")
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("7", "names '7'; this machine has 0, 1, MIG-cccc-3, MIG-cccc-4"),
        ("0,0", "names a GPU twice"),
        ("2", "names '2'"),
        ("GPU-zz", "names 'GPU-zz'"),
    ],
)
def test_a_card_that_is_not_there_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch, given: str, error: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    with pytest.raises(UserError, match=error):
        visible_gpus()


def test_without_nvidia_smi_names_are_believed_and_nothing_is_found_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert visible_gpus() == [Gpu("2"), Gpu("5")]
    assert chosen([], "NoDevFiles") == []


def test_imagined_cards_and_mig_profiles() -> None:
    assert [(gpu.name, gpu.total_bytes) for gpu in imagined("2x80")] == [("0", 80 * GIB), ("1", 80 * GIB)]
    for wrong in ("80", "0x80", "8x", "x", "8x80GB"):
        with pytest.raises(UserError, match="want NUMBERxGIB"):
            imagined(wrong)
    assert parsed_mig("GPU 0: A100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-9)\n") == [
        Gpu("MIG-9", "MIG 1g.10gb", 10 * GIB, 10 * GIB)
    ]
