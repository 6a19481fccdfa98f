"""history_, the histories of the submodels, and what is printed."""

import math

import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from small_fits import IMAGES, X, Y, tiny

from pnl_sklearn import DistributionAlignment
from pnl_sklearn.training._callbacks import COLUMNS
from pnl_sklearn.training._metrics import VALIDATED


def test_columns_of_history():
    estimator = tiny(
        max_epochs=4,
        rampup=0.5,
        negative_weight=0.7,
        class_prior=DistributionAlignment("uniform", weight=0.2),
    )
    history = estimator.fit(X, Y).history_
    assert estimator.n_iter_ == len(history) == 4
    losses = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    losses.append("consistency_loss")
    fractions = ["teacher_student_agreement", "negative_coverage"]
    others = ["epoch", "class_distribution", "class_coverage"]
    others += ["negative_weight", "seconds"]
    for epoch, row in enumerate(history, 1):
        assert sorted(row) == sorted(losses + fractions + others)
        assert row["epoch"] == epoch
        assert all(0 <= row[name] <= 1 for name in fractions)
        assert all(row[name] >= 0 for name in losses)
        assert len(row["class_distribution"]) == 3
        assert sum(row["class_distribution"]) == pytest.approx(1)
        # The coverage of all samples is between those of the classes.
        assert min(row["class_coverage"]) <= row["negative_coverage"]
        assert max(row["class_coverage"]) >= row["negative_coverage"] - 1e-6
        total = row["supervised_loss"] + 0.7 * row["negative_loss"]
        if epoch > 2:  # after the ramp-up
            assert row["negative_weight"] == 0.7
            total += 0.2 * row["balance_loss"]
            assert row["train_loss"] == pytest.approx(total, rel=1e-5)
    # exp(-5 (1 - t)^2) at the last step of the first epoch, two of six.
    weight = 0.7 * math.exp(-5 * (1 - 2 / 6) ** 2)
    assert history[0]["negative_weight"] == pytest.approx(weight)


def test_class_coverage():
    def select(p):  # about samples predicted as class 1 only
        return (torch.arange(3) == 0) & (p.argmax(dim=1, keepdim=True) == 1)

    row = tiny(selection=select, max_epochs=1).fit(X, Y).history_[0]
    assert row["class_coverage"] == [0, 1, 0]


def test_submodels_share_a_history_of_skorch(fitted):
    assert fitted.submodels_[0].history is fitted.submodels_[1].history
    for net in fitted.submodels_:
        assert net.history[:, "epoch"] == [1, 2]
        losses = [row["train_loss"] for row in fitted.history_]
        assert net.history[:, "train_loss"] == losses
        assert [len(row["batches"]) for row in net.history] == [3, 3]


def test_verbose_prints_one_line_per_epoch(capfd):
    estimator = tiny(verbose=2, max_epochs=3, warm_start=True).fit(X, Y)
    evidence, *lines = capfd.readouterr().out.splitlines()
    assert evidence.startswith("Mean log-likelihood of 18 held-out labels")
    assert lines[0].split()[:2] == ["epoch", "train_loss"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert float(lines[1].split()[1]) == pytest.approx(
        estimator.history_[0]["train_loss"], abs=1e-4
    )
    estimator.fit(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["4", "5", "6"]


def test_verbose_0_prints_nothing(capfd):
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9)
    for inputs in (X, IMAGES):
        estimator = tiny(callbacks=[stop, LRScheduler()], max_epochs=3).fit(inputs, Y)
        estimator.score(inputs, Y)
    assert capfd.readouterr() == ("", "")


def test_history_has_all_columns_that_callbacks_can_monitor():
    watch = EarlyStopping("label_change")
    row = tiny(validation_fraction=0.5, callbacks=[watch]).fit(X, Y).history_[-1]
    numbers = [name for name, value in row.items() if not isinstance(value, list)]
    assert sorted([*COLUMNS, *VALIDATED, "label_change"]) == sorted(numbers)
