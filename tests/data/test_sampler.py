import itertools
import math

import numpy as np
import pytest
import torch
from scipy import sparse

from pnl_sklearn.data._sampler import BatchSampler, _UnlabeledParts
from pnl_sklearn.data._sources import (
    ArraySource,
    DatasetSource,
    SparseSource,
    chunks,
    moments,
    unlabeled_chunks,
)
from pnl_sklearn.training._predict import concatenate_predictions

X = np.random.default_rng(0).normal(3, 2, size=(40, 6)).astype(np.float32)
X[X < 1] = 0


def all_rows(shape=(6,)):
    images = list(torch.tensor(X).reshape(-1, *shape))
    return [
        ArraySource(X, shape, "cpu"),
        SparseSource(sparse.csr_matrix(X), shape, "cpu"),
        DatasetSource(images, "cpu", {}),
    ]


def make(codes, sizes, rows=None, weights=None):
    rows = rows or ArraySource(X[: len(codes)], (6,), "cpu")
    weights = np.ones((codes >= 0).sum()) if weights is None else weights
    return BatchSampler(rows, codes, weights, sizes, "cpu", np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
@pytest.mark.parametrize("kind", range(3))
def test_rows_of_every_kind_give_the_rows_asked_for(kind, shape):
    index = [np.array([3, 0, 3]), np.array([39])]
    got = list(all_rows(shape)[kind].stream(index))
    for batch, where in zip(got, index, strict=True):
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch.numpy(), X[where].reshape(-1, *shape))


@pytest.mark.parametrize("kind", range(3))
def test_moments_against_numpy(kind):
    mean, deviation = moments(all_rows()[kind], 40, (6,))
    np.testing.assert_allclose(mean.numpy(), X.astype(float).mean(axis=0))
    np.testing.assert_allclose(deviation.numpy(), X.astype(float).std(axis=0))


def test_moments_of_images_are_those_of_channels():
    images = np.random.default_rng(1).normal(size=(30, 3, 5, 4)).astype(np.float32)
    rows = ArraySource(images.reshape(30, -1), (3, 5, 4), "cpu")
    mean, deviation = moments(rows, 30, (3, 5, 4))
    assert mean.shape == (3, 1, 1)
    exact = images.astype(float)
    np.testing.assert_allclose(mean.flatten().numpy(), exact.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(deviation.flatten().numpy(), exact.std(axis=(0, 2, 3)))


def test_moments_keep_their_precision_far_from_zero():
    far = (1e6 + X).astype(np.float32)
    _, deviation = moments(ArraySource(far, (6,), "cpu"), 40, (6,))
    np.testing.assert_allclose(deviation.numpy(), far.astype(float).std(axis=0))


def test_uint8_stays_uint8_on_the_device():
    rows = ArraySource(np.arange(12, dtype=np.uint8).reshape(2, 6), (6,), "cpu")
    assert rows.rows.dtype == torch.uint8


def test_a_batch_holds_labeled_rows_first_with_their_labels_and_weights():
    codes = np.array([-1, 2, -1, 0, -1, 1])
    batches = make(codes, (2, 3), weights=np.array([1.0, 3.0, 5.0]))
    for batch in itertools.islice(batches.epoch(4), 4):
        same = (X[:6] == batch.labeled.numpy()[:, None]).all(axis=2)
        where = same.argmax(axis=1)
        assert batch.labels.tolist() == codes[where].tolist()
        assert batch.weights.tolist() == where.tolist()
        assert len(batch.unlabeled) == 3


def test_streams_are_whole_permutations():
    codes = np.full(30, -1)
    codes[:4] = [0, 1, 2, 0]
    batches = make(codes, (3, 10))
    seen_labels, seen_rows = [], []
    for _ in range(2):  # the streams run on from epoch to epoch
        for batch in batches.epoch(2):
            seen_labels += batch.labels.tolist()
            seen_rows += batch.unlabeled[:, 0].tolist()
    assert sorted(seen_labels) == sorted([0, 1, 2, 0] * 3)
    # 26 unlabeled samples, 40 drawn: one whole permutation before any comes again.
    assert sorted(seen_rows[:26]) == sorted(X[4:30, 0].tolist())


def test_batches_larger_than_the_data_repeat_it():
    batch = next(make(np.array([0, 1, -1]), (5, 4)).epoch(1))
    assert sorted(batch.labels.tolist()[:2]) == [0, 1]
    assert len(batch.labeled) == 5
    assert (batch.unlabeled == torch.tensor(X[2])).all()


def test_without_unlabeled_rows_their_part_is_empty():
    batch = next(make(np.array([0, 1, 0]), (2, 4)).epoch(1))
    assert batch.unlabeled.shape == (0, 6)


@pytest.mark.parametrize("shape", [(20,), (1, 28, 28), (3, 224, 224)])
def test_chunks_cover_the_index_within_bounds(shape):
    parts = chunks(np.arange(10_000), shape)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(10_000))
    assert max(map(len, parts)) <= 2048
    assert chunks(np.arange(0), shape) == []
    on_gpu = chunks(np.arange(10_000), shape, "cuda:1")
    np.testing.assert_array_equal(np.concatenate(on_gpu), np.arange(10_000))
    assert len(parts[0]) <= len(on_gpu[0]) <= 5 * len(parts[0])


class Elsewhere(torch.Tensor):
    """A tensor of another device, as far as it tells, that counts its copies."""

    is_cpu = False
    n_copies = 0

    def cpu(self):
        Elsewhere.n_copies += 1
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_parts_are_joined_and_those_of_another_device_copied_seldom(shape, monkeypatch):
    monkeypatch.setattr(
        "pnl_sklearn.training._predict._N_HELD", 3 * math.prod(shape[1:])
    )
    monkeypatch.setattr(Elsewhere, "n_copies", 0)
    values = torch.arange(math.prod(shape)).reshape(shape)
    parts = values.split(2)
    np.testing.assert_array_equal(concatenate_predictions(parts, 7), values)
    names = np.array([f"class {k}" for k in range(21)])
    elsewhere = [part.as_subclass(Elsewhere) for part in parts]
    expected = names[values.numpy()]
    np.testing.assert_array_equal(
        concatenate_predictions(elsewhere, 7, names), expected
    )
    assert Elsewhere.n_copies == 2  # of four rows and of three


@pytest.mark.parametrize("n_rows", [33, 40])
def test_many_rows_are_permuted_in_parts(n_rows, monkeypatch):
    """Each unlabeled sample as often as any other, and rows in turns are mixed."""
    monkeypatch.setattr("pnl_sklearn.data._sampler.N_ROWS", 8)
    codes = np.where(np.arange(n_rows) % 5, -1, 0)
    rows = ArraySource(np.arange(n_rows, dtype=np.float32)[:, None], (1,), "cpu")
    unlabeled = np.flatnonzero(codes < 0)
    batches = make(codes, (1, len(unlabeled)), rows)
    for batch in batches.epoch(5):
        assert sorted(batch.unlabeled[:, 0].tolist()) == unlabeled.tolist()


def test_parts_of_rows_that_come_in_turns_are_mixed(monkeypatch):
    monkeypatch.setattr("pnl_sklearn.data._sampler.N_ROWS", 500)
    parts = _UnlabeledParts(np.full(1000, -1))
    assert len(parts) == 2
    for part in parts:
        assert 200 < (part % 2).sum() < 300


def test_unlabeled_rows_are_cut_into_chunks(monkeypatch):
    codes = np.random.default_rng(0).choice([-1, 0, 1], size=200)
    shape = (2**19 // 16,)  # so wide that 16 are one chunk
    expected = np.flatnonzero(codes == -1)
    for n_searched in (2**20, 70):  # all at once, and in three parts
        monkeypatch.setattr("pnl_sklearn.data._sources.N_ROWS", n_searched)
        parts = list(unlabeled_chunks(codes, shape))
        assert max(map(len, parts)) == 16
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_each_unlabeled_sample_has_its_own_log_posterior():
    """Over several epochs and steps, whatever the order of the samples."""
    samples = np.arange(40, dtype=np.float32)[:, None]
    codes = np.where(np.arange(40) % 5, -1, 0)
    source, weights = ArraySource(samples, (1,), "cpu"), np.ones((codes >= 0).sum())
    sizes, rng = (4, 8), np.random.default_rng(0)
    batches = BatchSampler(
        source, codes, weights, sizes, "cpu", rng, log_posterior=samples / 40
    )
    for _ in range(2):
        for batch in batches.epoch(5):
            torch.testing.assert_close(batch.log_posterior, batch.unlabeled / 40)
