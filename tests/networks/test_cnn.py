import pickle

import numpy as np
import pytest
import torch

from pnl_sklearn import PNLClassifier
from pnl_sklearn.networks import CNN13, SmallCNN
from pnl_sklearn.networks._cnn import _WeightNormConv2d


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 3, 5), (1, 8, 8), (3, 15, 40), (1, 28, 28), (4, 64, 64)]
)
def test_small_cnn_takes_images_of_any_size(shape):
    logits = SmallCNN(shape, n_classes=7, width=16)(torch.rand(2, *shape))
    assert logits.shape == (2, 7)


def test_small_cnn_number_of_parameters():
    # Convolutions without bias have 9 (1*8 + 8*16 + 16*32), batch normalization
    # 2 (8 + 16 + 32), the last layer 32*5 + 5.
    network = SmallCNN((1, 8, 8), n_classes=5, width=32)
    assert n_parameters(network) == 9 * (8 + 128 + 512) + 2 * 56 + 165


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (5, 28, 41)])
def test_cnn13_takes_images_of_12_pixels_and_more(shape):
    assert CNN13(shape, n_classes=4)(torch.rand(2, *shape)).shape == (2, 4)


def test_cnn13_rejects_smaller_images():
    with pytest.raises(ValueError, match="at least 12 pixels a side, got 8 x 20"):
        CNN13((1, 8, 20), 3)


def test_cnn13_number_of_parameters():
    # Table 5 of Tarvainen and Valpola (2017): 3x3 kernels, 1x1 for the last two.
    threes = [(3, 128), (128, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    kernels = 9 * sum(a * b for a, b in [*threes, (256, 512)]) + 512 * 256 + 256 * 128
    channels = 3 * 128 + 3 * 256 + 512 + 256 + 128
    # Each channel has a filter length, and scale and shift of batch normalization.
    expected = kernels + 3 * channels + 128 * 10 + 10
    assert n_parameters(CNN13((3, 32, 32), n_classes=10)) == expected


def test_weight_normalization_matches_torch():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    ours = _WeightNormConv2d(3, 5, 3, padding=1, bias=False)
    plain = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    plain.load_state_dict({"weight": ours.weight})
    theirs = torch.nn.utils.parametrizations.weight_norm(plain)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        ours.weight *= 3  # only the direction of the weight matters
        ours.length *= 2
        theirs.parametrizations.weight.original0 *= 2
    torch.testing.assert_close(ours(x), theirs(x))
    for network in (ours, theirs):
        network(x).square().sum().backward()
    lengths = theirs.parametrizations.weight.original0.grad.flatten()
    torch.testing.assert_close(ours.length.grad, lengths)


def test_cnn13_noise_in_training_only():
    x = torch.rand(4, 1, 12, 12)
    network = CNN13((1, 12, 12), 3, dropout=0.0, noise=0.15)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_cnn13_second_head_in_training_only():
    torch.manual_seed(0)
    network = CNN13((1, 12, 12), 3, dropout=0.0, second_head=True)
    x = torch.rand(4, 1, 12, 12)
    logits, second_logits = network(x)
    assert logits.shape == second_logits.shape == (4, 3)
    assert not torch.allclose(logits, second_logits)
    network.eval()
    torch.testing.assert_close(network(x), network.head(network.features(x)))
    one_head = CNN13((1, 12, 12), 3)
    assert n_parameters(network) == n_parameters(one_head) + 128 * 3 + 3


@pytest.mark.parametrize("name", ["cnn13", "wrn28-2"])
def test_networks_by_name_fit_and_pickle(name):
    rng = np.random.default_rng(0)
    X, y = rng.random((16, 12, 12)), np.r_[0, 1, 0, 1, np.full(12, -1)]
    classifier = PNLClassifier(
        module=name,
        max_epochs=1,
        steps_per_epoch=1,
        batch_size=4,
        labeled_batch_size=4,
        random_state=0,
    ).fit(X, y)
    expected = classifier.predict_proba(X)
    assert expected.shape == (16, 2)
    reloaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(reloaded.predict_proba(X), expected)
    with pytest.raises(ValueError, match=f"module='{name}' needs images"):
        PNLClassifier(module=name).fit(X.reshape(16, -1), y)
