"""Makes up for lost checkpoints from the log: the newest weights, and the groups that have ended in them.

What enters are `updates`, `policies` and `weights`; what leaves is a trainer with the parameters of the newest version, and how
far it has come. Lost are the optimizer's moments, and the bits of the float32 parameters that are not published.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from learner.checkpoint import Progress
from learner.group_ids import GroupIds
from learner.lora import published_name
from learner.trainer import Trainer
from stream.config import Config
from stream.errors import UserError
from stream.messages import Update
from stream.rebuild import NoSuchVersion, rebuild
from stream.run_topics import RunTopics
from stream.topics import UPDATES
from stream.weights import HostTensor, State

log = logging.getLogger(__name__)


def recover(config: Config, topics: RunTopics, trainer: Trainer) -> Progress | None:
    """Take the newest version from the log, where the run has made a checkpoint that is not here; None where it has not.

    An update after the one at which the first checkpoint was due shows that there was one.

    Raises:
        UserError: the log does not have what is needed.

    """
    lineage = surviving(topics.read_each(UPDATES))
    if not lineage or lineage[-1].step <= config.learner.checkpoint_every:
        return None
    newest, folder = lineage[-1], config.run.path / "checkpoints"
    _require_possible(config, newest, folder)
    try:
        state = rebuild(topics.broker, topics.run, newest.version)
    except NoSuchVersion as error:
        raise UserError(
            f"{_missing(folder, newest)}, and its weights cannot be rebuilt: {error}; {_remedy(folder)}"
        ) from None
    load(trainer, state)
    log.warning(
        "no checkpoint in %s: going on from the log version=%d step=%d; lost: the optimizer's moments, and what %s does not hold "
        "of the float32 parameters",
        folder,
        newest.version,
        newest.step,
        next(iter(state.tensors.values())).dtype,
    )
    ends = [end for update in lineage for end in update.groups]
    return Progress(
        step=newest.step,
        version=newest.version,
        offsets={},  # all verdicts are read again: those of groups that have ended are passed over
        pending=[],
        seen=GroupIds.of(end.group_id for end in ends),
        num_rollouts=sum(end.num_rollouts for end in ends),
    )


def surviving(updates: Iterable[Update]) -> list[Update]:
    """The updates that the last one was made from, oldest first, by following the parents."""
    by_version: dict[int, Update] = {}
    newest: Update | None = None
    for update in updates:
        newest = by_version.setdefault(update.version, update)
    chain: list[Update] = []
    while newest is not None:
        chain.append(newest)
        parent = by_version.get(newest.parent_version)
        newest = parent if parent is not None and parent.version < newest.version else None
    return chain[::-1]


def load(trainer: Trainer, state: State) -> None:
    """Set the trained parameters to a published state's values."""
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    published = {name: state.tensors.get(published_name(name)) for name in trained}
    trainer.load_state({name: _tensor(tensor) for name, tensor in published.items() if tensor is not None}, {})


def _tensor(tensor: HostTensor) -> Tensor:
    bits = torch.from_numpy(tensor.bits.view(f"<i{tensor.bits.itemsize}"))
    return bits.view(getattr(torch, tensor.dtype)).view(tensor.shape).float()


def _require_possible(config: Config, newest: Update, folder: Path) -> None:
    table = config.learner
    merged_rank = 0 if table.lora_publish == "adapter" else table.lora_rank
    for key, value, without in (("lora_rank", merged_rank, 0), ("ranks", table.ranks, 1)):
        if value != without:
            raise UserError(
                f"{_missing(folder, newest)}, and with learner.{key} = {value} they cannot be made up for from the log; "
                f"{_remedy(folder)}"
            )


def _missing(folder: Path, newest: Update) -> str:
    return f"the log holds {newest.step} updates of this run, but {folder} has no checkpoint"


def _remedy(folder: Path) -> str:
    return f"copy the run's checkpoints to {folder}, or start a new run.name"
