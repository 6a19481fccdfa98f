"""Two students side by side give what they give one after the other."""

import platform
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from pnl_sklearn import PNLClassifier
from pnl_sklearn._rounds import _view_makers
from pnl_sklearn._threads import SideBySide, each_in_a_thread
from pnl_sklearn.networks import MLP
from pnl_sklearn.views import ImageView, TableView

X, LABELS = load_digits(return_X_y=True)
X = X[:200].reshape(-1, 8, 8)
Y = np.where(np.arange(200) < 40, LABELS[:200], -1)


@pytest.fixture
def set_threads():
    """Function that sets torch's number of threads, for the length of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class Recorder(nn.Module):
    """Linear model that notes the threads it is called in and draws what it is told."""

    threads: set[int]

    def __init__(self, draw=lambda: None):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.draw = draw

    def forward(self, x):
        if self.training:
            Recorder.threads.add(threading.get_ident())
            self.draw()
        return self.linear(x.flatten(1))


def fit(**params):
    Recorder.threads = set()
    defaults = {"max_epochs": 1, "steps_per_epoch": 8, "random_state": 0}
    return PNLClassifier(**(defaults | params)).fit(X, Y)


def test_one_thread_and_two_give_the_same_bits(set_threads):
    probabilities = []
    for n_threads in (1, 2, 2):
        set_threads(n_threads)
        probabilities.append(fit().predict_proba(X))
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[1], probabilities[2])


def test_dropout_of_the_perceptron_has_the_same_bits_in_threads(set_threads):
    params = {"module": "mlp", "batch_size": 512, "precision": "float32"}
    probabilities = []
    for n_threads in (1, 2, 2):
        set_threads(n_threads)
        probabilities.append(fit(**params).predict_proba(X))
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[1], probabilities[2])


def test_views_of_large_tables_are_the_same_in_any_order():
    view, rows = TableView(noise=0.1, corruption=0.5), torch.rand(256, 64)
    made = []
    for order in (1, -1):
        torch.manual_seed(0)
        makers = _view_makers(view, rows, 2)
        made.append([make() for make in makers[::order]][::order])
    for first, second in zip(*made, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    # Those of the other student, and of the next step, are others.
    assert not torch.equal(*made[0])
    assert not torch.equal(_view_makers(view, rows, 2)[0](), made[0][0])


@pytest.mark.parametrize(
    "view", [TableView(corruption=0.5), ImageView(rotation=20)], ids=repr
)
def test_other_views_are_made_of_all_rows_at_once(view):
    n_rows = 255 if isinstance(view, TableView) else 256
    shape = (64,) if isinstance(view, TableView) else (1, 8, 8)
    rows = torch.rand(n_rows, *shape)
    torch.manual_seed(0)
    made = torch.cat([make() for make in _view_makers(view, rows, 2)])
    torch.manual_seed(0)
    torch.testing.assert_close(made, view(torch.cat([rows, rows])), rtol=0, atol=0)


class OwnView:
    """Moves all rows alike, and notes with how many it was called, in which thread."""

    calls: list[tuple[int, int]]

    def __call__(self, x):
        OwnView.calls.append((len(x), threading.get_ident()))
        return x + torch.rand(1)


def test_a_view_of_ones_own_is_called_once_a_step_where_fit_is(set_threads):
    set_threads(2)
    OwnView.calls = []
    fit(strong_view=OwnView(), batch_size=32)
    # The first looks at what the view makes.
    assert OwnView.calls[1:] == [(64, threading.get_ident())] * 8


class Perceptron(MLP):
    """The network of tables, that notes the threads it is called in."""

    def forward(self, x):
        if self.training:
            Recorder.threads.add(threading.get_ident())
        return super().forward(x)


@pytest.mark.parametrize("batch_size", [511, 512])
@pytest.mark.parametrize("shape", [(200, 64), (200, 8, 8)])
def test_perceptrons_learn_side_by_side_from_many_rows(set_threads, shape, batch_size):
    set_threads(2)
    Recorder.threads = set()
    PNLClassifier(
        Perceptron, max_epochs=1, steps_per_epoch=4, batch_size=batch_size
    ).fit(X.reshape(shape), Y)
    n_others = len(Recorder.threads - {threading.get_ident()})
    assert n_others == (2 if batch_size == 512 else 0)


def test_students_without_random_numbers_run_side_by_side(set_threads):
    set_threads(2)
    fit(module=Recorder())
    assert len(Recorder.threads - {threading.get_ident()}) == 2
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1), lambda: np.random.rand()],  # noqa: NPY002
    ids=["torch", "numpy"],
)
def test_students_that_draw_random_numbers_go_one_after_the_other(set_threads, draw):
    set_threads(2)
    fit(module=Recorder(draw))
    assert Recorder.threads == {threading.get_ident()}
    assert torch.get_num_threads() == 2


BACKBONE = nn.Flatten()


class CommonBackbone(Recorder):
    def __init__(self):
        super().__init__()
        self.backbone = BACKBONE

    def forward(self, x):
        return super().forward(self.backbone(x))


@pytest.mark.parametrize(
    ("n_threads", "params"),
    [(1, {}), (2, {"exchange": "alternating"}), (2, {"module": CommonBackbone})],
)
def test_where_there_is_nothing_to_run_at_once(set_threads, n_threads, params):
    set_threads(n_threads)
    fit(**({"module": Recorder} | params))
    assert Recorder.threads == {threading.get_ident()}


def test_an_error_in_a_thread_is_raised_and_the_threads_end(set_threads):
    set_threads(2)
    calls, others = [], threading.active_count()

    def fail():
        calls.append(0)
        if len(calls) > 10:
            raise RuntimeError("from within")

    with pytest.raises(RuntimeError, match="from within"):
        fit(module=Recorder(fail))
    assert threading.active_count() == others
    assert torch.get_num_threads() == 2


def test_map_waits_for_a_step_before_it_ends(set_threads):
    set_threads(2)
    done = []

    def work(seconds):
        time.sleep(seconds)
        done.append(seconds)

    def interrupted():
        with SideBySide(possible=True) as side_by_side:
            for _ in range(2):  # of which it learns that no random numbers are drawn
                side_by_side.map(work, [0, 0])
            side_by_side._pool.submit(work, 0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 0.1 in done


def test_each_item_in_threads_of_one_core(set_threads):
    set_threads(2)
    both = threading.Barrier(2, timeout=60)
    seen = []

    def note(item):
        both.wait()  # passes where two threads are there at once
        seen.append((item, torch.get_num_threads()))

    each_in_a_thread(note, range(6))
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
        each_in_a_thread(fail, range(1000))
    assert len(done) < 900
    assert torch.get_num_threads() == 2


def test_threads_are_given_back_to_all_who_took_some_at_a_time(set_threads):
    """A thread that is new to torch begins with the number that was set last."""
    set_threads(2)
    found = []

    def look(n_naps):
        for _ in range(10):
            each_in_a_thread(time.sleep, [0.002] * n_naps)
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


def test_networks_copied_from_one_drop_other_units():
    submodels = fit(module=MLP(64, 10), steps_per_epoch=1).submodels_
    first, second = (submodel.module_.network.body[1] for submodel in submodels)
    assert first.position != second.position


FAULTS = """
import resource
import numpy as np
import torch
from skorch.callbacks import Callback
from pnl_sklearn import PNLClassifier

torch.set_num_threads(2)
faults = []


class Count(Callback):
    def on_epoch_end(self, net, **kwargs):
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)


X = np.random.default_rng(0).random((400, 28, 28), dtype=np.float32)
y = np.where(np.arange(400) < 40, np.arange(400) % 10, -1)
PNLClassifier(
    max_epochs=4, steps_per_epoch=5, graph_weight=0, callbacks=[Count()],
    precision="float32", device="cpu",
).fit(X, y)
print((faults[-1] - faults[3]) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_steps_find_the_memory_of_those_before():
    # Two callbacks an epoch. Without `keep_memory` a step has thousands of page faults.
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1000
