"""Captured steps do what steps do that are not captured."""

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
from pnl_sklearn.training import _cuda_graph, _submodel
from pnl_sklearn.training._cuda_graph import N_WARMUP_STEPS
from pnl_sklearn.views import AdversarialView, RandAugmentView

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(60, 1, 8, 8), dtype=np.uint8)
PHOTOS = RNG.integers(256, size=(60, 3, 12, 12), dtype=np.uint8)
TABLE = RNG.standard_normal((60, 7), dtype=np.float32)
CLUSTERS = TABLE + 9 * np.eye(3, 7, dtype=np.float32)[np.arange(60) % 3]
Y = np.where(np.arange(60) < 12, np.arange(60) % 3, -1)
EXCLUDED = np.eye(3, dtype=bool)[(Y + 1) % 3] & (Y < 0)[:, None]


class OwnNetwork(nn.Module):
    """A network that does not declare to be capturable."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.body = nn.Linear(n_features, n_classes)

    def forward(self, x):
        """Map samples to logits."""
        return self.body(x)


def own_view(x):
    """Return the batch."""
    return x


def own_selection(probabilities):
    """Select improbable classes."""
    return probabilities < 0.1


def with_own_loss():
    """Return a selection with a loss of its own."""
    selection = AdaptiveNegatives()
    selection.loss = negative_learning_loss
    return selection


class Hooking(Callback):
    """Registers a hook of the network."""

    def on_train_begin(self, net, **kwargs):
        net.submodels[0].module_.register_forward_hook(lambda *_: None)


class Tape(TorchDispatchMode):
    """Stands for a CUDA graph, on any device.

    A replay runs the captured operations again, on the same memory.
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
        if self.is_new:  # unlike that of a CUDA graph, the capture took the step
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
    """Capture on the CPU; yields the list of what was captured."""
    captured = []

    @contextmanager
    def graph(tape, stream, **_):
        assert stream == "stream of cpu"
        captured.append(tape)
        with tape:
            yield

    cuda = SimpleNamespace(
        CUDAGraph=Tape,
        graph=graph,
        device=lambda device: nullcontext(),
        Stream=lambda device: f"stream of {device}",
        current_stream=lambda: "the stream before",
        set_stream=captured.append,
    )
    monkeypatch.setattr(_cuda_graph, "_is_cuda", lambda device: True)
    monkeypatch.setattr(_cuda_graph, "cuda", cuda)
    monkeypatch.setattr(_submodel, "_compiled", lambda kind, shape: _submodel._call)
    return captured


SIZES = {
    "steps_per_epoch": 1,
    "batch_size": 8,
    "labeled_batch_size": 4,
    "graph": None,
    "random_state": 0,
}
# Steps of a fit whose epochs have one step each. The prior is frozen after half of
# them.
N_STEPS = 10


def fit(inputs, n_epochs=N_STEPS, n_steps=1, **params):
    params = SIZES | {"max_epochs": n_epochs, "steps_per_epoch": n_steps} | params
    estimator = PNLClassifier(validation_fraction=0.25, **params)
    return estimator.fit(inputs, Y, negative_labels=EXCLUDED)


# With small steps along the gradient. Adam's are as large where a gradient is hardly
# more than rounding, and so make two fits different ones.
DEEP = {"optimizer": torch.optim.SGD, "lr": 0.01, "strong_view": RandAugmentView()}
SMALL_RESNET = {"module": partial(WideResNet, depth=10, widen=1)}
SETTINGS = [
    (IMAGES, {}),
    (TABLE, {"graph": "auto"}),
    (CLUSTERS, {"graph": "auto"}),
    (TABLE, {"exchange": None, "ema_decay": None, "class_prior": None}),
    (IMAGES, {"consistency": MeanTeacher(rampup=0.8), "selection": "lowest"}),
    (TABLE, {"consistency": DualStudent(rampup=0.8), "class_prior": "labeled"}),
    (PHOTOS, DEEP | SMALL_RESNET),
    (IMAGES, {"strong_view": AdversarialView(noise=0.1)}),
    (IMAGES, {"optimizer": torch.optim.SGD, "selection": "random"}),
]


IDS = [
    "images",
    "table, neighbors off",
    "table, neighbors on",
    "no exchange",
    "mean teacher",
    "dual student",
    "wide resnet",
    "adversarial view",
    "SGD",
]


@pytest.fixture(scope="module")
def plain_fit():
    """Fit of the table whose steps are not captured."""
    return fit(TABLE, compile=False)


def compare(fast, plain, rtol, n_steps=N_STEPS):
    """Compare two fits step by step, since each of their epochs has one step."""
    for name in ("train_loss", "balance_loss", "consistency_loss", "valid_loss"):
        ours, theirs = (
            [row[name] for row in m.history_[:n_steps]] for m in (fast, plain)
        )
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=name)
    for net, other in zip(fast.submodels_, plain.submodels_, strict=True):
        assert net.n_steps_ == other.n_steps_ == N_STEPS
        groups, others = net.optimizer_.param_groups, other.optimizer_.param_groups
        assert [_settings(g) for g in groups] == [_settings(g) for g in others]


def _settings(group):
    return {name: value for name, value in group.items() if name != "params"}


@pytest.mark.parametrize(("inputs", "params"), SETTINGS, ids=IDS)
def test_captured_fit_equals_plain_fit(inputs, params, tapes):
    replayed = fit(inputs, **params)
    assert len(tapes) == 2  # before and after the prior is frozen
    plain = fit(inputs, compile=False, **params)
    if params.get("graph") == "auto":
        assert plain.evidence_.uses_neighbors == (inputs is CLUSTERS)
    # Rounding grows from step to step, and most in the deepest network.
    compare(replayed, plain, 5e-3 if "module" in params else 1e-5)
    assert len(tapes) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(
    ("inputs", "params"),
    [*SETTINGS, (PHOTOS, DEEP | {"module": "cnn13"})],
    ids=[*IDS, "cnn13"],
)
@pytest.mark.parametrize("compile", ["auto", True])
def test_captured_fit_equals_plain_fit_on_cuda(inputs, params, compile, monkeypatch):
    made = []
    graph = torch.cuda.CUDAGraph

    def count_graph():
        made.append(0)
        return graph()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", count_graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.compile
        fast = fit(inputs, device="cuda", compile=compile, **params)
    assert len(made) == 2
    plain = fit(inputs, device="cuda", compile=False, **params)
    assert len(made) == 2
    # Convolutions are of TensorFloat32, which has 10 bits, and compiled ones sum in
    # another order. In the deepest network what is rounded grows fast.
    deep = "module" in params
    n_steps = N_WARMUP_STEPS + 2 if deep else N_STEPS
    compare(fast, plain, 5e-2 if deep else 2e-2, n_steps)


@pytest.mark.parametrize(
    "inputs",
    [sparse.csr_matrix(TABLE), TensorDataset(torch.from_numpy(TABLE))],
    ids=["sparse", "dataset"],
)
def test_captured_fit_equals_plain_fit_of_samples_of_any_kind(inputs, tapes):
    replayed = fit(inputs)
    assert len(tapes) == 2
    compare(replayed, fit(inputs, compile=False), 1e-5)


def test_captured_fit_equals_plain_fit_without_unlabeled_samples(tapes):
    y = np.arange(60) % 3
    fits = []
    params = SIZES | {"max_epochs": N_STEPS, "validation_fraction": 0.25}
    for compile in ("auto", False):
        baseline = supervised_baseline(PNLClassifier(**params, compile=compile))
        fits.append(baseline.fit(TABLE, y))
    assert len(tapes) == 2
    compare(*fits, 1e-5)


def test_warm_start_captures_again(tapes):
    fits = []
    for compile in ("auto", False):
        model = PNLClassifier(**SIZES, max_epochs=N_STEPS, compile=compile)
        model.fit(TABLE, Y)
        model.set_params(warm_start=True).fit(TABLE, Y)
        fits.append(model)
    assert len(tapes) == 2 + 2
    for name in ("train_loss", "balance_loss"):
        ours, theirs = ([row[name] for row in m.history_] for m in fits)
        assert len(ours) == 2 * N_STEPS
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_resumed_fit_captures_again(tapes):
    whole = fit(TABLE, n_epochs=6, n_steps=2)
    assert len(tapes) == 2
    ending = [("end", Ending(at=3))]
    first = fit(TABLE, n_epochs=6, n_steps=2, callbacks=ending)
    assert len(first.history_) == 3
    assert len(tapes) == 2  # each epoch is shorter than the warm-up
    first.set_params(callbacks=None, warm_start="resume")
    first.fit(TABLE, Y, negative_labels=EXCLUDED)
    assert len(tapes) == 3
    losses = [[row["train_loss"] for row in model.history_] for model in (first, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


class Ending(Callback):
    """Ends a fit at the end of an epoch."""

    def __init__(self, at):
        self.at = at

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1, "epoch"] == self.at:
            raise KeyboardInterrupt


class RateChanger(Callback):
    """Lowers the learning rate at the end of an epoch."""

    def on_epoch_end(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["base_lr"] *= 0.9


class StepCallback(Callback):
    """Is called at each step."""

    def on_batch_end(self, net, **kwargs):
        pass


def test_step_is_captured_anew_after_callbacks(tapes):
    params = {"n_epochs": 3, "n_steps": 5, "callbacks": [RateChanger()]}
    replayed = fit(TABLE, **params)
    assert len(tapes) == 3  # one an epoch
    plain = fit(TABLE, compile=False, **params)
    ours, theirs = ([r["train_loss"] for r in m.history_] for m in (replayed, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"compile": False},
        {"exchange": "alternating"},
        {"callbacks": [StepCallback()]},
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
def test_steps_that_are_not_captured(params, tapes):
    # More steps an epoch than the warm-up has.
    fit(TABLE, n_epochs=2, n_steps=2 * N_WARMUP_STEPS, **params)
    assert not tapes


@pytest.mark.parametrize(
    ("params", "compile"),
    [
        ({"strong_view": own_view}, True),
        ({"selection": own_selection}, True),
        ({"module": OwnNetwork}, np.True_),
    ],
    ids=["view", "selection", "module"],
)
def test_compile_captures_parts_that_do_not_declare_it(params, compile, tapes):
    replayed = fit(TABLE, compile=compile, **params)
    assert len(tapes) == 2
    compare(replayed, fit(TABLE, compile=False, **params), 1e-5)


def test_compile_captures_hooks(tapes):
    params = {"n_epochs": 2, "n_steps": 2 * N_WARMUP_STEPS, "callbacks": [Hooking()]}
    fit(TABLE, compile=True, **params)
    assert len(tapes) == 2  # one an epoch


@pytest.mark.parametrize(
    "module",
    [MLP, partial(MLP, hidden=16), MLP(TABLE.shape[1], 3)],
    ids=["class", "partial", "instance"],
)
def test_network_of_the_package_is_captured_however_it_is_given(
    module, tapes, plain_fit
):
    replayed = fit(TABLE, module=module)
    assert len(tapes) == 2
    if module is not MLP:
        plain_fit = fit(TABLE, module=module, compile=False)
    compare(replayed, plain_fit, 1e-5)


def test_warm_start_captures_by_the_network_that_was_fitted(tapes):
    n_steps = N_WARMUP_STEPS + 2
    model = PNLClassifier(OwnNetwork, **SIZES, max_epochs=n_steps).fit(TABLE, Y)
    model.set_params(module="mlp", warm_start=True).fit(TABLE, Y)
    assert not tapes


def test_other_threads_capture_nothing(tapes):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit, TABLE, N_WARMUP_STEPS + 2).result()
    assert not tapes


class Raising:
    """A view that raises while a step is captured."""

    def __init__(self, tapes, error):
        self.tapes, self.error = tapes, error
        self.n_calls = 0

    def __call__(self, x):
        """Return the batch."""
        self.n_calls += 1
        if self.tapes:
            raise self.error
        return x


def test_failed_capture_raises_with_the_cause(tapes):
    view = Raising(tapes, RuntimeError("not permitted when stream is capturing"))
    with pytest.raises(RuntimeError, match="as a CUDA graph") as error:
        fit(TABLE, compile=True, strong_view=view)
    assert "not permitted" in str(error.value.__cause__)
    assert view.n_calls == 1 + N_WARMUP_STEPS + 1
    assert tapes[1:] == ["the stream before"]


def test_out_of_memory_error_of_a_capture_is_raised(tapes):
    view = Raising(tapes, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        fit(TABLE, compile=True, strong_view=view)


def test_interrupted_capture_leaves_no_trace(tapes):
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
def test_networks_compile_without_graph_breaks(network):
    compiled = torch.compile(_submodel._call, backend="aot_eager", fullgraph=True)
    x = torch.rand(4, *{1: (1, 8, 8), 3: (3, 16, 16)}[network.body[0].in_channels])
    scores = compiled(network, x)
    sum(s.sum() for s in scores).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_layers_are_compiled_for_training_only(tapes, monkeypatch):
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
