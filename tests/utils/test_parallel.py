"""Work in threads of one core each."""

import threading
import time

import pytest
import torch

from pnl_sklearn.utils._parallel import parallel_map


@pytest.fixture
def set_threads():
    """Function that sets torch's number of threads, for the length of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_each_item_in_threads_of_one_core(set_threads):
    set_threads(2)
    both = threading.Barrier(2, timeout=60)
    seen = []

    def note(item):
        both.wait()  # passes where two threads are there at once
        seen.append((item, torch.get_num_threads()))

    parallel_map(note, range(6))
    assert sorted(seen) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == 2


def test_an_error_of_an_item_is_raised_and_threads_are_given_back(set_threads):
    set_threads(2)
    done = []

    def fail(item):
        if item == 1:
            raise ValueError("item 1")
        time.sleep(0.01)
        done.append(item)

    with pytest.raises(ValueError, match="item 1"):
        parallel_map(fail, range(1000))
    assert len(done) < 900
    assert torch.get_num_threads() == 2


def test_threads_are_given_back_to_all_who_took_some_at_a_time(set_threads):
    """A thread that is new to torch begins with the number that was set last."""
    set_threads(2)
    found = []

    def look(n_naps):
        for _ in range(10):
            parallel_map(time.sleep, [0.002] * n_naps)
            found.append(torch.get_num_threads())

    threads = [threading.Thread(target=look, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    new.start()
    new.join()
    found.append(torch.get_num_threads())
    assert found == [2] * 32
