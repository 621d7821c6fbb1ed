"""Every mask of `masks.MASKS`: what holds for all of them, numbers worked by hand, NumPy oracles, statistics.

Statistics compare thousands of draws with what the definition gives exactly. The allowance is five standard errors (a
chance of 6e-7 for each), computed from the known variance; nothing is tuned. Distributions are compared by the
Dvoretzky-Kiefer-Wolfowitz inequality P(sup|F_n − F| > ε) ≤ 2·exp(−2nε²) at a chance of 1e-6.
"""

import keras
import numpy as np
import pytest
import tiny
from keras import ops
from scipy import ndimage, stats
from scipy.special import gammaln

from mixmo_keras import masks
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.mixing.ratios import loss_weights, sample_ratios
from mixmo_keras.networks.layers import MixingBlock
from mixmo_keras.seeds import StepSeed

SIZES = [(1, 1, 4), (2, 3, 1), (8, 8, 5), (32, 32, 3)]
EACH_SIZE = [pytest.param(size, marks=[pytest.mark.slow] * (size in SIZES[1:3])) for size in SIZES]
ALL = sorted(masks.MASKS)
PER_CHANNEL = {"channel", "channel_concat"}
SOFT = {"linear", "noise", "patchup_soft"}  # the others are zeros and ones
NO_SHARE = {"cow"}  # draws a share of its own
ROWS = 4000  # of the statistics


def always(mask: str, **options) -> Mixing:
    """The mixing that draws `mask` in every step."""
    if mask != "linear":
        options = dict(probability=1.0, decay_start=None) | options
    return Mixing(mask=mask, **options)


def draw(mask: str, size, num_members=2, seed=1, step=0, num_rows=16, **options) -> np.ndarray:
    """Masks (B, M, h, w, 1 or c) of one step."""
    drawn = mixing.draw_masks(always(mask, **options), StepSeed(seed, step), num_rows, num_members, size)
    return ops.convert_to_numpy(drawn)


def draw_mask(mask: str, share, size=(32, 32, 3), step=0, dtype="float32") -> np.ndarray:
    """The first member's mask: rows of equal shares from a number, or one row a share."""
    share = np.broadcast_to(share, np.shape(share) or (ROWS,)).astype("float32")
    drawn = masks.get(mask)(StepSeed(7, step), ops.cast(ops.convert_to_tensor(share), dtype), size)
    assert keras.backend.standardize_dtype(drawn.dtype) == dtype
    return ops.convert_to_numpy(ops.cast(drawn, "float32"))


def assert_mean(values, mean, std) -> None:
    """The mean of independent values of known mean and standard deviation, within five standard errors."""
    values = np.asarray(values, "float64")
    error = 5 * std / np.sqrt(values.size)
    assert abs(values.mean() - mean) <= error + 1e-6, f"{values.mean()} is not {mean} ± {error}"


def assert_variance(values, variance, fourth_moment) -> None:
    """The variance of independent values of known mean square deviation and known central fourth moment."""
    values = np.asarray(values, "float64")
    error = 5 * np.sqrt((fourth_moment - variance**2) / values.size)
    # estimating the mean costs variance/n, which is within the same allowance
    assert abs(values.var() - variance) <= error + 1e-6, f"{values.var()} is not {variance} ± {error}"


def assert_distribution(values, cdf, resolution=0.0) -> None:
    """Independent values follow a distribution function; a `resolution` is how far each may be off by rounding."""
    values = np.sort(np.asarray(values, "float64").ravel())
    allowed = np.sqrt(np.log(2 / 1e-6) / (2 * values.size))
    steps = np.arange(values.size + 1) / values.size
    above = np.max(steps[1:] - cdf(values + resolution))
    below = np.max(cdf(values - resolution) - steps[:-1])
    assert max(above, below) <= allowed, f"{max(above, below)} is more than {allowed}"


# -- what holds for every mask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", EACH_SIZE, ids=str)
@pytest.mark.parametrize("mask", ALL)
def test_masks_share_every_position_out(mask, size):
    for num_members in range(1, 6):
        drawn = draw(mask, size, num_members)
        channels = size[2] if mask in PER_CHANNEL and num_members > 1 else 1
        assert drawn.shape == (16, num_members, *size[:2], channels)
        assert drawn.min() >= 0
        assert drawn.max() <= 1
        np.testing.assert_allclose(drawn.sum(axis=1), 1, atol=1e-6)
        ratios = mixing.visible_ratios(drawn)
        np.testing.assert_allclose(ratios, drawn.mean(axis=(2, 3, 4)), atol=1e-6)
        weights = ops.convert_to_numpy(loss_weights(ratios, 3.0))
        np.testing.assert_allclose(weights.sum(axis=1), num_members, rtol=1e-5)
        if mask not in SOFT and num_members == 2:
            assert set(np.unique(drawn)) <= {0, 1}


@pytest.mark.parametrize("mask", ALL)
def test_draws_follow_from_the_seed_and_differ_between_rows(mask):
    first = draw(mask, (32, 32, 16))
    np.testing.assert_array_equal(first, draw(mask, (32, 32, 16)))
    assert (first != draw(mask, (32, 32, 16), step=1)).any()
    assert (first != draw(mask, (32, 32, 16), seed=2)).any()
    # 16 of 32 borders: rows that are equal by chance are few, equal rows by mistake would be all
    assert len(np.unique(first.reshape(16, -1), axis=0)) > 8


@pytest.mark.parametrize("mask", ALL)
def test_the_place_is_drawn_for_every_row(mask):
    if mask == "linear":
        pytest.skip("has no place")
    drawn = draw_mask(mask, np.full(16, 0.4), size=(32, 32, 16))
    assert len(np.unique(drawn.reshape(16, -1), axis=0)) >= 2


@pytest.mark.parametrize("size", EACH_SIZE, ids=str)
@pytest.mark.parametrize("mask", ALL)
def test_shares_of_zero_and_one(mask, size):
    nothing, everything = draw_mask(mask, np.repeat([0.0, 1.0], 8), size).reshape(2, -1)
    for drawn in (nothing, everything):
        assert np.isfinite(drawn).all()
        assert drawn.min() >= 0
        assert drawn.max() <= 1
    if mask not in NO_SHARE:
        assert not nothing.any()
    if mask not in NO_SHARE | {"cutmix", "patchup"}:  # these two are clipped, overlap
        assert (everything == 1).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mask", ALL)
def test_half_precision_draws_the_same_mask(mask, dtype):
    # 600 is more than bfloat16 can count to
    for size in [*SIZES, (3, 600, 2)]:
        share = ops.cast(ops.convert_to_tensor(np.linspace(0, 1, 33, dtype="float32")), dtype)
        exact = draw_mask(mask, ops.convert_to_numpy(ops.cast(share, "float32")), size)
        half = draw_mask(mask, ops.convert_to_numpy(ops.cast(share, "float32")), size, dtype=dtype)
        np.testing.assert_array_equal(half, ops.convert_to_numpy(ops.cast(ops.cast(exact, dtype), "float32")))


def test_half_precision_shares_out_what_underflows():
    shares = ops.cast(ops.convert_to_tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), "float16")
    first = ops.cast(ops.convert_to_tensor([[1.0, 0.0], [1.0, 0.0]]), "float16")[:, None, :, None]
    shared = ops.convert_to_numpy(mixing.share_out(first, shares))[:, :, 0, :, 0]
    np.testing.assert_array_equal(shared[0], [[1, 0], [0, 0.5], [0, 0.5]])
    np.testing.assert_array_equal(shared[1], [[1, 0], [0, 1], [0, 0]])


def compiled(function):
    """The ways to run a function of a step: name to function."""
    if keras.backend.backend() == "jax":
        import jax

        return {"jit": jax.jit(function)}
    import tensorflow as tf

    return {"tf.function": tf.function(function), "XLA": tf.function(function, jit_compile=True)}


class Numbers(StepSeed):
    """Seeds that hand out given numbers in order, to this one and all its forks.

    TensorFlow's generators draw other numbers under XLA than eagerly. With the numbers given, what differs is the masks.
    """

    def __init__(self, uniform_numbers, normal_numbers):
        super().__init__(0)
        self.of_each = {"uniform": uniform_numbers, "normal": normal_numbers}
        self.taken = dict.fromkeys(self.of_each, 0)

    def fork(self, label):
        return self

    def uniform(self, shape, low=0.0, high=1.0):
        return low + (high - low) * self.take("uniform", shape)

    def normal(self, shape):
        return self.take("normal", shape)

    def take(self, kind, shape):
        first, self.taken[kind] = self.taken[kind], self.taken[kind] + int(np.prod(shape))
        return ops.reshape(self.of_each[kind][first : self.taken[kind]], shape)


COMPILED_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in ((1, 1, 4), (7, 5, 2), (32, 32, 3))]


@pytest.mark.parametrize("size", COMPILED_SIZES, ids=str)  # that they compile is tested above and below
def test_compiled_masks_are_the_eager_ones(size):
    def draw_all(*numbers):  # one function, so that it compiles once
        return {mask: mixing.draw_masks(always(mask), Numbers(*numbers), 6, 3, size) for mask in ALL}

    generator = np.random.default_rng(0)
    given = (generator.uniform(size=8000).astype("float32"), generator.normal(size=8000).astype("float32"))
    given = tuple(map(ops.convert_to_tensor, given))
    eager = draw_all(*given)
    for way, function in compiled(draw_all).items():
        for mask, drawn in function(*given).items():
            difference = np.abs(ops.convert_to_numpy(drawn) - ops.convert_to_numpy(eager[mask]))
            if mask in ("cow", "fmix"):  # rounding may swap the two positions at the brink, in few rows
                assert np.mean(difference.max(axis=(1, 2, 3, 4)) > 1e-5) <= 1 / 3, (way, mask)
                assert (np.sum(difference > 1e-5, axis=(1, 2, 3, 4)) <= 2 * 3).all(), (way, mask)
            else:
                np.testing.assert_allclose(difference, 0, atol=1e-5, err_msg=f"{mask}, {way}")


SOME = ("cutmix", "cow", "fmix")  # a box, smoothed noise, noise by its frequencies


@pytest.mark.slow
@pytest.mark.parametrize("which", [SOME, tuple(ALL)], ids=["some", "all"])
def test_masks_compile_with_their_draws(which):
    share = np.linspace(0.1, 0.9, 6, dtype="float32")

    def draw_all(step, share):
        seed = StepSeed(5, step)
        return {mask: masks.get(mask)(seed.fork(mask), share, (9, 10, 3)) for mask in which}

    step, share = ops.convert_to_tensor(3, "int32"), ops.convert_to_tensor(share)
    for function in compiled(draw_all).values():
        once, again, other = (
            {mask: ops.convert_to_numpy(values) for mask, values in function(moment, share).items()}
            for moment in (step, step, step + 1)
        )
        for mask in which:
            np.testing.assert_array_equal(once[mask], again[mask])
            assert (once[mask] != other[mask]).any() or mask == "linear"
            assert once[mask].min() >= 0
            assert once[mask].max() <= 1


@pytest.mark.slow
def test_the_number_of_rows_may_be_a_tensor():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow's graphs have dynamic shapes")
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), "int32")])
    def draw_all(num_rows):
        return {mask: mixing.draw_masks(always(mask), StepSeed(5), num_rows, 2, (8, 6, 3)) for mask in ALL}

    for num_rows in (1, 5):
        for mask, drawn in draw_all(tf.constant(num_rows)).items():
            assert drawn.shape == (num_rows, 2, 8, 6, 3 if mask in PER_CHANNEL else 1)
            eager = draw(mask, (8, 6, 3), seed=5, num_rows=num_rows)
            np.testing.assert_allclose(drawn, eager, atol=1e-6, err_msg=mask)


@pytest.mark.parametrize("mask", sorted(PER_CHANNEL))
def test_the_mixing_block_takes_masks_of_channels(mask):
    features = np.random.default_rng(0).normal(size=(4, 3, 6, 5, 8)).astype("float32")
    drawn = draw(mask, (6, 5, 8), num_members=3, num_rows=4)
    mixed = MixingBlock()(features, ops.convert_to_tensor(drawn))
    np.testing.assert_allclose(mixed, 3 * (features * drawn).sum(axis=1), atol=1e-5)


def test_an_unknown_mask_is_refused():
    with pytest.raises(ValueError, match=r"`mask` must be one of linear, cutmix, .*got 'cutout'"):
        masks.get("cutout")
    assert masks.get(masks.cow) is masks.cow is masks.MASKS["cow"]


# -- boxes ---------------------------------------------------------------------------------------------------------------


def numpy_box(row, column, share, height, width) -> np.ndarray:
    """The definition in loops: pixels at most ⌊side/2⌋ away, the far end excluded."""
    reach = [int(int(length * np.sqrt(share)) / 2) for length in (height, width)]
    mask = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            mask[i, j] = -reach[0] <= i - row < reach[0] and -reach[1] <= j - column < reach[1]
    return mask


def boxes(row, column, share, size) -> np.ndarray:
    arguments = [ops.convert_to_tensor(np.asarray(values, "float32")) for values in (row, column, share)]
    return ops.convert_to_numpy(masks.box(*arguments, size))[..., 0]


def test_a_box_worked_by_hand():
    # a quarter of 8×6: sides ⌊8/2⌋ = 4 and ⌊6/2⌋ = 3, so 2 rows and 1 column either way, the far ends excluded
    inside, corner = boxes([3, 0], [2, 5], [0.25, 0.25], (8, 6, 1))
    expected = np.zeros((8, 6))
    expected[1:5, 1:3] = 1
    np.testing.assert_array_equal(inside, expected)  # 8 of 48 positions where 12 were asked for
    expected = np.zeros((8, 6))
    expected[0:2, 4:6] = 1  # clipped at the top; to the right nothing is lost, column 6 was excluded anyway
    np.testing.assert_array_equal(corner, expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (32, 32)], ids=str)
def test_boxes_are_numpys(size):
    height, width = size
    generator = np.random.default_rng(0)
    row, column = generator.integers(height, size=200), generator.integers(width, size=200)
    share = np.concatenate([generator.uniform(size=190), [0, 1], (np.arange(8) / 8) ** 2])  # exact squares at the end
    expected = [numpy_box(*values, height, width) for values in zip(row, column, share, strict=True)]
    np.testing.assert_array_equal(boxes(row, column, share, (*size, 1)), expected)


@pytest.mark.parametrize("size", [(32, 32), (7, 5)], ids=str)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_cutmix_covers_what_clipped_boxes_cover(share, size):
    # all centres are equally likely: their areas are the whole distribution
    areas = [numpy_box(i, j, share, *size).mean() for i in range(size[0]) for j in range(size[1])]
    deviation = np.subtract(areas, np.mean(areas))
    drawn = draw_mask("cutmix", share, (*size, 1)).mean(axis=(1, 2, 3))
    assert_mean(drawn, np.mean(areas), np.std(areas))
    assert_variance(drawn, np.var(areas), np.mean(deviation**4))


# -- borders and channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "axis"), [("horizontal", 0), ("vertical", 1), ("channel_concat", 2)])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.85])
def test_concatenation_has_one_border_and_a_random_side(mask, axis, share):
    size = (12, 9, 11)
    drawn = draw_mask(mask, share, size)
    lines = np.moveaxis(np.broadcast_to(drawn, (ROWS, *size)), 1 + axis, 1).reshape(ROWS, size[axis], -1)
    assert (lines == lines[:, :, :1]).all()  # constant along the other axes
    lines = lines[:, :, 0]
    exact = share * size[axis]
    leading = np.arange(size[axis]) < np.floor(exact)
    trailing = np.arange(size[axis]) >= size[axis] - np.ceil(exact)
    is_leading = (lines == leading).all(axis=1)
    assert (is_leading | (lines == trailing).all(axis=1)).all()
    assert_mean(is_leading, 0.5, 0.5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_channels_are_on_as_often_as_a_binomial(share):
    drawn = draw_mask("channel", share, (2, 3, 16))
    assert (drawn == drawn[:, :1, :1]).all()
    counts = drawn[:, 0, 0].sum(axis=-1)
    mean, variance, kurtosis = map(float, stats.binom(16, share).stats("mvk"))
    assert_mean(counts, mean, np.sqrt(variance))
    assert_variance(counts, variance, (kurtosis + 3) * variance**2)
    assert_mean(drawn[:, 0, 0, 3], share, np.sqrt(share * (1 - share)))  # each of them, not only their number


# -- patches -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("size", "side"),
    [
        pytest.param((32, 32), 7, marks=pytest.mark.slow),
        *(((20, 15), 7), ((8, 8), 3), ((2, 3), 1), ((1, 1), 1)),
    ],
)
def test_patchup_covers_what_its_rate_covers(size, side, share):
    height, width = size
    assert masks.patch_side((*size, 64)) == side
    rate = share * height * width / (side**2 * (height - side + 1) * (width - side + 1))
    assert rate <= 1
    drawn = draw_mask("patchup", share, (*size, 1))[..., 0]
    # a position is covered if any of the side² positions around it is a seed; at multiples of the side these
    # neighbourhoods don't overlap, so the positions are independent
    reach = side // 2
    interior = drawn[:, reach : height - reach : side, reach : width - reach : side]
    covered = 1 - (1 - rate) ** (side**2)
    assert_mean(interior, covered, np.sqrt(covered * (1 - covered)))
    covered = 1 - (1 - rate) ** ((reach + 1) ** 2) if min(size) > reach else covered
    assert_mean(drawn[:, 0, 0], covered, np.sqrt(covered * (1 - covered)))  # the corner has fewer seeds around


def test_patches_are_unions_of_blocks_of_seven():
    drawn = draw_mask("patchup", np.full(64, 0.2))[..., 0]
    # blocks are clipped at the edges: repeating the edge pixels restores them
    padded = np.pad(drawn, ((0, 0), (3, 3), (3, 3)), mode="edge")
    for side, equal in [(7, True), (8, False)]:
        opened = ndimage.binary_opening(padded, np.ones((1, side, side)))  # the union of blocks that fit into the mask
        assert (opened == padded).all() == equal


def test_soft_patches_show_the_rest_by_its_share():
    share = np.linspace(0, 1, 64, dtype="float32")
    hard, soft = draw_mask("patchup", share), draw_mask("patchup_soft", share)
    np.testing.assert_allclose(soft, np.where(hard == 1, 1, share[:, None, None, None]), atol=1e-6)


# -- shapes cut out of noise ---------------------------------------------------------------------------------------------


def test_largest_chooses_the_largest():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(200, 5, 7)).astype("float32")
    values[:20] = 0  # all equal: any will do, but as many
    share = np.concatenate([[0, 1], generator.uniform(size=198)]).astype("float32")
    chosen = ops.convert_to_numpy(masks.largest(ops.convert_to_tensor(values), share, StepSeed(3)))[..., 0]
    count = chosen.sum(axis=(1, 2))
    exact = 35 * share.astype("float64")
    assert ((count == np.floor(exact)) | (count == np.floor(exact) + 1)).all()
    np.testing.assert_array_equal(count[:2], [0, 35])
    for row in range(20, 200):
        if 0 < count[row] < 35:
            assert values[row][chosen[row]].min() > values[row][~chosen[row]].max()


@pytest.mark.parametrize(("size", "share"), [((32, 32), 0.3), ((7, 5), 0.55), ((2, 3), 0.4), ((1, 1), 0.7)])
def test_fmix_covers_its_share(size, share):
    count = draw_mask("fmix", share, (*size, 1)).sum(axis=(1, 2, 3))
    floor, fraction = divmod(share * np.prod(size), 1)
    assert set(count) <= {floor, floor + 1}
    assert_mean(count, floor + fraction, np.sqrt(fraction * (1 - fraction)))


@pytest.mark.parametrize("size", [(32, 32), (7, 5), (2, 3)], ids=str)
def test_fmix_noise_decays_with_the_third_power_of_frequency(size):
    drawn = ops.convert_to_numpy(masks.fourier_noise(StepSeed(4), ROWS, (*size, 1))).astype("float64")
    power = np.mean(np.abs(np.fft.fft2(drawn, norm="ortho")) ** 2, axis=0)
    y, x = np.meshgrid(np.fft.fftfreq(size[0]), np.fft.fftfreq(size[1]), indexing="ij")
    frequency = np.sqrt(x**2 + y**2)
    expected = (np.maximum(frequency, 1 / max(size)) * max(size)) ** (-2 * 3)  # power is the amplitude's square
    # a coefficient's square is χ²: of one degree of freedom where the coefficient is real (variance 2), of two elsewhere
    np.testing.assert_allclose(power / expected, 1, atol=5 * np.sqrt(2 / ROWS))


@pytest.mark.parametrize("sigma", [4.0, 16.0])
def test_cow_noise_is_scipys_gaussian_filter(sigma):
    white = np.random.default_rng(0).normal(size=(2, 12, 31)).astype("float32")
    seed = Numbers((), ops.convert_to_tensor(white.ravel()))

    def blur(values, axis):
        """Scipy's filter, nothing outside of the map; divided by what it leaves of white noise's standard deviation."""
        options = dict(sigma=sigma, mode="constant", truncate=50.0)
        weights = ndimage.gaussian_filter1d(np.eye(values.shape[axis]), axis=1, **options)
        scale = np.linalg.norm(weights, axis=0)
        return ndimage.gaussian_filter1d(values, axis=axis, **options) / np.expand_dims(scale, 2 - axis)

    noise = masks.blurred_noise(seed, ops.full((2,), sigma, dtype="float32"), (12, 31, 1))
    np.testing.assert_allclose(ops.convert_to_numpy(noise), blur(blur(white.astype("float64"), 1), 2), atol=1e-4)


@pytest.mark.parametrize("sigma", [4.0, 16.0])
def test_cow_noise_is_as_smooth_as_its_sigma(sigma):
    size = 40
    noise = ops.convert_to_numpy(
        masks.blurred_noise(StepSeed(5), ops.full((ROWS,), sigma, dtype="float32"), (size, size, 1))
    ).astype("float64")
    kernel = [stats.norm.pdf(np.arange(size), centre, sigma) for centre in range(size)]
    kernel = np.array([line / np.linalg.norm(line) for line in kernel])
    for position, distance in [(20, 0), (16, 4), (16, 8), (0, 0), (0, 10)]:
        # white noise of variance 1 under two kernels correlates by their scalar product; the product of two normal
        # variables of correlation ρ has the mean ρ and the variance 1 + ρ²
        correlation = kernel[position] @ kernel[position + distance]
        if sigma == 4 and position == 16:  # far from the border: two Gaussians' scalar product, exp(−d²/4σ²)
            assert correlation == pytest.approx(np.exp(-(distance**2) / 64), abs=1e-3)
        along_height = noise[:, position, 20] * noise[:, position + distance, 20]
        along_width = noise[:, 20, position] * noise[:, 20, position + distance]
        assert_mean(along_height, correlation, np.sqrt(1 + correlation**2))
        assert_mean(along_width, correlation, np.sqrt(1 + correlation**2))


def test_cow_draws_its_share_and_its_blur(monkeypatch):
    sigmas = []
    blurred_noise = masks.blurred_noise

    def watched(seed, sigma, size):
        sigmas.append(ops.convert_to_numpy(sigma))
        return blurred_noise(seed, sigma, size)

    monkeypatch.setattr(masks, "blurred_noise", watched)
    share = draw_mask("cow", np.linspace(0, 1, ROWS)).mean(axis=(1, 2, 3))
    pixel = 1 / 32**2
    assert share.min() >= 0.2 - pixel
    assert share.max() <= 0.8 + pixel
    assert_mean(share, 0.5, np.sqrt(0.6**2 / 12 + pixel**2 / 4))
    assert_distribution(share, stats.uniform(0.2, 0.6).cdf, resolution=pixel)
    # no say for the share asked for: independent, the sample correlation has the variance 1/n
    assert abs(np.corrcoef(share, np.arange(ROWS))[0, 1]) <= 5 / np.sqrt(ROWS)
    assert_distribution(np.log(sigmas[0]), stats.uniform(np.log(4), np.log(16 / 4)).cdf, resolution=1e-6)


def test_cow_shapes_are_larger_than_fmix_shapes_and_both_than_noise():
    def borders(mask):
        """The share of neighbours that differ, at the shares that cow draws."""
        shares = np.random.default_rng(0).uniform(0.2, 0.8, 500)
        return np.mean(np.diff(draw_mask(mask, shares)[..., 0], axis=1) != 0)

    assert borders("cow") < borders("fmix") < 0.15


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_noise_is_uniform_around_its_share(share):
    drawn = draw_mask("noise", share, (4, 4, 1))
    reach = min(share, 1 - share)
    assert drawn.min() >= share - reach - 1e-6
    assert drawn.max() <= share + reach + 1e-6
    assert_mean(drawn, share, reach / np.sqrt(3))
    assert_distribution(drawn, stats.uniform(share - reach, 2 * reach).cdf, resolution=1e-6)


# -- ratios --------------------------------------------------------------------------------------------------------------


def sampled(num_members, alpha, num_rows=400_000) -> np.ndarray:
    return ops.convert_to_numpy(sample_ratios(StepSeed(11), num_rows, num_members, alpha)).astype("float64")


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0, 10.0])
def test_two_ratios_are_beta(alpha):
    ratios = sampled(2, alpha)
    np.testing.assert_allclose(ratios.sum(axis=1), 1, atol=1e-6)
    # the smaller of the two: near 0 a float has all its digits, near 1 it has none (α = 0.2 is often within 1e-8 of 1)
    assert_distribution(ratios.min(axis=1), lambda x: 2 * stats.beta(alpha, alpha).cdf(np.minimum(x, 0.5)))
    assert_mean(ratios[:, 0] < ratios[:, 1], 0.5, 0.5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0, 10.0])
def test_three_ratios_are_dirichlet(alpha):
    ratios = sampled(3, alpha)

    def moment(*powers):
        """E[Π κ_i^k_i] = Γ(3α)/Γ(3α + Σk) · Π Γ(α + k_i)/Γ(α)."""
        powers = np.asarray(powers)
        total = gammaln(3 * alpha) - gammaln(3 * alpha + powers.sum())
        return np.exp(total + np.sum(gammaln(alpha + powers) - gammaln(alpha)))

    for powers in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (3, 0, 0), (1, 1, 1), (2, 1, 0)]:
        for order in {tuple(np.roll(powers, shift)) for shift in range(3)}:
            product = np.prod(ratios ** np.asarray(order), axis=1)
            variance = moment(*2 * np.asarray(order)) - moment(*order) ** 2
            assert_mean(product, moment(*order), np.sqrt(variance))
    if alpha >= 1:  # below, ratios pile up at 1, where floats have few digits
        assert_distribution(ratios[:, 0], stats.beta(alpha, 2 * alpha).cdf)


def test_a_step_is_binary_with_probability_p_and_gives_the_first_role_to_anyone():
    choice = always("horizontal", probability=0.6)
    drawn = tiny.of_steps(lambda step: mixing.draw_masks(choice, StepSeed(1, step), 4, 3, (4, 4, 1)), 400)
    # on either side of a border somebody has nothing; linear masks give everybody something everywhere
    binary = [step_masks for step_masks in drawn if (step_masks == 0).any()]
    assert_mean(np.arange(400) < len(binary), 0.6, np.sqrt(0.6 * 0.4))
    # the first role's masks have zeros and ones only, the others' are in between
    between = [np.abs(step_masks - np.round(step_masks)).max(axis=(0, 2, 3, 4)) for step_masks in binary]
    first = np.argmin(between, axis=1)
    for member in range(3):
        assert_mean(first == member, 1 / 3, np.sqrt(2) / 3)
