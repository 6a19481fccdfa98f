"""The training loop against steps taken by hand."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

import pnl_sklearn
from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    LowestNegatives,
    PNLClassifier,
)
from pnl_sklearn.objectives import ConsistencyTargets, negative_learning_loss
from pnl_sklearn.objectives._selection import mask_and_renormalize

LR, LAMBDA, BETA = 0.1, 2.0, 0.5
X = np.array([[1.0], [-2.0], [3.0]], dtype=np.float32)
Y = np.array([0, 1, -1])


class TwoParameters(nn.Module):
    """Logits (a x, b x) of a single feature x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x):
        return x * self.weight


def fit(negative_labels=None, **params):
    defaults = {
        "module": TwoParameters(),
        "standardize": False,
        "weak_view": None,
        "strong_view": None,
        "optimizer": torch.optim.SGD,
        "lr": LR,
        "max_epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": 1,
        "labeled_batch_size": 2,
        "rampup": 0,
        "negative_weight": LAMBDA,
        "class_prior": DistributionAlignment("uniform", weight=BETA),
        "graph": None,
        "ema_decay": None,
        "random_state": 0,
    }
    classifier = PNLClassifier(**(defaults | params))
    return classifier.fit(X, Y, negative_labels=negative_labels)


def weights(classifier):
    return [
        submodel.module_.network.weight.detach().numpy()
        for submodel in classifier.submodels_
    ]


def softmax(z):
    exp = np.exp(z)
    return exp / exp.sum(axis=-1, keepdims=True)


def mean(p):
    """Running mean prediction after the first step; it starts at the uniform prior."""
    return 0.97 * 0.5 + 0.03 * p


def gradient(w, mask, kind):
    """d loss / d w of one student; each cross-entropy has dL/dz = p - target."""
    labeled = softmax(X[:2] * w) - np.eye(2)[Y[:2]]
    supervised = (labeled * X[:2]).mean(axis=0)
    p = softmax(X[2] * w)
    if kind == "candidates":  # -log of the candidates' mass
        target = np.where(mask, 0, p)
        negative = (p - target / target.sum()) * X[2]
    else:  # mean of -log(1 - p_k) over negatives k; d p_k / d z = p_k (e_k - p)
        parts = [p[k] / (1 - p[k]) * (np.eye(2)[k] - p) for k in np.flatnonzero(mask)]
        negative = np.mean(parts, axis=0) * X[2]
    # KL(uniform || m), whose derivative by m reaches p unscaled; dp_k / dz as above.
    terms = [
        -0.5 / m * q * (e - p) for m, q, e in zip(mean(p), p, np.eye(2), strict=True)
    ]
    balance = np.sum(terms, axis=0) * X[2]
    return supervised + LAMBDA * negative + BETA * balance


@pytest.mark.parametrize(
    ("selection", "kind", "mask"),
    [
        # The teacher predicts p = (0.82, 0.18) for x = 3.
        (AdaptiveNegatives(0.2), "candidates", [False, True]),
        (AdaptiveNegatives(0.05), "candidates", [False, False]),
        (LowestNegatives(1), "negatives", [False, True]),
        (lambda p: p > 0.5, "negatives", [True, False]),
    ],
)
def test_student_step_equals_step_by_hand(selection, kind, mask):
    start = np.array([0.3, -0.2])
    expected = start - LR * gradient(start, np.array(mask), kind)
    for weight in weights(fit(selection=selection)):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_alternating_step_trains_one_submodel():
    start = np.array([0.3, -0.2])
    mask = np.array([False, True])
    expected = start - LR * gradient(start, mask, "candidates")
    first, second = weights(
        fit(exchange="alternating", selection=AdaptiveNegatives(0.2))
    )
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second, start, rtol=1e-6)


def test_student_learns_from_the_teacher_not_from_itself():
    """In the second alternating step the teacher is the first submodel, updated."""
    start, mask = np.array([0.3, -0.2]), np.array([False, True])
    seen = []

    def selection(probabilities):
        seen.append(probabilities.numpy().ravel())
        return torch.tensor(mask).expand(len(probabilities), 2)

    first, _ = weights(
        fit(exchange="alternating", selection=selection, steps_per_epoch=2)
    )
    _, *seen = seen  # the first call is a check
    np.testing.assert_allclose(seen[0], softmax(X[2] * start), rtol=1e-5)
    np.testing.assert_allclose(seen[1], softmax(X[2] * first), rtol=1e-5)


def test_history_row_equals_metrics_by_hand():
    row = fit(selection=AdaptiveNegatives(0.2)).history_[0]
    start = np.array([0.3, -0.2])
    p = softmax(X[:2] * start)
    q = softmax(X[2] * start)
    supervised = -np.log(p[[0, 1], Y[:2]]).mean()
    negative, balance = -np.log(q[0]), -np.log(2) - 0.5 * np.log(mean(q)).sum()
    assert row["supervised_loss"] == pytest.approx(supervised, rel=1e-5)
    assert row["negative_loss"] == pytest.approx(negative, rel=1e-5)
    assert row["balance_loss"] == pytest.approx(balance, abs=1e-6)
    total = supervised + LAMBDA * negative + BETA * balance
    assert row["train_loss"] == pytest.approx(total, rel=1e-5)
    assert row["teacher_student_agreement"] == 1
    assert row["negative_coverage"] == 1
    assert row["negative_weight"] == LAMBDA
    assert row["class_distribution"] == pytest.approx(q, rel=1e-5)


def test_rampup_and_cosine_decay_reach_the_step():
    lr = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            lr.append(self.param_groups[0]["lr"])
            return super().step(closure)

    classifier = fit(rampup=0.5, max_epochs=4, optimizer=Spy)
    rampup = [LAMBDA * np.exp(-5 * (1 - t / 2) ** 2) for t in (0, 1)] + [LAMBDA] * 2
    assert [row["negative_weight"] for row in classifier.history_] == pytest.approx(
        rampup
    )
    cosine = [LR * 0.5 * (1 + np.cos(np.pi * t / 4)) for t in range(4)]
    assert lr[::2] == pytest.approx(cosine)


def test_fit_updates_the_ema_at_each_step():
    """ema <- d ema + (1 - d) weights, with d = min(0.3, (1 + t) / (10 + t))."""
    path = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            path.append(self.param_groups[0]["params"][0].detach().numpy().copy())
            return loss

    classifier = fit(ema_decay=0.3, steps_per_epoch=5, optimizer=Spy)
    ema = np.array([0.3, -0.2])
    for t, weight in enumerate(path[::2], start=1):
        decay = min(0.3, (1 + t) / (10 + t))
        ema = decay * ema + (1 - decay) * weight
    submodel = classifier.submodels_[0]
    np.testing.assert_allclose(
        submodel.ema_module_.network.weight.numpy(), ema, rtol=1e-5
    )
    expected = softmax(X * ema)
    np.testing.assert_allclose(submodel.predict_proba(X), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("selection", "kind", "mask"),
    [
        # Without class 0 the teacher is certain of class 1, whatever it predicts.
        (AdaptiveNegatives(0.05), "candidates", [True, False]),
        (LowestNegatives(1), "negatives", [True, False]),
    ],
)
def test_step_with_a_given_negative_label_equals_step_by_hand(selection, kind, mask):
    start = np.array([0.3, -0.2])
    mask = np.array(mask)
    # The label is a supervised term of weight 1: -log p_1, with d/dz = p - e.
    given = (softmax(X[2] * start) - np.eye(2)[1]) * X[2]
    expected = start - LR * (gradient(start, mask, kind) + given)
    classifier = fit(selection=selection, negative_labels=[[], None, [0]])
    for weight in weights(classifier):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)
    assert classifier.transduction_[2] == 1


def test_mask_and_renormalize_takes_excluded_classes_out_of_predictions():
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    mask = torch.tensor([[True, False, False], [True, False, False], [False] * 3])
    expected = torch.tensor([[0, 0.6, 0.4], [0, 0.5, 0.5], [0.2, 0.2, 0.6]])
    torch.testing.assert_close(mask_and_renormalize(p, mask), expected)


class PairRecorder:
    """Consistency of weight 0 that records students and their teachers."""

    rampup = 0.0
    needs_ema = False

    def __init__(self):
        self.pairs = []

    def targets(self, student, teacher, weak, strong, teacher_weak):
        self.pairs.append((student, teacher))
        np.testing.assert_array_equal(
            teacher_weak, teacher.module_(weak).detach().softmax(dim=1)
        )
        use_negatives = torch.ones(len(weak), dtype=torch.bool)
        return ConsistencyTargets(
            teacher_weak[None], torch.zeros(1, len(weak)), use_negatives
        )


@pytest.mark.parametrize(
    ("exchange", "expected_teachers"),
    [("simultaneous", [1, 0, 1, 0]), ("alternating", [1, 0]), (None, [0, 1, 0, 1])],
)
def test_exchange_determines_the_teacher_of_each_student(exchange, expected_teachers):
    recorder = PairRecorder()
    params = {"exchange": exchange, "consistency": recorder}
    submodels = fit(**params, steps_per_epoch=2).submodels_
    students = [submodels.index(student) for student, _ in recorder.pairs]
    assert students == [0, 1] * (len(expected_teachers) // 2)
    teachers = [submodels.index(teacher) for _, teacher in recorder.pairs]
    assert teachers == expected_teachers


def fit_and_call(on_event, n_features=2, **params):
    """Fit 40 samples; call a function at each event."""

    class Caller(Callback):
        def on_train_begin(self, net, **kwargs):
            on_event(net)

        on_epoch_begin = on_batch_begin = on_grad_computed = on_train_begin
        on_batch_end = on_epoch_end = on_train_end = on_train_begin

    rng = np.random.default_rng(0)
    samples = rng.normal(size=(40, n_features)).astype(np.float32)
    defaults = {
        "module": nn.Linear,
        "weak_view": None,
        "strong_view": None,
        "graph": None,
        "batch_size": 8,
        "labeled_batch_size": 4,
        "max_epochs": 1,
        "steps_per_epoch": 2,
        "callbacks": [Caller()],
        "random_state": 0,
    }
    y = np.where(np.arange(40) < 10, np.arange(40) % 2, -1)
    return PNLClassifier(**(defaults | params)).fit(samples, y)


@pytest.fixture
def two_threads():
    """Let torch have two threads, for the length of the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# A step has 24 samples.
@pytest.mark.parametrize(
    ("n_features", "n_threads"), [(2, 1), (2**14 // 24, 1), (2**14 // 24 + 1, 2)]
)
def test_small_steps_run_in_one_thread(two_threads, n_features, n_threads):
    seen = []
    fit_and_call(lambda _: seen.append(torch.get_num_threads()), n_features)
    assert set(seen) == {n_threads}
    assert torch.get_num_threads() == 2


def test_a_large_network_on_small_inputs_has_all_threads(two_threads):
    seen, hidden = [], {"module__hidden": 2**19 // 4}
    params = {"module": "mlp", "max_epochs": 1, "net_params": hidden}
    fit_and_call(lambda _: seen.append(torch.get_num_threads()), 2, **params)
    assert set(seen) == {2}


@pytest.mark.parametrize("n_features", [2, 800])
@pytest.mark.parametrize("event", [1, 3, 6])
def test_fit_restores_thread_count_after_an_error(two_threads, n_features, event):
    seen = []

    def fail(_):
        seen.append(torch.get_num_threads())
        if len(seen) == event:
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        fit_and_call(fail, n_features)
    assert seen[-1] == (1 if n_features == 2 else 2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("n_features", [2, 800])
def test_fit_restores_thread_count_after_keyboard_interrupt(two_threads, n_features):
    seen = []

    def interrupt(_):
        seen.append(torch.get_num_threads())
        if len(seen) == 6:  # in the first step
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        fit_and_call(interrupt, n_features)
    assert seen[-1] == (1 if n_features == 2 else 2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_simultaneous_fits_restore_thread_count(two_threads, error):
    """Also where one of two fails while the other still trains."""
    both_train = threading.Barrier(2, timeout=60)
    seen, met = [], set()

    def fit_one(fails):
        def on_event(net):
            seen.append(torch.get_num_threads())
            n_steps = getattr(net, "n_steps_", 0)  # of a submodel
            if n_steps == 1 and threading.get_ident() not in met:
                met.add(threading.get_ident())
                both_train.wait()
                if fails:
                    raise error("the disk is full")

        if not fails:
            return fit_and_call(on_event)
        with pytest.raises(error, match="disk is full"):
            fit_and_call(on_event)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fit_one, [False, error is not None]))
    assert set(seen) == {1}
    with ThreadPoolExecutor(1) as pool:  # a thread that is new to torch
        counts = [torch.get_num_threads(), pool.submit(torch.get_num_threads).result()]
    assert counts == [2, 2]


def test_callbacks_are_called_in_the_thread_of_fit(two_threads):
    nets, threads = [], set()

    def on_event(net):
        nets.append(net)
        threads.add(threading.get_ident())

    classifier = fit_and_call(on_event)
    assert threads == {threading.get_ident()}
    # The gradients of two steps.
    assert [nets.count(submodel) for submodel in classifier.submodels_] == [2, 2]
    # Begin and end of training and epoch, and of each step.
    assert len(nets) == 2 * 2 + 4 + 2 * 2


class StackRecorder:
    """Selection whose loss records the functions of the package that call it."""

    def __init__(self):
        self.stacks = []

    def __call__(self, probabilities):
        return probabilities < probabilities.amax(dim=1, keepdim=True)

    def loss(self, logits, negatives):
        package = Path(pnl_sklearn.__file__).parent
        names = []
        for info in inspect.stack(context=0):
            code = info.frame.f_code
            # A function within a function counts as a part of it.
            is_nested = code.co_flags & inspect.CO_NESTED
            if package in Path(code.co_filename).parents and not is_nested:
                names.append(code.co_name)
        self.stacks.append(names[: names.index("_fit_epoch")])
        return negative_learning_loss(logits, negatives)


@pytest.mark.parametrize("exchange", ["simultaneous", "alternating", None])
def test_step_is_at_most_three_calls_from_the_loop_to_the_loss(exchange):
    recorder = StackRecorder()
    fit_and_call(lambda _: None, selection=recorder, exchange=exchange)
    assert len(recorder.stacks) == (2 if exchange == "alternating" else 4)
    for stack in recorder.stacks:
        assert "train_step" in stack
        assert len(stack) <= 3


def test_optimizer_that_needs_a_closure_trains():
    """It computes the loss several times in a step."""
    params = {"optimizer": torch.optim.LBFGS, "lr": LR, "class_prior": None}
    classifier = fit(**params, max_epochs=4, steps_per_epoch=3)
    losses = [row["train_loss"] for row in classifier.history_]
    assert losses[-1] < 0.01 * losses[0]
    assert [submodel.n_steps_ for submodel in classifier.submodels_] == [12, 12]
    np.testing.assert_array_equal(classifier.predict(X), [0, 1, 0])
    evaluations = [
        state["func_evals"]
        for submodel in classifier.submodels_
        for state in submodel.optimizer_.state.values()
    ]
    assert min(evaluations) > 12
