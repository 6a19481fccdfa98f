"""Limit torch's threads, and map a function over items in threads of one core each."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class _OwnLimit(threading.local):
    """Limit that holds in the current thread, None outside of `limit_threads`."""

    value: int | None = None


_own_limit = _OwnLimit()
_lock = threading.Lock()
# torch's number of threads without any limit, and how many limits hold now.
_n_unlimited = _n_limits = 0


def parallel_map(
    function: Callable[[_Item], _Value], items: Iterable[_Item]
) -> list[_Value]:
    """Call a function on each item, in parallel threads.

    There are as many threads as torch has without a limit. Each call runs in a single
    one, so that no operation waits for the slowest core. With other work on the
    machine this is several times faster than operations on all cores.

    Parameters
    ----------
    function : callable
    items : iterable

    Returns
    -------
    values : list
        In the order of the items.
    """
    with (
        limit_threads(1) as n_threads,
        ThreadPoolExecutor(
            n_threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as executor,
    ):
        return list(executor.map(function, items))


@contextmanager
def limit_threads(n_threads: int) -> Iterator[int]:
    """Let torch use `n_threads` at most in the current thread.

    On exit, also after an error, the previous number holds again. Limits may be nested
    and may hold in several threads at the same time.

    Parameters
    ----------
    n_threads : int
        Largest number of threads. A lower number that holds already stays.

    Yields
    ------
    n_unlimited : int
        torch's number of threads without any limit.
    """
    global _n_unlimited, _n_limits
    outer = _own_limit.value
    with _lock:
        # A new thread starts with the number that was set last in any thread. While a
        # limit holds elsewhere, the number of this thread may be that limit.
        if not _n_limits:
            _n_unlimited = torch.get_num_threads()
        before = _n_unlimited if outer is None else outer
        torch.set_num_threads(min(n_threads, before))
        _own_limit.value = min(n_threads, before)
        _n_limits += 1
    try:
        yield _n_unlimited
    finally:
        _own_limit.value = outer
        with _lock:
            _n_limits -= 1
            torch.set_num_threads(before)
