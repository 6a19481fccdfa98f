"""One submodel: its step, its EMA, its precision."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from pnl_sklearn import PNLClassifier
from pnl_sklearn.objectives import negative_learning_loss
from pnl_sklearn.training._submodel import StudentBatch, Submodel
from pnl_sklearn.utils._distributed import SINGLE_PROCESS

RNG = np.random.default_rng(0)
LABELS = np.arange(90) % 3
IMAGES = RNG.normal(size=(90, 8, 8)).astype(np.float32)
IMAGES[:, :3, :3] += 2 * np.eye(3, dtype=np.float32)[LABELS][:, None]
Y = np.where(np.arange(90) < 30, LABELS, -1)


def begin_training(callbacks=(), module=nn.Linear, ema_decay=0.3):
    """Return a submodel of three classes and two features that is about to train."""
    torch.manual_seed(0)
    submodel = Submodel(
        module,
        module__in_features=2,
        module__out_features=3,
        shift=torch.zeros(1),
        scale=torch.ones(1),
        sample_shape=(2,),
        ema_decay=ema_decay,
        optimizer=torch.optim.SGD,
        lr=0.1,
        callbacks=list(callbacks),
        train_split=None,
        verbose=0,
    ).initialize()
    submodel.begin_training(0.1, SINGLE_PROCESS, compiles=False)
    submodel.notify("on_epoch_begin", dataset_train=None, dataset_valid=None)
    return submodel


def student_batch(n_unlabeled=4, **parts):
    """Return two labeled samples and some unlabeled ones."""
    rng = torch.Generator().manual_seed(1)
    negatives = torch.zeros(n_unlabeled, 3, dtype=torch.bool)
    negatives[: n_unlabeled // 2, 2] = True
    defaults = {
        "inputs": torch.randn(2 + n_unlabeled, 2, generator=rng),
        "labels": torch.tensor([0, 1]),
        "weights": torch.ones(2),
        "negatives": negatives,
        "excluded": None,
        "pseudo_labels": torch.tensor([0, 1, 0, 2])[:n_unlabeled],
        "class_prior": torch.full((3,), 1 / 3),
        "negative_loss": negative_learning_loss,
        "negative_weight": 2.0,
        "balance_weight": 0.5,
        "consistency": None,
        "consistency_weight": 0.0,
        "ema_decay": 0.3,
    }
    return StudentBatch(**(defaults | parts))


class EventRecorder(Callback):
    """Records the events of steps, and what it gets with them."""

    events = []  # noqa: RUF012 - shared by copies

    def record(self, name, kwargs):
        self.events.append((name, kwargs))

    def on_batch_begin(self, net, **kwargs):
        self.record("on_batch_begin", kwargs)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        gradients = {name: value.grad for name, value in named_parameters}
        self.record("on_grad_computed", kwargs | {"gradients": gradients})

    def on_batch_end(self, net, **kwargs):
        self.record("on_batch_end", kwargs)


def test_train_step_returns_the_metrics_vector():
    submodel = begin_training()
    batch = student_batch()
    with torch.no_grad():
        logits = submodel.logits(batch.inputs)
    metrics = submodel.train_step(batch)
    assert metrics.shape == (5 + 4 * 3,)
    losses, distribution, counts = metrics.tensor_split([5, 8])
    total, supervised, negative, balance, consistency = losses.tolist()
    log_p = logits.log_softmax(dim=1)
    assert supervised == pytest.approx(-(log_p[0, 0] + log_p[1, 1]).item() / 2)
    not_2 = torch.log1p(-log_p[2:4, 2].exp())
    assert negative == pytest.approx(-not_2.sum().item() / 4)
    assert total == pytest.approx(supervised + 2 * negative + 0.5 * balance)
    assert consistency == 0
    torch.testing.assert_close(distribution, log_p[2:].exp().mean(dim=0))
    samples, covered, agreed = counts.view(3, 3).tolist()
    assert samples == [2, 1, 1]  # by pseudo-label
    assert covered == [1, 1, 0]
    agrees = log_p[2:].argmax(dim=1) == batch.pseudo_labels
    assert agreed == [agrees[batch.pseudo_labels == k].sum() for k in range(3)]


def test_train_step_without_unlabeled_samples():
    submodel = begin_training()
    metrics = submodel.train_step(student_batch(n_unlabeled=0))
    total, supervised, negative, *_ = metrics.tolist()
    assert total == pytest.approx(supervised)
    assert negative == 0
    assert metrics[-9:].tolist() == [0] * 9


def test_train_step_notifies_callbacks():
    EventRecorder.events.clear()
    submodel = begin_training([EventRecorder()])
    batch = student_batch()
    with torch.no_grad():
        logits = submodel.logits(batch.inputs)
    metrics = submodel.train_step(batch)
    names, given = zip(*EventRecorder.events, strict=True)
    assert names == ("on_batch_begin", "on_grad_computed", "on_batch_end")
    assert all(each["batch"] is batch and each["training"] for each in given)
    assert given[1]["gradients"].keys() == {"network.weight", "network.bias"}
    assert all(grad.abs().sum() > 0 for grad in given[1]["gradients"].values())
    assert given[2]["loss"] == metrics[0]
    torch.testing.assert_close(given[2]["y_pred"], logits)


def test_closure_calls_notify_on_grad_computed_each_time():
    EventRecorder.events.clear()
    submodel = begin_training([EventRecorder()])
    submodel.optimizer_ = torch.optim.LBFGS(submodel.module_.parameters(), max_iter=3)
    submodel.train_step(student_batch())
    names = [name for name, _ in EventRecorder.events]
    assert names == ["on_batch_begin", *["on_grad_computed"] * 3, "on_batch_end"]
    assert submodel.n_steps_ == 1


def test_ema_follows_weights_with_a_warm_up():
    """ema <- d ema + (1 - d) weights, with d = min(0.3, (1 + t) / (10 + t))."""
    submodel = begin_training()
    expected = submodel.module_.network.weight.detach().clone()
    for t in range(1, 6):
        decay = submodel.next_ema_decay()
        assert decay == pytest.approx(min(0.3, (1 + t) / (10 + t)))
        submodel.train_step(student_batch(ema_decay=decay))
        weight = submodel.module_.network.weight.detach()
        expected = decay * expected + (1 - decay) * weight
    ema = submodel.ema_module_.network
    torch.testing.assert_close(ema.weight, expected)
    x = torch.randn(4, 2)
    torch.testing.assert_close(
        submodel.log_probabilities(x).float(), ema(x).log_softmax(dim=1)
    )
    torch.testing.assert_close(
        torch.from_numpy(submodel.predict_proba(x)), ema(x).softmax(dim=1)
    )


def test_ema_averages_buffers():
    """Running means are averaged, counters are copied."""

    class Net(nn.Sequential):
        def __init__(self, in_features, out_features):
            layers = [nn.Linear(in_features, 4), nn.BatchNorm1d(4)]
            super().__init__(*layers, nn.Linear(4, out_features))

    submodel = begin_training(module=Net)
    for _ in range(3):
        submodel.train_step(student_batch())
    current, ema = (m.network[1] for m in (submodel.module_, submodel.ema_module_))
    assert not torch.equal(ema.running_mean, torch.zeros(4))
    assert not torch.equal(ema.running_mean, current.running_mean)
    assert ema.num_batches_tracked == current.num_batches_tracked == 3


def test_without_ema_weights_predict():
    submodel = begin_training(ema_decay=None)
    assert submodel.next_ema_decay() == 0
    submodel.train_step(student_batch())
    assert submodel.ema_module_ is submodel.module_


def test_set_lr_factor_keeps_the_ratio_of_parameter_groups():
    submodel = begin_training()
    submodel.optimizer_.add_param_group({"params": [], "lr": 0.5})
    submodel.begin_training(0.2, SINGLE_PROCESS, compiles=False)
    submodel.set_lr_factor(0.5)
    rates = [group["lr"] for group in submodel.optimizer_.param_groups]
    assert rates == [0.1, 0.25]  # the second had a rate of its own


def test_snapshot_and_restore():
    submodel = begin_training()
    submodel.train_step(student_batch())
    snapshot = submodel.snapshot()
    x = torch.randn(4, 2)
    before = submodel.log_probabilities(x), submodel.probabilities(x)
    submodel.train_step(student_batch())
    assert not torch.equal(submodel.probabilities(x), before[1])
    submodel.restore(snapshot)
    assert torch.equal(submodel.log_probabilities(x), before[0])
    assert torch.equal(submodel.probabilities(x), before[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_is_finite_looks_at_weights_and_predictions(value):
    submodel = begin_training()
    x = torch.ones(1, 2)
    assert submodel.is_finite(x)
    assert not submodel.is_finite(value * x)
    with torch.no_grad():
        submodel.module_.network.bias[0] = value
    assert not submodel.is_finite()


def test_release_training_state_leaves_no_gradient():
    submodel = begin_training()
    submodel.train_step(student_batch())
    names = {"_ema_tensors", "mean_prediction", "_processes"}
    assert names <= vars(submodel).keys()
    submodel.release_training_state()
    assert not names & vars(submodel).keys()
    assert all(p.grad is None for p in submodel.module_.parameters())
    pickle.loads(pickle.dumps(submodel)).log_probabilities(torch.ones(1, 2))


@pytest.mark.parametrize("module", ["cnn", "mlp"])
def test_bfloat16_losses_equal_float32_up_to_rounding(module):
    """Losses step by step, of the same weights at first, batches and views."""
    X = IMAGES if module == "cnn" else IMAGES.reshape(90, -1)
    fits = [
        PNLClassifier(
            module,
            net_params={"module__dropout": 0.0},
            graph=None,
            max_epochs=5,
            steps_per_epoch=1,
            batch_size=32,
            rampup=0,
            lr=0.0005,
            precision=precision,
            random_state=0,
        ).fit(X, Y)
        for precision in ("float32", "bfloat16")
    ]
    for exact, rough in zip(*(fitted.history_ for fitted in fits), strict=True):
        for name in ("train_loss", "supervised_loss", "negative_loss", "balance_loss"):
            # Eight bits of mantissa: 2^-8 a rounding, of which several add up.
            assert rough[name] == pytest.approx(exact[name], rel=0.03, abs=2e-3)
    assert rough["supervised_loss"] != exact["supervised_loss"]
    p, q = (fitted.predict_proba(X) for fitted in fits)
    assert p.dtype == q.dtype == np.float64
    np.testing.assert_allclose(p, q, atol=0.05)
    assert np.abs(p - q).max() > 0
    loaded = pickle.loads(pickle.dumps(fits[1]))
    np.testing.assert_array_equal(loaded.predict_proba(X), q)


def test_default_precision_is_float32():
    large = np.kron(IMAGES, np.ones((2, 2), np.float32))
    fitted = PNLClassifier(max_epochs=1, steps_per_epoch=1, graph=None).fit(large, Y)
    assert {submodel.precision for submodel in fitted.submodels_} == {"float32"}


def test_bfloat16_layers_have_float32_weights():
    seen = set()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, x):
            logits = self.layer(x.flatten(1))
            seen.add((x.dtype, logits.dtype, self.training))
            return logits

    fit = PNLClassifier(
        Net,
        graph=None,
        max_epochs=2,
        steps_per_epoch=20,
        precision="bfloat16",
        consistency="mean_teacher",
        random_state=0,
    ).fit(IMAGES, Y)
    fit.predict(IMAGES)
    types = torch.float32, torch.bfloat16
    assert seen == {(*types, True), (*types, False)}
    for submodel in fit.submodels_:
        for module in (submodel.module_, submodel.ema_module_):
            assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert fit.score(IMAGES[:30], Y[:30]) > 0.6
