"""Two processes that train together against one with twice the batch sizes.

Started by torchrun, as the fixture does, this file is the script of each process.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._sampler import BatchSampler
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.data._training_data import TrainingData
from pnl_sklearn.estimator._classifier import _spawn_seeds
from pnl_sklearn.estimator._trainer import steps_per_epoch
from pnl_sklearn.utils._distributed import Processes

# Not there where the oldest dependencies are tested.
accelerate = pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[2]
X, LABELS = (part[:400] for part in load_digits(return_X_y=True))
Y = np.where(np.arange(400) < 60, LABELS, -1)
WEIGHTS = {
    "sample_weight": np.linspace(0.1, 2, 400),
    "unlabeled_weight": np.linspace(0, 1, 400),
}
# No random number is drawn for each sample, which would differ between the layouts.
PLAIN = {
    "net_params": {"module__dropout": 0.0},
    "weak_view": None,
    "strong_view": None,
    "graph": None,
    "max_epochs": 2,
    "steps_per_epoch": 8,
    "random_state": 0,
}
AS_ONE = {
    "adaptive": {"graph": "auto"},
    "mean teacher": {"consistency": "mean_teacher", "optimizer": torch.optim.SGD},
    "alternating": {"consistency": "dual_student", "exchange": "alternating"},
    "lowest": {"selection": "lowest", "ema_decay": None, "class_weight": "balanced"},
}
QUICK = {"graph": None, "max_epochs": 4, "steps_per_epoch": 5, "random_state": 0}
# Neither column falls that much from one epoch to another.
LABEL_CHANGE = EarlyStopping("label_change", patience=2, threshold=0.99)
VALID_LOSS = EarlyStopping("valid_loss", patience=1, threshold=0.9)
ALIKE = {
    "batch norm": {
        "module": "cnn",
        "image_shape": (1, 8, 8),
        "net_params": {"module__width": 16},
        "max_epochs": 2,
    },
    "label change": {"callbacks": [LABEL_CHANGE], "max_epochs": 6},
    "early stopping": {"callbacks": [VALID_LOSS], "validation_fraction": 0.3},
    "quick": {"verbose": 2},
}


class NaNInSecondProcess(nn.Module):
    """Linear model whose loss is not finite in one of two processes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        scores = self.linear(x)
        return scores * float("nan") if os.environ.get("RANK") == "1" else scores


class StopAfterTwoEpochs(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def fitted(n_processes, fit_params=None, **params):
    sizes = {"batch_size": 32 * n_processes, "labeled_batch_size": 8 * n_processes}
    return PNLClassifier(**(sizes | params)).fit(X, Y, **(fit_params or {}))


def outcome(accelerator, **params):
    model = fitted(1, accelerator=accelerator, **params)
    return model.history_, model.predict_proba(X), pickle.dumps(model)


def unlabeled_samples_of_the_first_step(accelerator):
    seen = []
    once = {"graph": None, "max_epochs": 1, "steps_per_epoch": 1}

    def view(x):
        seen.append(x)
        return x

    fitted(1, accelerator=accelerator, weak_view=view, **once)
    return seen[1][8:40].numpy()  # the first call is a check


def resumed(accelerator):
    """Interrupt a fit and resume it from the first process's pickle."""
    stop = {"callbacks": [StopAfterTwoEpochs()]}
    model = fitted(1, accelerator=accelerator, **QUICK, **stop)
    pickled = Processes(accelerator).broadcast(pickle.dumps(model))
    model = pickle.loads(pickled).set_params(
        accelerator=accelerator, warm_start="resume", callbacks=None
    )
    return len(model.history_), model.fit(X, Y).predict_proba(X)


def error_of(function, *arguments, **params):
    try:
        function(*arguments, **params)
    except (ValueError, FloatingPointError) as error:
        return str(error)


def train_as_one_process(folder):
    accelerator = accelerate.Accelerator(cpu=True)
    index = accelerator.process_index
    cases = {name: PLAIN | params for name, params in AS_ONE.items()}
    cases["weights"] = PLAIN | {"fit_params": WEIGHTS}
    cases |= {name: QUICK | params for name, params in ALIKE.items()}
    results = {name: outcome(accelerator, **params) for name, params in cases.items()}
    results["resumed"] = resumed(accelerator)
    results["samples"] = unlabeled_samples_of_the_first_step(accelerator)
    diverging = clone(PNLClassifier(NaNInSecondProcess, accelerator=accelerator))
    results["NaN"] = error_of(diverging.set_params(**QUICK).fit, X, Y)
    part = slice(index, None, 2)
    results["shard"] = error_of(diverging.fit, X[part], Y[part])
    (Path(folder) / str(index)).write_bytes(pickle.dumps(results))
    accelerator.end_training()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Results of both processes, and what they printed."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", __file__, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = [pickle.loads((folder / name).read_bytes()) for name in "01"]
    return *results, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AS_ONE, "weights"])
def test_two_processes_train_as_one_with_twice_the_batch(both, name):
    fit_params = WEIGHTS if name == "weights" else None
    one = fitted(2, fit_params, **(PLAIN | AS_ONE.get(name, {})))
    history, probabilities, _ = both[0][name]
    assert len(history) == len(one.history_)
    for row, expected in zip(history, one.history_, strict=True):
        assert row.keys() == expected.keys()
        for column in row.keys() - {"seconds"}:
            np.testing.assert_allclose(
                row[column], expected[column], rtol=1e-4, atol=1e-7
            )
    # Steps of Adam multiply rounding errors, which depend on the processor.
    np.testing.assert_allclose(probabilities, one.predict_proba(X), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AS_ONE, *ALIKE])
def test_both_processes_have_the_same_result(both, name):
    first, second = both[0][name], both[1][name]
    assert repr(first[0]) == repr(second[0])  # of NaN too
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.slow
def test_first_process_draws_the_seed_of_both(both):
    samples = np.concatenate([results["samples"] for results in both[:2]])
    assert len(np.unique(samples, axis=0)) == 64  # parts of one permutation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_epochs"), [("label change", 4), ("early stopping", 2)]
)
def test_fit_ends_early_in_both_processes(both, name, n_epochs):
    assert [len(results[name][0]) for results in both[:2]] == [n_epochs] * 2


@pytest.mark.slow
def test_first_process_prints(both):
    assert both[2].count("train_loss") == 1
    assert both[2].count("held-out labels") == 1
    assert len(both[2].splitlines()) == 2 + QUICK["max_epochs"]


@pytest.mark.slow
def test_fit_is_resumed_in_every_process(both):
    for results in both[:2]:
        n_epochs, probabilities = results["resumed"]
        assert n_epochs == 2
        np.testing.assert_array_equal(probabilities, results["quick"][1])


@pytest.mark.slow
def test_loss_that_is_not_finite_in_one_process_ends_both(both):
    for results in both[:2]:
        assert results["NaN"].startswith("The loss became NaN or infinite in epoch 1")


@pytest.mark.slow
def test_other_samples_in_each_process_are_refused(both):
    for results in both[:2]:
        assert "different targets, of 200, 200 samples" in results["shard"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaptive", "batch norm"])
def test_pickle_needs_no_accelerator(both, name):
    _, probabilities, pickled = both[1][name]
    assert b"accelerate" not in pickled
    model = pickle.loads(pickled)
    assert model.accelerator is None
    np.testing.assert_allclose(model.predict_proba(X), probabilities, atol=1e-12)
    assert model.set_params(max_epochs=1).fit(X, Y).n_iter_ == 1


def test_one_process_with_an_accelerator_gives_the_same_bits():
    accelerator = accelerate.Accelerator(cpu=True)
    model = clone(PNLClassifier(**QUICK, accelerator=accelerator))
    assert model.accelerator is accelerator
    expected = PNLClassifier(**QUICK).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(model.fit(X, Y).predict_proba(X), expected)


def fake(**settings):
    """Return what stands for an accelerator, by default of two processes."""
    defaults = {
        "num_processes": 2,
        "process_index": 0,
        "device": torch.device("cpu", 0),
        "distributed_type": SimpleNamespace(value="MULTI_CPU"),
        "mixed_precision": "no",
        "gradient_accumulation_steps": 1,
        "prepare_model": lambda module: module,
        "free_memory": lambda: None,
    }
    return SimpleNamespace(**(defaults | settings))


SECOND_GPU = fake(num_processes=1, device=torch.device("cuda", 1))


@pytest.mark.parametrize("sampling_weights", [None, np.arange(1.0, 41.0)])
def test_shards_of_all_processes_are_the_batch_of_one(sampling_weights):
    codes = np.where(np.arange(40) < 12, np.arange(40) % 3, -1)
    source = ArraySource(np.arange(40.0)[:, None], (1,), "cpu")

    def epoch(sizes, processes):
        weights = np.linspace(0, 1, 12)
        data = TrainingData(
            None, None, codes, codes, weights, None, sampling_weights, None
        )
        sampler = BatchSampler(source, data, sizes, "cpu", 0, processes=processes)
        return list(sampler.epoch(5))

    parts = [epoch((2, 3), Processes(fake(process_index=i))) for i in range(2)]
    for one, *each in zip(epoch((4, 6), Processes()), *parts, strict=True):
        for name in ("labeled", "labels", "weights", "unlabeled"):
            joined = torch.cat([getattr(part, name) for part in each])
            assert torch.equal(joined, getattr(one, name))


def test_steps_are_as_many_as_one_pass_of_all_processes_takes():
    codes = np.where(np.arange(33_000) < 1000, 0, -1)
    estimator = PNLClassifier()
    steps = [steps_per_epoch(estimator, codes, n) for n in (1, 2, 4, 8)]
    assert steps == [500, 250, 125, 110]


def test_processes_share_all_seeds_but_that_of_the_steps():
    alone = _spawn_seeds(0, Processes())
    first, second = (
        _spawn_seeds(0, Processes(fake(process_index=index))) for index in range(2)
    )
    assert first == alone
    assert len(set(first)) == 5
    assert second[:4] == first[:4]
    assert second[4] not in first


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"accelerator": "ddp"}, "'accelerator' parameter .* Got 'ddp'"),
        ({"accelerator": accelerate.Accelerator}, r"is a class.*=Accelerator\(\)"),
        (
            {"accelerator": fake(distributed_type=SimpleNamespace(value="FSDP"))},
            "set up for FSDP.*both networks as a whole",
        ),
        (
            {"accelerator": fake(mixed_precision="fp16")},
            "mixed_precision='fp16'.*precision='bfloat16'",
        ),
        (
            {"accelerator": fake(gradient_accumulation_steps=4)},
            "gradient_accumulation_steps=4.*every step",
        ),
        ({"accelerator": SECOND_GPU, "device": "cpu"}, "device='cpu', but.*'cuda:1'"),
        ({"accelerator": SECOND_GPU, "device": "cuda:0"}, "'cuda:0', but.*'cuda:1'"),
    ],
)
def test_settings_of_the_accelerator_that_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        PNLClassifier(**params).fit(X, Y)


def test_processes_that_would_train_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes.*connects 1.*cpu=True"):
        PNLClassifier(accelerator=fake(num_processes=1)).fit(X, Y)


if __name__ == "__main__":
    train_as_one_process(sys.argv[1])
