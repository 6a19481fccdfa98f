"""What runs in several threads of a CPU, each of one core."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

_lock = Lock()
# How many threads torch has but for those that want it to have fewer, and how many they
# are now.
_n_usual = _n_users = 0


def parallel_map(
    function: Callable[[_Item], _Value], items: Iterable[_Item]
) -> list[_Value]:
    """Call a function of each item, in as many threads as torch has, of one core each.

    Operations that share all cores wait for the slowest core each time: with other work
    on the machine they took several times as long. The values are in the items' order.
    """
    with limit_threads(1) as n_threads, ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))


@contextmanager
def limit_threads(n_threads: int) -> Iterator[int]:
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
