"""What several processes of one fit do together.

Accelerate starts and joins them, and has torch's DistributedDataParallel average the
gradients. skorch's AccelerateMixin is not used: it prepares a net once and for good,
with its average, its optimizer and itself as the device, so that the net can neither be
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
    """The number of rows, and a checksum of their class codes."""
    return len(codes), zlib.crc32(codes.tobytes())


class Processes:
    """The processes that train together, each on its part of every batch.

    Of one process, with an accelerator or without, every method hands back what it is
    given.

    Parameters
    ----------
    accelerator : accelerate.Accelerator or None, default=None
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

    def parts(self, indices: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Return this rank's part of each index array, which `count` divides."""
        if self.count == 1:
            return indices
        return (np.split(index, self.count)[self.index] for index in indices)

    def own_seed(self, seed: int) -> int:
        """Return the seed of what each rank draws for rows of its own."""
        # The two submodels have the seeds that follow the first rank's.
        return seed + 3 * self.index

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over ranks, without gradient."""
        if self.count == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def agree(self, claim: bool) -> bool:
        """Tell whether the claim is true on every rank."""
        if self.count == 1:
            return claim
        return bool(self.mean(torch.tensor(float(claim), device=self.device)) == 1)

    def of_first(self, value: Any) -> Any:
        """Return the first rank's value, which has to be picklable."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def of_all(self, value: Any) -> list:
        """Return every rank's value, which has to be picklable."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def check_same(self, codes: np.ndarray) -> None:
        """Refuse rows that are not the same on every rank."""
        if self.count == 1:
            return
        each = self.of_all(fingerprint(codes))
        if len(set(each)) > 1:
            n_rows = ", ".join(str(n) for n, _ in each)
            raise ValueError(
                f"The {self.count} processes were given different targets, of {n_rows} "
                "rows. Give each the whole X and y: fit itself deals out the rows of a "
                "batch."
            )

    def level(self, *modules: nn.Module) -> None:
        """Give all ranks the first one's weights and buffers."""
        if self.count > 1:
            for module in modules:
                for value in module.state_dict().values():
                    dist.broadcast(value, src=0)

    def averaging(self, module: nn.Module) -> nn.Module:
        """Return the module so wrapped that backward averages gradients over ranks.

        The weights are the module's own: there is nothing to unwrap.
        """
        if self.count == 1:
            return module
        if module not in self._wrapped:
            # Not placed anew: the average and the optimizer know its tensors by now.
            self._wrapped[module] = self.accelerator.prepare_model(
                module, device_placement=False
            )
        return self._wrapped[module]


SINGLE_PROCESS = Processes()


def _check(accelerator) -> None:
    """Refuse a class, and settings that the training loop would not follow."""
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
