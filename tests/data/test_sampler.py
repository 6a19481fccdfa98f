import itertools

import numpy as np
import pytest
import torch

from pnl_sklearn.data._sampler import BatchSampler, _UnlabeledParts
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.data._training_data import TrainingData

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def make_sampler(
    codes, sizes, X=X, seed=0, weights=None, excluded=None, sampling_weights=None, **kw
):
    source = ArraySource(X[: len(codes)], X.shape[1:], "cpu")
    weights = np.ones((codes >= 0).sum()) if weights is None else weights
    data = TrainingData(
        None, None, codes, codes, weights, excluded, sampling_weights, None
    )
    return BatchSampler(source, data, sizes, "cpu", seed, **kw)


def positions(batch):
    """Positions in X of the samples of a batch."""
    return (batch.numpy()[:, None] == X).all(axis=2).argmax(axis=1)


def test_batch_has_labels_and_weights_of_its_labeled_samples():
    codes = np.array([-1, 2, -1, 0, -1, 1])
    sampler = make_sampler(codes, (2, 3), weights=np.array([1.0, 3.0, 5.0]))
    for batch in itertools.islice(sampler.epoch(4), 4):
        index = positions(batch.labeled)
        assert batch.labels.tolist() == codes[index].tolist()
        assert batch.weights.tolist() == index.tolist()
        assert len(batch.unlabeled) == 3
        assert batch.excluded is None
        assert batch.log_posterior is None


def test_batch_has_values_of_its_unlabeled_samples():
    codes = np.where(np.arange(40) % 4, -1, 0)
    rng = np.random.default_rng(1)
    excluded = rng.random((40, 3)) < 0.5
    log_posterior = rng.random((40, 3), dtype=np.float32)
    sampler = make_sampler(
        codes, (2, 5), excluded=excluded, log_posterior=log_posterior
    )
    for batch in sampler.epoch(8):
        index = positions(batch.unlabeled)
        assert (codes[index] == -1).all()
        np.testing.assert_array_equal(batch.excluded, excluded[index])
        np.testing.assert_array_equal(batch.log_posterior, log_posterior[index])


def test_sampling_weights():
    codes = np.array([0, -1, -1, -1])
    weights = np.array([9.0, 1.0, 0.0, 3.0])
    sampler = make_sampler(codes, (1, 500), sampling_weights=weights)
    (batch,) = sampler.epoch(1)
    counts = np.bincount(positions(batch.unlabeled), minlength=4)
    assert counts[0] == counts[2] == 0
    # Four standard errors of 500 draws with probability 3/4 are 39.
    assert abs(counts[3] - 375) < 39


def test_streams_are_whole_permutations():
    codes = np.full(30, -1)
    codes[:4] = [0, 1, 2, 0]
    sampler = make_sampler(codes, (3, 10))
    labels, unlabeled = [], []
    for _ in range(2):  # the streams go on from epoch to epoch
        for batch in sampler.epoch(2):
            labels += batch.labels.tolist()
            unlabeled += batch.unlabeled[:, 0].tolist()
    assert sorted(labels) == sorted([0, 1, 2, 0] * 3)
    # 26 unlabeled samples, 40 drawn: one whole permutation before any comes again.
    assert sorted(unlabeled[:26]) == sorted(X[4:30, 0].tolist())


def test_seed_determines_the_batches():
    codes = np.where(np.arange(40) < 8, 0, -1)
    first, same, other = (
        next(make_sampler(codes, (4, 8), seed=seed).epoch(1)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.unlabeled, same.unlabeled)
    assert torch.equal(first.labeled, same.labeled)
    assert not torch.equal(first.unlabeled, other.unlabeled)


def test_skip_equals_unused_epochs():
    codes = np.where(np.arange(40) < 8, 0, -1)
    used, skipped = (make_sampler(codes, (3, 5)) for _ in range(2))
    for _ in range(2):
        list(used.epoch(4))
    skipped.skip(2, 4)
    for batch, expected in zip(skipped.epoch(3), used.epoch(3), strict=True):
        assert torch.equal(batch.unlabeled, expected.unlabeled)
        assert torch.equal(batch.labeled, expected.labeled)


def test_batches_larger_than_the_data_repeat_it():
    batch = next(make_sampler(np.array([0, 1, -1]), (5, 4)).epoch(1))
    assert sorted(batch.labels.tolist()[:2]) == [0, 1]
    assert len(batch.labeled) == 5
    assert (batch.unlabeled == torch.tensor(X[2])).all()


def test_batch_without_unlabeled_samples():
    batch = next(make_sampler(np.array([0, 1, 0]), (2, 4)).epoch(1))
    assert batch.unlabeled.shape == (0, 6)


@pytest.mark.parametrize("n_samples", [33, 40])
def test_permutation_in_parts_has_each_unlabeled_sample_once(n_samples, monkeypatch):
    monkeypatch.setattr("pnl_sklearn.data._sampler.N_SAMPLES", 8)
    codes = np.where(np.arange(n_samples) % 5, -1, 0)
    unlabeled = np.flatnonzero(codes < 0)
    numbers = np.arange(n_samples, dtype=np.float32)[:, None]
    sampler = make_sampler(codes, (1, len(unlabeled)), numbers)
    for batch in sampler.epoch(5):
        assert sorted(batch.unlabeled[:, 0].tolist()) == unlabeled.tolist()


def test_parts_mix_samples_that_come_in_turns(monkeypatch):
    monkeypatch.setattr("pnl_sklearn.data._sampler.N_SAMPLES", 500)
    parts = _UnlabeledParts(np.full(1000, -1))
    assert len(parts) == 2
    for part in parts:
        assert 200 < (part % 2).sum() < 300
