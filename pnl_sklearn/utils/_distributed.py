"""Distributed training: collective operations of the processes.

Accelerate connects the processes, and torch's DistributedDataParallel averages the
gradients. skorch's AccelerateMixin is not used, since its nets can neither be pickled
nor predict on another device, and since it has another training step.
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
    """Return the number of samples and a checksum of their class codes."""
    return len(codes), zlib.crc32(codes.tobytes())


class Processes:
    """Processes that train together, each on its part of every batch.

    If there is one process, values are returned unchanged, and nothing is communicated.

    Parameters
    ----------
    accelerator : accelerate.Accelerator or None, default=None

    Attributes
    ----------
    count : int
        Number of processes.
    index : int
        Index of this process.
    device : str or None
        Device of the accelerator, None without an accelerator.
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
        """Yield the part of this process of each array. `count` divides its length."""
        if self.count == 1:
            return indices
        return (np.split(index, self.count)[self.index] for index in indices)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over processes. No gradient is computed."""
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
        """Return the value of the first process, which must be picklable."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: Any) -> list:
        """Return the values of all processes, which must be picklable."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def check_same(self, codes: np.ndarray) -> None:
        """Raise if the class codes differ between processes."""
        if self.count == 1:
            return
        each = self.gather(fingerprint(codes))
        if len(set(each)) > 1:
            counts = ", ".join(str(n) for n, _ in each)
            raise ValueError(
                f"The {self.count} processes have different targets, of {counts} "
                "samples. Pass the whole X and y in each process, since fit splits "
                "each batch."
            )

    def broadcast_weights(self, *modules: nn.Module) -> None:
        """Copy the weights and buffers of the first process to all processes."""
        if self.count > 1:
            for module in modules:
                for value in module.state_dict().values():
                    dist.broadcast(value, src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module, wrapped such that backward averages the gradients.

        The wrapped module shares its weights with the module.
        """
        if self.count == 1:
            return module
        if module not in self._wrapped:
            # Do not move the tensors: the EMA and the optimizer refer to them.
            self._wrapped[module] = self.accelerator.prepare_model(
                module, device_placement=False
            )
        return self._wrapped[module]


SINGLE_PROCESS = Processes()


def _check(accelerator) -> None:
    """Raise for a class, and for settings that the training loop does not support."""
    if isinstance(accelerator, type):
        raise ValueError(
            f"accelerator={accelerator!r} is a class. Pass an instance of it: "
            f"accelerator={accelerator.__name__}()."
        )
    n_started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes < n_started:
        raise ValueError(
            f"{n_started} processes were started, but the accelerator connects "
            f"{accelerator.num_processes}, so that each process would train alone. "
            "Without a GPU, use Accelerator(cpu=True)."
        )
    kind = accelerator.distributed_type.value
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"The accelerator is set up for {kind}, which is not supported, since each "
            "process has both networks as a whole. Choose multi-GPU or multi-CPU "
            "training by `accelerate config` or torchrun."
        )
    if accelerator.mixed_precision != "no":
        raise ValueError(
            f"The accelerator has mixed_precision={accelerator.mixed_precision!r}, "
            "which is not supported. Use Accelerator(mixed_precision='no'), and "
            "precision='bfloat16' of the classifier for mixed precision."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "The accelerator has gradient_accumulation_steps="
            f"{accelerator.gradient_accumulation_steps}, but every step of a fit is an "
            "optimizer step. Set it to 1, and reduce batch_size if memory is short."
        )
