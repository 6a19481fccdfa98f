"""Loggers, pruning and progress: the callbacks of other packages in a fit."""

import threading
from functools import partial

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    Callback,
    EpochScoring,
    Freezer,
    LRScheduler,
    MlflowLogger,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TensorBoard,
    WandbLogger,
)
from skorch.callbacks import Checkpoint as SkorchCheckpoint
from small_fits import X, Y, same, tiny


def scalars(estimator):
    """Return the columns of the history that are no lists."""
    row = estimator.history_[-1]
    return {name for name, value in row.items() if not isinstance(value, list)}


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing")
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    assert events
    writer = tensorboard.SummaryWriter(tmp_path)  # contains a lock
    estimator = tiny(callbacks=[TensorBoard(writer)], max_epochs=3).fit(X, Y)
    log = accumulator.EventAccumulator(str(tmp_path)).Reload()
    found = [event.value for event in log.Scalars("Loss/train_loss")]
    expected = [row["train_loss"] for row in estimator.history_]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mlflow(tmp_path, monkeypatch):
    """Metrics have one step an epoch, and the weights of both are an artifact."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.tracking.MlflowClient(tracking_uri=f"file:{tmp_path}")
    run = client.create_run(client.create_experiment("few labels"))
    estimator = tiny(callbacks=[MlflowLogger(run, client)], max_epochs=3).fit(X, Y)
    run_id = run.info.run_id
    logged = client.get_run(run_id).data.metrics
    assert scalars(estimator) - {"epoch"} <= logged.keys()
    steps = client.get_metric_history(run_id, "train_loss")
    assert [metric.step for metric in steps] == [1, 2, 3]
    losses = [row["train_loss"] for row in estimator.history_]
    np.testing.assert_allclose([metric.value for metric in steps], losses)
    names = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"params.pth", "optimizer.pth", "history.json"} <= names


class Run:
    """Stands for a run of Weights & Biases, which cannot be copied."""

    def __init__(self):
        self.rows, self.watched, self.lock = [], [], threading.Lock()

    def watch(self, module):
        self.watched.append(module)

    def log(self, row, **_):
        self.rows.append(row)


def test_wandb_logs_one_row_an_epoch():
    run = Run()
    estimator = tiny(callbacks=[WandbLogger(run, save_model=False)]).fit(X, Y)
    assert [row["train_loss"] for row in run.rows] == [
        row["train_loss"] for row in estimator.history_
    ]
    assert all(np.isscalar(value) for row in run.rows for value in row.values())
    assert len(run.watched) == 1


def test_clones_share_loggers_that_cannot_be_copied():
    run, seen = Run(), []
    logger = WandbLogger(run, save_model=False)
    log_to = partial(PrintLog, sink=seen.append)
    original = tiny(callbacks=[("wandb", logger), log_to()])
    copy = clone(original)
    assert copy.callbacks[0][0] == "wandb"
    assert copy.callbacks[0][1].wandb_run is run
    assert copy.callbacks[1] is not original.callbacks[1]
    search = GridSearchCV(original, {"lr": [0.01, 0.02]}, cv=[(range(60), range(5))])
    search.fit(X, Y)
    assert len(run.rows) == 3 * 2  # two fits and a refit of two epochs each


def test_optuna_prunes_a_fit():
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration.skorch")
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1e-9))
    trial = study.ask()
    pruning = integration.SkorchPruningCallback(trial, "train_loss")
    estimator = tiny(callbacks=[pruning], max_epochs=3)
    with pytest.raises(optuna.TrialPruned):
        estimator.fit(X, Y)
    values = study.get_trials()[0].intermediate_values
    assert list(values) == [0]
    np.testing.assert_allclose(values[0], estimator.history_[0]["train_loss"])


def test_print_log_prints_one_line_an_epoch():
    lines = []
    tiny(callbacks=[PrintLog(sink=lines.append)], max_epochs=3).fit(X, Y)
    assert len(lines) == 2 + 3
    assert "train_loss" in lines[0]


def test_print_log_needs_no_verbose(capsys):
    tiny(callbacks=[PrintLog()]).fit(X, Y)
    assert "train_loss" in capsys.readouterr().out


class Records(Callback):
    """Records a value at each step."""

    def on_batch_end(self, net, batch, training, loss, **kwargs):
        assert training
        assert loss.isfinite()
        net.history.record_batch("n_labeled", len(batch.labeled))


def test_passthrough_scoring_is_the_mean_over_steps():
    scoring = PassthroughScoring("n_labeled", on_train=True)
    net_losses = PassthroughScoring("train_loss", on_train=True)

    class Look(Callback):
        def on_train_end(self, net, **kwargs):
            self.history = net.history

    look = Look()
    estimator = tiny(callbacks=[Records(), scoring, net_losses, look]).fit(X, Y)
    assert look.history[:, "n_labeled"] == [8, 8]
    # The mean of the steps' losses is the loss of the epoch.
    losses = [row["train_loss"] for row in estimator.history_]
    np.testing.assert_allclose(look.history[:, "train_loss"], losses, rtol=1e-5)


def test_freezer_freezes_both_submodels():
    estimator = tiny(callbacks=[Freezer("network.head.*")]).fit(X, Y)
    for submodel in estimator.submodels_:
        free = {n for n, p in submodel.module_.named_parameters() if p.requires_grad}
        assert free
        assert not any("head" in name for name in free)


def test_freezer_of_all_weights_is_refused():
    with pytest.raises(ValueError, match="Freezer must leave some weights"):
        tiny(callbacks=[Freezer("*")]).fit(X, Y)


def test_schedulers_of_submodels_are_copies():
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    estimator = tiny(callbacks=[schedule], lr=0.1, max_epochs=3).fit(X, Y)
    assert not hasattr(schedule, "policy_")
    for submodel in estimator.submodels_:
        assert submodel.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (EpochScoring("accuracy"), "X_val"),
        (ProgressBar(), "verbose=1"),
        (ProgressBar(batches_per_epoch=3), "verbose=1"),
        (SkorchCheckpoint(), "checkpoint="),
    ],
)
def test_refused_callbacks_name_what_to_use(callback, instead):
    with pytest.raises(ValueError, match=f"{type(callback).__name__} cannot be used"):
        tiny(callbacks=[callback]).fit(X, Y)
    with pytest.raises(ValueError, match=instead):
        tiny(callbacks=[callback]).fit(X, Y)


def test_progress_bar_names_epochs_and_metrics(capsys):
    estimator = tiny(verbose=1, max_epochs=3).fit(X, Y)
    shown = capsys.readouterr().err
    assert "neighbors" in shown
    assert "epoch 3/3" in shown
    assert f"loss={estimator.history_[-1]['train_loss']:.3f}" in shown
    assert "9/9" in shown  # steps


def test_resumed_progress_bar_counts_what_is_left(capsys):
    class End(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    model = tiny(callbacks=[End()], max_epochs=3).fit(X, Y)
    model.set_params(verbose=1, warm_start="resume", callbacks=None).fit(X, Y)
    shown = capsys.readouterr().err
    assert "epoch 2/3" in shown
    assert "epoch 1/3" not in shown
    assert "6/6" in shown


def test_verbose_2_prints_a_line_an_epoch(capsys):
    estimator = tiny(verbose=2, max_epochs=3).fit(X, Y)
    printed = capsys.readouterr()
    header, *lines = printed.out.splitlines()[-4:]
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3]
    shown = dict(zip(header.split(), map(float, lines[-1].split()), strict=True))
    row = estimator.history_[-1]
    assert shown["train_loss"] == pytest.approx(row["train_loss"], abs=1e-4)
    assert shown["seconds"] == pytest.approx(row["seconds"], abs=1e-3)
    assert max(map(len, [header, *lines])) <= 79
    assert not printed.err


def test_verbose_0_prints_nothing(capsys):
    tiny().fit(X, Y)
    printed = capsys.readouterr()
    assert not printed.out + printed.err


def test_progress_changes_no_result():
    one, other = (tiny(verbose=verbose).fit(X, Y) for verbose in (0, 1))
    same(one.predict_proba(X), other.predict_proba(X))
