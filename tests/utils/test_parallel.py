"""Limits of torch's threads, and functions mapped in parallel threads."""

import threading
import time

import pytest
import torch

from pnl_sklearn.utils._parallel import limit_threads, parallel_map


@pytest.fixture
def two_threads():
    """Let torch have two threads during the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def n_threads_of_new_thread():
    """Return torch's number of threads in a thread that starts now."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.usefixtures("two_threads")
def test_parallel_map_calls_in_threads_of_one_core():
    both = threading.Barrier(2, timeout=60)

    def square(item):
        both.wait()  # passes only if two calls run at the same time
        return item**2, torch.get_num_threads()

    values = parallel_map(square, range(6))
    assert values == [(item**2, 1) for item in range(6)]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_parallel_map_stops_at_an_error_and_restores_threads():
    done = []

    def fail(item):
        if item == 1:
            raise ValueError("item 1")
        time.sleep(0.01)
        done.append(item)

    with pytest.raises(ValueError, match="item 1"):
        parallel_map(fail, range(1000))
    assert len(done) < 900
    assert torch.get_num_threads() == n_threads_of_new_thread() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_are_restored_after_concurrent_limits():
    found = []

    def use(n_items):
        for _ in range(10):
            parallel_map(time.sleep, [0.002] * n_items)
            found.append(torch.get_num_threads())

    threads = [threading.Thread(target=use, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [n_threads_of_new_thread(), torch.get_num_threads()]
    assert found == [2] * 32


@pytest.mark.usefixtures("two_threads")
def test_limit_holds_while_another_thread_leaves_its_own():
    """A thread that is new to torch starts with the number that was set last."""
    is_limited, may_leave = threading.Event(), threading.Event()
    found = []

    def use():
        with limit_threads(1):
            is_limited.set()
            assert may_leave.wait(timeout=60)
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=use)
    thread.start()
    assert is_limited.wait(timeout=60)
    assert parallel_map(lambda item: torch.get_num_threads(), range(4)) == [1] * 4
    assert torch.get_num_threads() == 2
    may_leave.set()
    thread.join()
    assert found == [1, 2]
    assert n_threads_of_new_thread() == 2


@pytest.mark.usefixtures("two_threads")
def test_limits_nest():
    with limit_threads(1) as n_unlimited:
        assert n_unlimited == 2
        with limit_threads(2):
            assert torch.get_num_threads() == 1
        # As many threads as without a limit, but one core each.
        both = threading.Barrier(2, timeout=60)
        parallel_map(lambda item: both.wait(), range(4))
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == n_threads_of_new_thread() == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.usefixtures("two_threads")
def test_limit_ends_with_an_error(error):
    def fail():
        with limit_threads(1):
            raise error

    with pytest.raises(error):
        fail()
    assert torch.get_num_threads() == n_threads_of_new_thread() == 2
