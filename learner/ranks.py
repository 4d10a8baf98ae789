"""Lets several processes train one policy: parameters sharded by FSDP2, micro-batches dealt out, gradients summed.

Rank 0 is the learner that the rest of the run sees. It alone reads the log, and announces each call of one of the
trainer's collective methods to the others, with its arguments, as one message. Arguments are msgpack, groups their
verdicts' own records; nothing is pickled (law 7).
"""

import datetime
import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from learner.groups import Group
from learner.model import Policy, decoder_layers
from learner.statistics import Statistics
from stream.codec import decode, encode
from stream.messages import Verdict
from stream.parent_death import die_with_parent

PATIENCE = datetime.timedelta(days=30)
"""Longest wait of a rank for the next message, as rank 0 may wait long for groups. A dead rank is noticed by its connection."""


def under_torchrun() -> bool:
    """Whether this process is one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def become_torchrun(num_ranks: int, arguments: Sequence[str]) -> None:
    """Replace this process by torchrun, which starts `num_ranks` learners on this machine and ends when one of them does.

    Does not return.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}", "-m", "learner"]
    os.execv(sys.executable, [sys.executable, *torchrun, *arguments])


def join(device: torch.device) -> torch.device:
    """Join the other ranks; returns this rank's own device. The process is killed when torchrun dies (Linux)."""
    die_with_parent(os.getppid())
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return device


def shard(policy: Policy) -> None:
    """Shard the parameters over the ranks, block by block. Gradients are summed, as token weights are of the whole batch."""
    mesh = init_device_mesh(next(policy.parameters()).device.type, (dist.get_world_size(),))
    for layer in decoder_layers(policy.model):
        fully_shard(layer, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)  # gloo has no average
            module.set_gradient_divide_factor(1.0)


def rank() -> int:
    """Number of this process, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(tensor: Tensor) -> Tensor:
    """A tensor gathered from all ranks, each of which must call this, on its device."""
    full: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach()


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from all ranks, each of which must call this, on the CPU."""
    return gathered(tensor).cpu().contiguous()


def assign(target: Tensor, values: Tensor) -> None:
    """Set a tensor, sharded or not, to values that every rank has."""
    with torch.no_grad():
        values = values.to(target.device, target.dtype)
        if isinstance(target, DTensor):
            values = distribute_tensor(values, target.device_mesh, target.placements)
        target.copy_(values)


def combine_over_ranks(statistics: Statistics) -> Statistics:
    """Statistics of the tokens of all ranks."""
    if world_size() == 1:
        return statistics
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    combined = []
    for values, operation in ((statistics.sums, dist.ReduceOp.SUM), (statistics.maxima, dist.ReduceOp.MAX)):
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        dist.all_reduce(tensor, operation)
        combined.append(dict(zip(values, tensor.tolist(), strict=True)))
    return Statistics(*combined)


def announce(method: str, **arguments: Any) -> None:
    """Rank 0: let all other ranks call a method of their trainer. Nothing to do if there are none."""
    if world_size() > 1:
        _broadcast(msgspec.msgpack.encode([method, arguments]))


def follow(trainer: Any) -> None:
    """The other ranks: do what rank 0 announces, until it says `stop`."""
    while True:
        method, arguments = msgspec.msgpack.decode(_broadcast(b""))
        if method == "stop":
            return
        if "groups" in arguments:
            arguments["groups"] = unpack_groups(arguments["groups"])
        getattr(trainer, method)(**arguments)


def pack_groups(groups: Sequence[Group]) -> list[tuple[str, int, list[bytes]]]:
    """Groups as msgpack can hold them."""
    return [(g.group_id, g.num_rollouts, [encode(verdict) for verdict in g.verdicts.values()]) for g in groups]


def unpack_groups(packed: Sequence[tuple[str, int, list[bytes]]]) -> list[Group]:
    """Undo `pack_groups`."""
    groups = []
    for group_id, num_rollouts, records in packed:
        verdicts = [decode(record, Verdict) for record in records]
        groups.append(Group(group_id, num_rollouts, {v.trajectory.rollout_index: v for v in verdicts}))
    return groups


def _broadcast(message: bytes) -> bytes:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    size = torch.tensor([len(message)], device=device)
    dist.broadcast(size, 0)
    content = torch.empty(int(size.item()), dtype=torch.uint8)
    if rank() == 0:
        content = torch.frombuffer(bytearray(message), dtype=torch.uint8)
    content = content.to(device)
    dist.broadcast(content, 0)
    return content.cpu().numpy().tobytes()
