"""Compare the operations with torchvision, which has one magnitude for a batch."""

import math

import numpy as np
import pytest
import torch

from pnl_sklearn import PNLClassifier
from pnl_sklearn.views import RandAugmentView
from pnl_sklearn.views import _randaugment as randaugment

# The tests with the oldest dependencies have no torchvision.
tv = pytest.importorskip("torchvision.transforms.v2.functional")

MAGNITUDES = [0.0, 0.13, 0.5, 0.77, 0.999]


def photographs(n=4, channels=3, size=16, seed=0):
    """Smooth uint8 images without the lowest and highest values, for autocontrast."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = rng.normal(size=(n, channels, 4, 1, 1))
    images = (
        waves[:, :, 0] * x + waves[:, :, 1] * y + waves[:, :, 2] * np.sin(9 * x * y)
    )
    images = 120 + 40 * images + rng.normal(0, 4, images.shape)
    return torch.tensor(images.clip(10, 240)).round().to(torch.uint8)


def blend_factor(magnitude):
    return 0.05 + 0.9 * magnitude


REFERENCES = {
    "autocontrast": lambda x, s: tv.autocontrast(x),
    "equalize": lambda x, s: tv.equalize(x),
    "posterize": lambda x, s: tv.posterize(x, 4 + min(int(5 * s), 4)),
    "solarize": lambda x, s: tv.solarize(x, math.ceil(255 * s)),
    "brightness": lambda x, s: tv.adjust_brightness(x, blend_factor(s)),
    "color": lambda x, s: tv.adjust_saturation(x, blend_factor(s)),
    "contrast": lambda x, s: tv.adjust_contrast(x, blend_factor(s)),
    "sharpness": lambda x, s: tv.adjust_sharpness(x, blend_factor(s)),
}


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", REFERENCES)
def test_color_operations_match_torchvision(name, magnitude):
    images = photographs()
    operation = getattr(randaugment, name)
    augmented = 255 * operation(images.float() / 255, torch.full((4,), magnitude))
    expected = REFERENCES[name](images, magnitude).float()
    # torchvision rounds down to integers, and the grayscale image before blending.
    tolerance = 0.01 if name in ("equalize", "posterize", "solarize") else 2.0
    torch.testing.assert_close(augmented, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", REFERENCES)
def test_color_operations_have_a_magnitude_for_each_image(name):
    x = photographs().float() / 255
    operation = getattr(randaugment, name)
    magnitudes = torch.tensor([0.1, 0.4, 0.6, 0.9])
    batched = operation(x, magnitudes)
    single = [operation(x[i : i + 1], magnitudes[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(batched, torch.cat(single))


@pytest.mark.parametrize(
    ("i", "matrix"),
    [
        (
            0,
            lambda s: [
                [math.cos(a := math.radians(30) * s), -math.sin(a), 0],
                [math.sin(a), math.cos(a), 0],
            ],
        ),
        (1, lambda s: [[1, 0.3 * s, 0], [0, 1, 0]]),
        (2, lambda s: [[1, 0, 0], [0.3 * s, 1, 0]]),
        (3, lambda s: [[1, 0, 0.6 * s], [0, 1, 0]]),
        (4, lambda s: [[1, 0, 0], [0, 1, 0.6 * s]]),
    ],
)
def test_geometric_operations_match_scipy(i, matrix):
    from scipy import ndimage

    x = photographs(n=1, channels=1, size=17).float() / 255
    magnitude = 0.9
    augmented = randaugment._apply_geometric(
        x, torch.tensor([i]), torch.tensor([magnitude])
    )
    (a, b, c), (d, e, f) = matrix(2 * magnitude - 1)
    inverse = np.array([[e, d], [b, a]])  # of (y, x)
    center = np.array([8.0, 8.0])
    offset = center - inverse @ center + np.array([f, c]) * 17 / 2
    image = x[0, 0].numpy()
    expected = 0.5 + ndimage.affine_transform(
        image - 0.5, inverse, offset=offset, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(augmented[0, 0].numpy(), expected, atol=1e-4)


def test_randaugment_stays_in_range_and_differs_between_images():
    x = photographs(n=1).float().expand(64, -1, -1, -1)
    out = RandAugmentView()(x, torch.Generator().manual_seed(0))
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 255
    assert len(out.flatten(1).unique(dim=0)) == 64
    again = RandAugmentView()(x, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    half = RandAugmentView(white=127.5)(x / 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(2 * half, out, atol=2.0, rtol=0)


def test_randaugment_draws_all_operations_equally_often(monkeypatch):
    x = photographs(n=1).float().expand(3000, -1, -1, -1) / 255
    drawn = []
    monkeypatch.setattr(
        randaugment, "_apply_color", lambda x, choice, _: drawn.append(choice) or x
    )
    RandAugmentView(n_operations=1)(x)
    counts = torch.bincount(drawn[0], minlength=14)
    assert len(counts) == 14
    assert (abs(counts - 3000 / 14) < 70).all()


def test_randaugment_without_operations_is_identity():
    x = photographs().float()
    view = RandAugmentView(n_operations=0, cutout=0, flip=False)
    torch.testing.assert_close(view(x), x)
    assert view(x[:0]).shape == (0, 3, 16, 16)


def test_cutout_makes_one_gray_rectangle():
    white = torch.full((200, 3, 20, 20), 255.0)
    out = RandAugmentView(n_operations=0, cutout=0.5)(white)
    gray = out == 127.5
    assert (gray | (out == 255)).all()
    sides = gray[:, 0].any(dim=2).sum(dim=1)
    assert sides.max() <= 11
    assert 0.03 < gray.float().mean() < 0.1  # at most 1/4, on average 1/16


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_fit_with_randaugment(channels):
    X = photographs(n=24, channels=channels).numpy()
    y = np.array([0, 1] * 4 + [-1] * 16)
    classifier = PNLClassifier(
        image_shape=X.shape[1:],
        strong_view=RandAugmentView(),
        max_epochs=1,
        steps_per_epoch=2,
        random_state=0,
    )
    assert classifier.fit(X, y).predict_proba(X).shape == (24, 2)
