"""Random numbers without state: distributions, independence, and that nothing but the key matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from opsin.ops import random

N = 20_000
INDEX = torch.arange(N)
MASK = (1 << 64) - 1


def mix64(z: int) -> int:
    """splitmix64's finalizer in Python's unbounded integers, from the published constants."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_bits_equal_splitmix64_in_unbounded_integers():
    got = random.bits(3, 5, torch.tensor([0, 1, 7, 2**40]), "s", 3)
    key = random._key(3, 5, "s") & MASK
    golden = 0x9E3779B97F4A7C15
    for row, sample in enumerate([0, 1, 7, 2**40]):
        state = mix64((key + sample * golden) & MASK)
        for column in range(3):
            expected = mix64((state + (column + 1) * golden) & MASK)
            assert int(got[row, column]) & MASK == expected


def test_finalizer_gives_the_published_first_number_of_splitmix64_with_seed_zero():
    first = random._mix(torch.tensor([random.GOLDEN]))
    assert int(first) & MASK == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_uniform_numbers_pass_kolmogorov_smirnov(seed):
    numbers = random.uniform(seed, 4, INDEX, "u")[:, 0].double().numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert abs(numbers.mean() - 0.5) < 4 * np.sqrt(1 / 12 / N)


def test_uniform_numbers_of_one_sample_over_epochs_and_counters_pass_too():
    one = torch.tensor([17])
    over_epochs = torch.cat([random.uniform(0, epoch, one, "u") for epoch in range(3000)])[:, 0]
    over_counters = random.uniform(0, 0, one, "u", N)[0]
    assert stats.kstest(over_epochs.numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(over_counters.numpy(), "uniform").pvalue > 1e-3


def test_normal_numbers_pass_kolmogorov_smirnov():
    numbers = random.normal(0, 0, INDEX, "n", 2).double().numpy()
    for column in numbers.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.1), (0.2, 0.2), (1.0, 1.0), (2.0, 5.0), (0.5, 3.0), (20.0, 20.0)])
def test_beta_numbers_pass_kolmogorov_smirnov(a, b):
    # Each half apart, and the upper half as its distance from 1: float32 rounds what is nearer to 1 than 6e-8.
    for first, second in ((a, b), (b, a)):
        exact = stats.beta(first, second)
        numbers = random.beta(1, 2, INDEX, "b", first, second).double().numpy()
        below = numbers[numbers < 0.5]
        share = exact.cdf(0.5)
        assert stats.kstest(below, lambda x, exact=exact, share=share: exact.cdf(x) / share).pvalue > 1e-3
        assert stats.binomtest(len(below), N, share).pvalue > 1e-3
        assert abs(numbers.mean() - first / (first + second)) < 4 * exact.std() / np.sqrt(N)


def test_integers_are_even_over_their_range():
    numbers = random.integers(0, 1, INDEX, "i", 7)[:, 0]
    counts = np.bincount(numbers.numpy(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "other", [(0, 0, "b"), (0, 1, "a"), (1, 0, "a"), (10, 0, "a")], ids=["stream", "epoch", "seed", "seed10"]
)
def test_streams_epochs_and_seeds_are_independent(other):
    x = random.uniform(0, 0, INDEX, "a")[:, 0].double()
    seed, epoch, stream = other
    y = random.uniform(seed, epoch, INDEX, stream)[:, 0].double()
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(N)
    table = np.histogram2d(x, y, bins=8)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_neighbouring_samples_are_independent():
    x = random.uniform(0, 0, INDEX, "a")[:, 0].double()
    for lag in (1, 2, 8):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 4 / np.sqrt(N)


def test_numbers_do_not_depend_on_the_rest_of_the_batch_or_on_the_count():
    whole = random.beta(0, 0, INDEX, "b", 0.2, 0.2)
    some = torch.tensor([5, 19_999, 3])
    assert torch.equal(random.beta(0, 0, some, "b", 0.2, 0.2), whole[some])
    assert torch.equal(random.uniform(0, 0, some, "u", 2), random.uniform(0, 0, INDEX, "u", 5)[some, :2])


def test_streams_drawn_together_equal_streams_drawn_apart():
    together = random.uniform_of_streams(2, 3, INDEX[:100], ("a", "b"))
    apart = [random.uniform(2, 3, INDEX[:100], stream)[:, 0] for stream in ("a", "b")]
    assert torch.equal(together, torch.stack(apart))


def test_a_permutation_has_every_number_once_and_differs_by_seed_and_epoch():
    orders = [random.permutation(1000, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0)]]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(orders[0], random.permutation(1000, 0, 0))
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        assert int((orders[i] == orders[j]).sum()) < 10


def test_every_permutation_of_four_is_equally_likely():
    codes = [tuple(random.permutation(4, seed, 0).tolist()) for seed in range(4800)]
    counts = [codes.count(code) for code in set(codes)]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
