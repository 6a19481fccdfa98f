import math

import numpy as np
import pytest
import torch
from scipy import sparse

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


def make_source(kind, shape=(6,)):
    if kind == "array":
        return ArraySource(X, shape, "cpu")
    if kind == "sparse":
        return SparseSource(sparse.csr_matrix(X), shape, "cpu")
    return DatasetSource(list(torch.tensor(X).reshape(-1, *shape)), "cpu", {})


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
@pytest.mark.parametrize("kind", ["array", "sparse", "dataset"])
def test_stream_yields_samples_of_each_index(kind, shape):
    indices = [np.array([3, 0, 3]), np.array([39]), range(5, 9)]
    found = list(make_source(kind, shape).stream(indices))
    for batch, index in zip(found, indices, strict=True):
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch.numpy(), X[index].reshape(-1, *shape))


def test_array_source_of_images_with_channels_last():
    images = X.reshape(40, 2, 1, 3)
    source = ArraySource(X, (3, 2, 1), "cpu", channels_last=True)
    for index in (np.array([7, 3]), range(2, 4)):
        (batch,) = source.stream([index])
        np.testing.assert_array_equal(batch.numpy(), np.moveaxis(images[index], 3, 1))


@pytest.mark.parametrize("kind", ["array", "sparse", "dataset"])
def test_moments_equal_numpy(kind):
    mean, deviation = moments(make_source(kind), 40, (6,))
    np.testing.assert_allclose(mean.numpy(), X.astype(float).mean(axis=0))
    np.testing.assert_allclose(deviation.numpy(), X.astype(float).std(axis=0))


def test_moments_of_images_are_those_of_channels():
    images = np.random.default_rng(1).normal(size=(30, 3, 5, 4)).astype(np.float32)
    source = ArraySource(images.reshape(30, -1), (3, 5, 4), "cpu")
    mean, deviation = moments(source, 30, (3, 5, 4))
    assert mean.shape == (3, 1, 1)
    exact = images.astype(float)
    np.testing.assert_allclose(mean.flatten().numpy(), exact.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(deviation.flatten().numpy(), exact.std(axis=(0, 2, 3)))


def test_moments_are_precise_far_from_zero():
    far = (1e6 + X).astype(np.float32)
    _, deviation = moments(ArraySource(far, (6,), "cpu"), 40, (6,))
    np.testing.assert_allclose(deviation.numpy(), far.astype(float).std(axis=0))


def test_array_source_keeps_uint8():
    source = ArraySource(np.arange(12, dtype=np.uint8).reshape(2, 6), (6,), "cpu")
    assert source.array.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(20,), (1, 28, 28), (3, 224, 224)])
def test_chunks_cover_the_index_within_bounds(shape):
    parts = chunks(np.arange(10_000), shape)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(10_000))
    assert max(map(len, parts)) <= 2048
    assert chunks(np.arange(0), shape) == []
    on_gpu = chunks(np.arange(10_000), shape, "cuda:1")
    np.testing.assert_array_equal(np.concatenate(on_gpu), np.arange(10_000))
    assert len(parts[0]) <= len(on_gpu[0]) <= 5 * len(parts[0])


def test_unlabeled_chunks(monkeypatch):
    codes = np.random.default_rng(0).choice([-1, 0, 1], size=200)
    shape = (2**19 // 16,)  # so wide that a chunk has 16 samples
    expected = np.flatnonzero(codes == -1)
    for n_searched in (2**20, 70):  # all at once, and in three parts
        monkeypatch.setattr("pnl_sklearn.data._sources.N_SAMPLES", n_searched)
        parts = list(unlabeled_chunks(codes, shape))
        assert max(map(len, parts)) == 16
        np.testing.assert_array_equal(np.concatenate(parts), expected)


class OtherDevice(torch.Tensor):
    """A tensor that claims to be on another device, and counts its copies."""

    is_cpu = False
    n_copies = 0

    def cpu(self):
        OtherDevice.n_copies += 1
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_concatenate_predictions_copies_several_parts_at_once(shape, monkeypatch):
    monkeypatch.setattr(
        "pnl_sklearn.training._predict._N_HELD", 3 * math.prod(shape[1:])
    )
    monkeypatch.setattr(OtherDevice, "n_copies", 0)
    values = torch.arange(math.prod(shape)).reshape(shape)
    parts = values.split(2)
    np.testing.assert_array_equal(concatenate_predictions(parts, 7), values)
    names = np.array([f"class {k}" for k in range(21)])
    on_other_device = [part.as_subclass(OtherDevice) for part in parts]
    found = concatenate_predictions(on_other_device, 7, names)
    np.testing.assert_array_equal(found, names[values.numpy()])
    assert OtherDevice.n_copies == 2  # of four samples and of three
