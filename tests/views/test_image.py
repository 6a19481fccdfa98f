import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pnl_sklearn.views import ImageView


def blob(n=1, channels=1, size=17):
    """Smooth images, not symmetric, so that every operation is visible."""
    y, x = np.mgrid[:size, :size]
    image = np.exp(-((x - 10.0) ** 2) / 6 - ((y - 7.0) ** 2) / 12)
    return torch.tensor(image, dtype=torch.float32).expand(n, channels, -1, -1)


@pytest.fixture
def set_parameters(monkeypatch):
    """Set all random parameters of a view to one value from -1 to 1."""

    def set_to(value):
        monkeypatch.setattr(
            torch, "rand", lambda shape, **kwargs: torch.full(shape, (value + 1) / 2)
        )

    return set_to


def test_image_view_without_strength_is_identity():
    x = torch.rand(3, 2, 9, 7)
    torch.testing.assert_close(ImageView()(x), x)
    torch.testing.assert_close(ImageView(fill=(0.5, 0.0))(x), x)


def test_image_view_of_empty_batch():
    x = torch.zeros(0, 1, 8, 8)
    assert ImageView(shift=0.1, noise=0.1)(x).shape == x.shape


COS, SIN, TAN = math.cos(math.pi / 6), math.sin(math.pi / 6), math.tan(math.pi / 9)


# Matrices map output (y, x) to input (y, x).
@pytest.mark.parametrize(
    ("strength", "matrix"),
    [
        ({"rotation": 30.0}, [[COS, SIN], [-SIN, COS]]),
        ({"scale": 0.25}, [[1.25, 0], [0, 1.25]]),
        ({"shear": 20.0}, [[1, 0], [TAN, 1]]),
    ],
)
def test_image_operations_match_scipy(strength, matrix, set_parameters):
    set_parameters(1.0)
    augmented = ImageView(**strength, fill=(0.0,))(blob())[0, 0].numpy()
    matrix, center = np.array(matrix), np.array([8.0, 8.0])
    expected = ndimage.affine_transform(
        blob()[0, 0].numpy(),
        matrix,
        offset=center - matrix @ center,
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(augmented, expected, atol=1e-5)


def test_image_shift_is_fraction_of_size(set_parameters):
    set_parameters(1.0)
    shifted = ImageView(shift=3 / 17, fill=(0.0,))(blob())[0, 0]
    expected = torch.zeros(17, 17)
    expected[:14, :14] = blob()[0, 0, 3:, 3:]
    torch.testing.assert_close(shifted, expected, atol=1e-5, rtol=0)


def test_image_flip_mirrors_left_to_right(set_parameters):
    set_parameters(-1.0)
    mirrored = ImageView(flip=True, fill=(0.0,))(blob())
    torch.testing.assert_close(mirrored, blob().flip(3), atol=1e-5, rtol=0)


def test_image_parameters_differ_between_images(generator):
    view = ImageView(rotation=20, shift=0.1, erase=0.3, noise=0.1, fill=(0.0,))
    out = view(blob(8), generator=generator)
    differences = (out[:, None] - out[None]).abs().amax(dim=(2, 3, 4))
    assert (differences + torch.eye(8) > 0.01).all()


def test_image_shifts_are_uniform(generator):
    # Horizontal center of mass, in pixels; the blob stays inside of the image.
    view = ImageView(shift=2 / 17, fill=(0.0,))
    out = view(blob(4000), generator=generator)
    x = torch.arange(17.0)
    position = (out.sum(dim=2) * x).sum(dim=2) / out.sum(dim=(2, 3))
    start = (blob().sum(dim=2) * x).sum() / blob().sum()
    shifts = (position - start).flatten()
    assert shifts.abs().max() < 2.05
    assert shifts.mean().item() == pytest.approx(0, abs=0.08)  # four standard errors
    assert shifts.std().item() == pytest.approx(2 / math.sqrt(3), rel=0.05)


def test_image_fill_replaces_erased_pixels_and_those_from_outside(generator):
    x = torch.full((50, 2, 8, 8), 3.0)
    view = ImageView(shift=0.4, rotation=40, erase=0.5, fill=(3.0, 3.0))
    torch.testing.assert_close(view(x, generator=generator), x)


def test_image_erase_is_largest_side(generator):
    x = torch.ones(500, 1, 20, 20)
    erased = ImageView(erase=0.5, fill=(0.0,))(x, generator=generator) == 0
    heights = erased.any(dim=3).sum(dim=2)
    assert heights.max() <= 10  # half of 20 pixels
    assert 0.02 < erased.float().mean() < 0.25


def test_image_noise_is_in_standard_deviations(generator):
    x = torch.randn(400, 1, 10, 10, generator=torch.Generator().manual_seed(1)) * 7
    noise = ImageView(noise=0.5)(x, generator=generator) - x
    assert noise.std().item() == pytest.approx(3.5, rel=0.05)
