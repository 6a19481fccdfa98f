"""Collectives of the processes that train together.

Accelerate starts and joins them, and has torch's DistributedDataParallel average the
gradients. skorch's AccelerateMixin is not used: it prepares a net once and for good,
with its EMA, its optimizer and itself as the device, so that the net can neither be
pickled nor predict elsewhere, and its own training step is not the one taken here.
"""

import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


def fingerprint(codes: np.ndarray) -> tuple[int, int]:
    """Return the number of samples, and a checksum of their class codes."""
    return len(codes), zlib.crc32(codes.tobytes())


class Processes:
    """The processes that train together, each on its part of every batch.

    With one process, with an accelerator or without, every method returns what it is
    given.

    Parameters
    ----------
    accelerator : accelerate.Accelerator or None, default=None

    Attributes
    ----------
    count : int
        Number of processes.
    index : int
        Position of this process.
    device : str or None
        Device that the accelerator has chosen.
    """

    def __init__(self, accelerator=None) -> None:
        self.accelerator = accelerator
        self.count, self.index = 1, 0
        self.device: str | None = None
        self._wrapped: dict[nn.Module, nn.Module] = {}
        if accelerator is not None:
            _check(accelerator)
            self.count = accelerator.num_processes
            self.index = accelerator.process_index
            device = accelerator.device
            self.device = "cpu" if device.type == "cpu" else str(device)

    def shard(self, indices: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield this process's part of each index array, which `count` divides."""
        if self.count == 1:
            return indices
        return (np.split(index, self.count)[self.index] for index in indices)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over processes, without gradient."""
        if self.count == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def all_true(self, value: bool) -> bool:
        """Tell whether the value is true in every process."""
        if self.count == 1:
            return value
        return bool(self.mean(torch.tensor(float(value), device=self.device)) == 1)

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value, which has to be picklable."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: Any) -> list:
        """Return every process's value, which has to be picklable."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def check_same(self, codes: np.ndarray) -> None:
        """Raise if the class codes are not the same in every process."""
        if self.count == 1:
            return
        each = self.gather(fingerprint(codes))
        if len(set(each)) > 1:
            counts = ", ".join(str(n) for n, _ in each)
            raise ValueError(
                f"The {self.count} processes were given different targets, of {counts} "
                "samples. Give each the whole X and y: fit itself splits each batch."
            )

    def broadcast_weights(self, *modules: nn.Module) -> None:
        """Copy the first process's weights and buffers to all."""
        if self.count > 1:
            for module in modules:
                for value in module.state_dict().values():
                    dist.broadcast(value, src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module wrapped so that backward averages gradients.

        The weights are the module's own: there is nothing to unwrap.
        """
        if self.count == 1:
            return module
        if module not in self._wrapped:
            # Not placed anew: the EMA and the optimizer refer to its tensors by now.
            self._wrapped[module] = self.accelerator.prepare_model(
                module, device_placement=False
            )
        return self._wrapped[module]


SINGLE_PROCESS = Processes()


def _check(accelerator) -> None:
    """Raise for a class, and for settings that the training loop would not follow."""
    if isinstance(accelerator, type):
        raise ValueError(
            f"accelerator={accelerator!r} is a class. Give an object of it: "
            f"accelerator={accelerator.__name__}()."
        )
    n_started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes < n_started:
        raise ValueError(
            f"{n_started} processes were started, but the accelerator joins "
            f"{accelerator.num_processes}, so that each would train alone. Without a "
            "GPU, take Accelerator(cpu=True)."
        )
    kind = accelerator.distributed_type.value
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"The accelerator is set up for {kind}. Here every process holds both "
            "networks whole: choose multi-GPU or multi-CPU training, in `accelerate "
            "config` or by torchrun."
        )
    if accelerator.mixed_precision != "no":
        raise ValueError(
            f"The accelerator has mixed_precision={accelerator.mixed_precision!r}, but "
            "it is precision='bfloat16' of the classifier that asks for that. Set it, "
            "and Accelerator(mixed_precision='no')."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "The accelerator has gradient_accumulation_steps="
            f"{accelerator.gradient_accumulation_steps}, but every step here is an "
            "optimizer step. Set it to 1, and batch_size as the memory allows."
        )
