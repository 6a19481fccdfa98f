"""Recorded steps do what they did before they were recorded."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset

from pnl_sklearn import (
    AdaptiveNegatives,
    DualStudent,
    MeanTeacher,
    PNLClassifier,
    supervised_baseline,
)
from pnl_sklearn.networks import CNN13, MLP, SmallCNN, WideResNet
from pnl_sklearn.objectives import negative_learning_loss
from pnl_sklearn.training import _cuda_graph as _replay
from pnl_sklearn.training import _submodel
from pnl_sklearn.training._cuda_graph import N_WARMUP_STEPS
from pnl_sklearn.views import AdversarialView, RandAugmentView

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(60, 1, 8, 8), dtype=np.uint8)
PHOTOS = RNG.integers(256, size=(60, 3, 12, 12), dtype=np.uint8)
TABLE = RNG.standard_normal((60, 7), dtype=np.float32)
Y = np.where(np.arange(60) < 12, np.arange(60) % 3, -1)
EXCLUDED = np.eye(3, dtype=bool)[(Y + 1) % 3] & (Y < 0)[:, None]


class OwnNetwork(nn.Module):
    """A network of one's own."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.body = nn.Linear(n_features, n_classes)

    def forward(self, x):
        """Map rows to logits."""
        return self.body(x)


def own_view(x):
    """Return the batch."""
    return x


def own_selection(probabilities):
    """Tell what is improbable."""
    return probabilities < 0.1


def with_own_loss():
    """Return a selection with a loss of its own."""
    selection = AdaptiveNegatives()
    selection.loss = negative_learning_loss
    return selection


class Hooking(Callback):
    """Looks at what goes through a network."""

    def on_train_begin(self, net, **kwargs):
        net.module_.register_forward_hook(lambda *_: None)


class Tape(TorchDispatchMode):
    """What a CUDA graph does, of the operations of any device.

    To play it is to run the same operations on the same memory.
    """

    def __init__(self):
        super().__init__()
        self.operations = []
        self.is_new = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        if self.is_new:  # unlike a CUDA graph's, its recording took the step
            self.is_new = False
            return
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, out in self.operations:
                new = func(*args, **kwargs)
                for old, value in zip(tree_leaves(out), tree_leaves(new), strict=True):
                    if isinstance(old, torch.Tensor) and old is not value:
                        old.copy_(value)


@pytest.fixture
def tapes(monkeypatch):
    """Record on the CPU; yields the list of what was recorded."""
    recorded = []

    @contextmanager
    def graph(tape, stream, **_):
        assert stream == "stream of cpu"
        recorded.append(tape)
        with tape:
            yield

    cuda = SimpleNamespace(
        CUDAGraph=Tape,
        graph=graph,
        device=lambda device: nullcontext(),
        Stream=lambda device: f"stream of {device}",
        current_stream=lambda: "the stream before",
        set_stream=recorded.append,
    )
    monkeypatch.setattr(_replay, "_is_cuda", lambda device: True)
    monkeypatch.setattr(_replay, "cuda", cuda)
    monkeypatch.setattr(_submodel, "_compiled", lambda kind, shape: _submodel._call)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # or students learn in threads of their own
    yield recorded
    torch.set_num_threads(n_threads)


SIZES = {
    "steps_per_epoch": 1,
    "batch_size": 8,
    "labeled_batch_size": 4,
    "random_state": 0,
}


def fit(inputs, n_epochs=12, n_steps=1, **params):
    params = SIZES | {"max_epochs": n_epochs, "steps_per_epoch": n_steps} | params
    # Measured in between.
    estimator = PNLClassifier(validation_fraction=0.25, **params)
    return estimator.fit(inputs, Y, negative_labels=EXCLUDED)


# With small steps along the gradient. Adam's are as large where a gradient is hardly
# more than rounding, and so make two fits different ones.
DEEP = {"module": "cnn13", "optimizer": torch.optim.SGD, "lr": 0.01}
SETTINGS = [
    (IMAGES, {}),
    (TABLE, {}),
    (TABLE, {"exchange": None, "ema_decay": None, "class_prior": None}),
    (IMAGES, {"consistency": MeanTeacher(rampup=0.8), "selection": "lowest"}),
    (TABLE, {"consistency": DualStudent(rampup=0.8), "class_prior": "labeled"}),
    (PHOTOS, DEEP | {"strong_view": RandAugmentView()}),
    (IMAGES, {"strong_view": AdversarialView(noise=0.1)}),
    (IMAGES, {"optimizer": torch.optim.SGD, "selection": "random"}),
]


each_setting = pytest.mark.parametrize(
    ("inputs", "params"), SETTINGS, ids=lambda value: repr(value)[:40]
)


def compare(fast, plain, rtol, n_steps=12):
    """Compare two fits step by step, since each of their epochs has one step."""
    for name in ("train_loss", "balance_loss", "consistency_loss", "valid_loss"):
        ours, theirs = (
            [row[name] for row in m.history_[:n_steps]] for m in (fast, plain)
        )
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=name)
    for net, other in zip(fast.submodels_, plain.submodels_, strict=True):
        assert net.n_steps_ == other.n_steps_ == 12
        groups, others = net.optimizer_.param_groups, other.optimizer_.param_groups
        assert [_settings(g) for g in groups] == [_settings(g) for g in others]


def _settings(group):
    return {name: value for name, value in group.items() if name != "params"}


@each_setting
def test_a_replayed_fit_is_the_fit(inputs, params, tapes):
    replayed = fit(inputs, **params)
    assert len(tapes) == 2  # before and after the prior is settled
    plain = fit(inputs, compile=False, **params)
    # Rounding grows from step to step, and most in the deepest network.
    compare(replayed, plain, 5e-3 if "module" in params else 1e-5)
    assert len(tapes) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@each_setting
@pytest.mark.parametrize("compile", ["auto", True])
def test_a_replayed_fit_is_the_fit_on_cuda(inputs, params, compile, monkeypatch):
    made = []
    graph = torch.cuda.CUDAGraph
    monkeypatch.setattr(_replay.cuda, "CUDAGraph", lambda: made.append(0) or graph())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile has much to say
        fast = fit(inputs, device="cuda", compile=compile, **params)
    assert len(made) == 2
    plain = fit(inputs, device="cuda", compile=False, **params)
    assert len(made) == 2
    # Convolutions are of TensorFloat32, which has 10 bits, and compiled ones sum in
    # another order. In the deepest network what is rounded grows fast.
    deep = "module" in params
    compare(
        fast, plain, 5e-2 if deep else 2e-2, n_steps=N_WARMUP_STEPS + 2 if deep else 12
    )


@pytest.mark.parametrize(
    "inputs",
    [sparse.csr_matrix(TABLE), TensorDataset(torch.from_numpy(TABLE))],
    ids=["sparse", "dataset"],
)
def test_rows_of_any_kind(inputs, tapes):
    replayed = fit(inputs)
    assert len(tapes) == 2
    compare(replayed, fit(inputs, compile=False), 1e-5)


def test_a_fit_without_unlabeled_rows(tapes):
    y = np.arange(60) % 3
    fits = []
    params = SIZES | {"max_epochs": 12, "validation_fraction": 0.25}
    for compile in ("auto", False):
        twin = supervised_baseline(PNLClassifier(**params, compile=compile))
        fits.append(twin.fit(TABLE, y))
    assert len(tapes) == 2
    compare(*fits, 1e-5)


def test_fits_that_go_on(tapes):
    fits = []
    for compile in ("auto", False):
        model = PNLClassifier(**SIZES, max_epochs=12, compile=compile)
        model.fit(TABLE, Y)
        model.set_params(warm_start=True).fit(TABLE, Y)
        fits.append(model)
    assert len(tapes) == 2 + 2
    for name in ("train_loss", "balance_loss"):
        ours, theirs = ([row[name] for row in m.history_] for m in fits)
        assert len(ours) == 24
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_fit_that_is_taken_up(tapes):
    whole = fit(TABLE, n_steps=2)
    first = fit(TABLE, n_steps=2, callbacks=[("end", Ending(at=5))])
    assert len(first.history_) == 5
    first.set_params(callbacks=None, warm_start="resume")
    first.fit(TABLE, Y, negative_labels=EXCLUDED)
    losses = [[row["train_loss"] for row in model.history_] for model in (first, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


class Ending(Callback):
    """Ends a fit at the end of an epoch."""

    def __init__(self, at):
        self.at = at

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1, "epoch"] == self.at:
            raise KeyboardInterrupt


class Noting(Callback):
    """Does something at the end of an epoch: it cools the learning rate."""

    def on_epoch_end(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["base_lr"] *= 0.9


class Counting(Callback):
    """Does something at each step."""

    def on_batch_end(self, net, **kwargs):
        pass


def test_what_a_callback_changes_is_recorded_anew(tapes):
    params = {"n_epochs": 4, "n_steps": 6, "callbacks": [Noting()]}
    replayed = fit(TABLE, **params)
    assert len(tapes) == 4
    plain = fit(TABLE, compile=False, **params)
    ours, theirs = ([r["train_loss"] for r in m.history_] for m in (replayed, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"compile": False},
        {"exchange": "alternating"},
        {"callbacks": [Counting()]},
        {"callbacks": [LRScheduler("StepLR", step_size=9)]},
        {"optimizer": torch.optim.RMSprop},
        {"net_params": {"optimizer__foreach": True}},
        {"strong_view": own_view},
        {"selection": own_selection},
        {"selection": with_own_loss()},
        {"callbacks": [Hooking()]},
        {"module": OwnNetwork},
        # Dropout has to be the same in its two passes.
        {"strong_view": AdversarialView()},
    ],
    ids="-".join,
)
def test_what_cannot_be_recorded_is_not(params, tapes):
    # Of more steps an epoch than run before one is recorded.
    fit(TABLE, n_epochs=2, n_steps=2 * N_WARMUP_STEPS, **params)
    assert not tapes


@pytest.mark.parametrize(
    "params",
    [
        {"strong_view": own_view},
        {"selection": own_selection},
        {"module": OwnNetwork},
    ],
    ids="-".join,
)
@pytest.mark.parametrize("compile", [True, np.True_])
def test_your_own_are_recorded_on_demand(params, compile, tapes):
    replayed = fit(TABLE, compile=compile, **params)
    assert len(tapes) == 2
    compare(replayed, fit(TABLE, compile=False, **params), 1e-5)


def test_hooks_are_recorded_on_demand(tapes):
    params = {"n_epochs": 2, "n_steps": 2 * N_WARMUP_STEPS, "callbacks": [Hooking()]}
    fit(TABLE, compile=True, **params)
    assert len(tapes) == 2  # one an epoch


def test_a_network_of_this_package_is_known_however_it_is_given(tapes):
    for module in (MLP, partial(MLP, hidden=16), MLP(TABLE.shape[1], 3)):
        replayed = fit(TABLE, module=module)
        assert len(tapes) == 2
        compare(replayed, fit(TABLE, module=module, compile=False), 1e-5)
        tapes.clear()


def test_a_fit_that_goes_on_records_by_the_network_that_it_has(tapes):
    model = PNLClassifier(OwnNetwork, **SIZES, max_epochs=12).fit(TABLE, Y)
    model.set_params(module="mlp", warm_start=True).fit(TABLE, Y)
    assert not tapes


def test_other_threads_record_nothing(tapes):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit, TABLE).result()
    assert not tapes


class Raising:
    """A view that raises while a step is recorded."""

    def __init__(self, tapes, error):
        self.tapes, self.error = tapes, error
        self.n_calls = 0

    def __call__(self, x):
        """Return the batch."""
        self.n_calls += 1
        if self.tapes:
            raise self.error
        return x


def test_a_step_that_cannot_be_recorded_says_so(tapes):
    view = Raising(tapes, RuntimeError("not permitted when stream is capturing"))
    with pytest.raises(RuntimeError, match="as a CUDA graph") as error:
        fit(TABLE, compile=True, strong_view=view)
    assert "not permitted" in str(error.value.__cause__)
    assert view.n_calls == 1 + N_WARMUP_STEPS + 1
    assert tapes[1:] == ["the stream before"]


def test_memory_that_runs_out_is_called_that(tapes):
    view = Raising(tapes, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        fit(TABLE, compile=True, strong_view=view)


def test_an_interrupted_recording_leaves_no_trace(tapes):
    view = Raising(tapes, KeyboardInterrupt())
    with pytest.warns(UserWarning, match="interrupted in epoch 4"):
        model = fit(TABLE, compile=True, strong_view=view)
    for net in model.submodels_:
        assert net.n_steps_ == N_WARMUP_STEPS
        for group in net.optimizer_.param_groups:
            assert isinstance(group["lr"], float)
            assert not group["capturable"]


@pytest.mark.parametrize(
    "network",
    [
        SmallCNN((1, 8, 8), 3),
        CNN13((3, 12, 12), 3, noise=0.15, second_head=True),
        WideResNet((3, 16, 16), 3, depth=10),
    ],
)
def test_networks_compile_as_a_whole(network):
    compiled = torch.compile(_submodel._call, backend="aot_eager", fullgraph=True)
    x = torch.rand(4, *{1: (1, 8, 8), 3: (3, 16, 16)}[network.body[0].in_channels])
    scores = compiled(network, x)
    sum(s.sum() for s in scores).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_layers_are_compiled_for_training_alone(tapes, monkeypatch):
    modes = []

    def call(module, x):
        modes.append(module.training)
        return module(x)

    monkeypatch.setattr(_submodel, "_compiled", lambda kind, shape: call)
    plain = fit(TABLE, n_epochs=2)
    assert not modes
    compiled = fit(TABLE, n_epochs=2, compile=True)
    assert modes
    assert all(modes)
    assert plain.history_[-1]["train_loss"] == compiled.history_[-1]["train_loss"]
