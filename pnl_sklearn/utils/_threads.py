"""Limit of the number of torch's threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _OwnLimit(threading.local):
    """Limit of the current thread, None outside of `limit_threads`."""

    value: int | None = None


_own_limit = _OwnLimit()
_lock = threading.Lock()
# torch's number of threads without any limit, and the number of limits now.
_n_unlimited = _n_limits = 0


@contextmanager
def limit_threads(n_threads: int) -> Iterator[int]:
    """Limit the number of torch's threads in the current thread.

    On exit, also after an error, the previous number is restored. Limits may be nested,
    and may be set in several threads at the same time.

    Parameters
    ----------
    n_threads : int
        Largest number of threads. A number that is already lower is kept.

    Yields
    ------
    n_unlimited : int
        torch's number of threads without any limit.
    """
    global _n_unlimited, _n_limits
    outer = _own_limit.value
    with _lock:
        # A new thread starts with the number that was set last in any thread. If there
        # is a limit in another thread, the number of this thread may be that limit.
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
