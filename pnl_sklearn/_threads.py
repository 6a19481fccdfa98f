"""What runs in several threads of a CPU: both students of a step, or parts of rows."""

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TypeVar

import numpy as np
import torch

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

# Just less than the largest block that glibc learns from, 32 MiB.
_LARGE_BLOCK = 2**25 - 2**16

_lock = Lock()
# How many threads torch has but for those that want it to have fewer, and how many they
# are now.
_n_usual = _n_users = 0


class SideBySide:
    """Context in which `map` runs the two submodels in a thread each, where it pays.

    Where all cores share each operation, they wait for the slowest: beside other work,
    two threads with half of the cores each take a third to a half of the time. What
    draws random numbers would get them in another order each time, and a fit has to be
    repeatable: so the first step is run one after the other, and if it has drawn any
    (torch's dropout does), so are all others.

    Parameters
    ----------
    possible : bool
        Whether there are two submodels to run at once, on a CPU.
    """

    # Calls of `map` in the first step: the partners predict, the students learn.
    _n_watched = 2

    def __init__(self, possible: bool) -> None:
        self._n_threads = torch.get_num_threads()
        self._undecided = self._n_watched if possible and self._n_threads > 1 else 0
        self._fewer = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self):
        """Take half of the threads, as long as they may be needed twice."""
        if self._undecided:
            self._fewer.enter_context(_fewer_threads(self._n_threads // 2))
        return self

    def __exit__(self, *_):
        """End the threads, after the step they are in, and give back what was taken."""
        if self._pool is not None:
            self._pool.shutdown()
        self._fewer.close()

    def map(self, function: Callable, *arguments: Iterable) -> list:
        """Return the function's values, in order, as the built-in map does."""
        if self._pool is not None:
            return list(self._pool.map(function, *arguments))
        before = _random_states() if self._undecided else None
        values = list(map(function, *arguments))
        if before is not None:
            self._decide(before == _random_states())
        return values

    def _decide(self, is_deterministic: bool) -> None:
        self._undecided = self._undecided - 1 if is_deterministic else 0
        if not is_deterministic:
            self._fewer.close()
        elif not self._undecided:
            self._pool = ThreadPoolExecutor(2)


def keep_memory() -> None:
    """Have the memory of one step be there for the next.

    glibc gives blocks that are freed back to the system, and takes them anew, page by
    page, at each step, of threads above all. It learns not to from a large block that
    is freed (`man mallopt`, M_MMAP_THRESHOLD), from then on keeping up to 64 MiB of
    each thread's. This one is not written to, and so takes no memory itself.
    """
    torch.empty(_LARGE_BLOCK, dtype=torch.uint8)


def each_in_a_thread(
    function: Callable[[_Item], _Value], items: Iterable[_Item]
) -> list[_Value]:
    """Call a function of each item, in as many threads as torch has, of one core each.

    Operations that share all cores wait for the slowest core each time: with other work
    on the machine they took several times as long. The values are in the items' order.
    """
    with _fewer_threads(1) as n_threads, ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))


@contextmanager
def _fewer_threads(n_threads: int) -> Iterator[int]:
    """Let torch have fewer threads, and yield how many it has usually.

    Other fits may run in threads of the process. A thread that is new to torch begins
    with the number that was set last, in whatever thread, which may be one of these.
    """
    global _n_usual, _n_users
    with _lock:
        if not _n_users:
            _n_usual = torch.get_num_threads()
        _n_users += 1
        torch.set_num_threads(n_threads)
    try:
        yield _n_usual
    finally:
        with _lock:
            _n_users -= 1
            torch.set_num_threads(_n_usual)


def _random_states() -> tuple:
    """States of the global generators, to be compared."""
    numpy_state = repr(np.random.get_state())  # noqa: NPY002 what modules may use
    return torch.get_rng_state().tolist(), numpy_state, random.getstate()
