"""What is known to hold, and what is known not to."""

import pytest
import torch
from torch import nn

import aea_kernels as aea
from aea_kernels.testing import (
    UnmeasurableError,
    Verdict,
    assert_equivariant,
    assert_invariant,
    averaged_kernels,
    batch_order,
    batch_order_of,
    d4,
    equivariance_error,
    equivariance_report,
    flips,
    legal_sizes,
    permutations,
    permutations_of_patches,
    rotations,
    translations,
)

NORMS = ["batch", "group", "layer", "rms", None]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("spatial", [(23,), (6, 7), (3, 4, 5)])
def test_the_attention_block_is_permutation_equivariant(norm, training, spatial):
    block = aea.AugmentedAttention(32, norm=norm, groups=4).train(training)
    errors = assert_equivariant(block, torch.randn(4, 32, *spatial), permutations)
    assert errors.verdict is Verdict.ROUNDING
    assert errors.error < 1e-13


@pytest.mark.parametrize("norm", NORMS)
def test_in_evaluation_the_block_does_not_see_the_order_of_the_batch(norm):
    assert_equivariant(
        aea.AugmentedAttention(8, norm=norm, groups=4).eval(), torch.randn(6, 8, 5, 5), batch_order
    )


class TestTrainingAsInSection51:
    """The first half of the batch attends to itself and the references, the other half to one
    another.
    """

    block = staticmethod(lambda: aea.AugmentedAttention(8).train())

    @pytest.mark.parametrize("half", [(0, 1, 2), (3, 4, 5)])
    def test_order_within_a_half_changes_nothing(self, half):
        assert_equivariant(self.block(), torch.randn(6, 8, 5, 5), batch_order_of(*half))

    def test_order_across_the_halves_does(self):
        assert (
            equivariance_error(self.block(), torch.randn(6, 8, 5, 5), batch_order_of(2, 3)).verdict
            == "broken"
        )

    def test_unless_it_is_not_batch_aware(self):
        block = aea.AugmentedAttention(8, batch_aware=False).train()
        assert_equivariant(block, torch.randn(6, 8, 5, 5), batch_order)


class LearnedQuery(nn.Module):
    """(N, C, *spatial) -> (N, 2, 7, 4) by attention with a query that does not come from x."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(2, 7, 4))
        self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        z = x.flatten(2).transpose(1, 2)
        key, value = (
            layer(z).unflatten(2, (2, 4)).transpose(1, 2) for layer in (self.key, self.value)
        )
        return aea.learned_query_attention(self.query, key, value)


def test_learned_query_attention_is_invariant():
    for group in (permutations, d4, translations(1, circular=True)):
        assert_invariant(LearnedQuery(), torch.randn(2, 8, 6, 7), group)
    assert_equivariant(LearnedQuery(), torch.randn(3, 8, 6, 7), batch_order, positions=[-2, -1])


class TestConvolution:
    def test_zero_padding_is_translation_equivariant_in_the_interior(self):
        assert assert_equivariant(
            nn.Conv2d(2, 3, 3, padding=1), torch.randn(1, 2, 12, 12), translations(2)
        ).verdict.holds

    def test_and_only_there(self):
        with pytest.raises(AssertionError, match="its padding"):
            assert_equivariant(
                nn.Conv2d(2, 3, 3, padding=1),
                torch.randn(1, 2, 32, 32),
                translations(1, circular=True),
            )

    def test_the_interior_is_no_smaller_than_it_must_be(self):
        convolution = nn.Conv1d(1, 1, 5, padding=2)
        assert equivariance_error(
            convolution, torch.randn(1, 1, 20), translations(1), margin=2
        ).verdict.holds
        assert (
            equivariance_error(
                convolution, torch.randn(1, 1, 20), translations(1), margin=1
            ).verdict
            == "broken"
        )

    def test_circular_padding_is_so_everywhere(self):
        convolution = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
        assert_equivariant(convolution, torch.randn(1, 2, 8, 8), translations(1, circular=True))

    def test_an_image_without_interior_is_told(self):
        with pytest.raises(UnmeasurableError, match="take a larger image"):
            assert_equivariant(
                nn.Conv2d(2, 3, 7, padding=3), torch.randn(1, 2, 6, 6), translations(1)
            )

    def test_its_kernel_decides_over_rotations(self):
        with pytest.raises(
            AssertionError, match=r"its kernel is not symmetric under the rotation by 90 degrees"
        ):
            assert_equivariant(nn.Conv2d(2, 3, 3, padding=1), torch.randn(1, 2, 9, 9), rotations)
        assert_equivariant(
            averaged_kernels(nn.Conv2d(2, 3, 3, padding=1), d4), torch.randn(1, 2, 9, 9), d4
        )


def test_max_pooling_of_stride_2_breaks_odd_translations():
    x = torch.randn(1, 2, 16, 16)
    assert_equivariant(nn.MaxPool2d(2), x, translations(2))
    assert_equivariant(nn.MaxPool2d(2), x, translations(4, circular=True))
    with pytest.raises(AssertionError, match="no whole number of positions after a stride of 2"):
        assert_equivariant(nn.MaxPool2d(2), x, translations(1))
    up = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2))
    assert_equivariant(up, x, translations(2))
    assert equivariance_error(up, x, translations(1)).verdict == "broken"
    assert [
        layer.name
        for layer in equivariance_report(up, x, translations(1)).culprits(translations(1))
    ] == ["0"]


class UNet(nn.Module):
    """One level: convolution, stride 2, and back by a transposed convolution, with a skip
    connection.
    """

    def __init__(self, kernel=3):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, kernel, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, kernel, stride=2, padding=1)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        skip = self.first(x).relu()
        return self.last(torch.cat([self.up(self.down(skip).relu()), skip], dim=1))


class TestUNet:
    def test_odd_sizes_are_legal_for_kernels_of_3(self):
        found = legal_sizes(UNet(), torch.randn(1, 1, 9, 9), d4, range(5, 14))
        assert found.legal == [5, 7, 9, 11, 13]
        assert found.rule == "2 k + 1"
        assert found.verdicts[6] is Verdict.UNMEASURED

    def test_even_sizes_are_legal_for_kernels_of_4(self):
        found = legal_sizes(UNet(kernel=4), torch.randn(1, 1, 9, 9), flips, range(4, 13))
        assert found.legal == [4, 6, 8, 10, 12]

    def test_the_strided_layer_breaks_it_at_an_illegal_size(self):
        network = averaged_kernels(
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1)), d4
        )
        assert not equivariance_report(network, torch.randn(1, 1, 9, 9), d4).culprits(d4)
        (layer,) = equivariance_report(network, torch.randn(1, 1, 8, 8), d4).culprits(d4)
        assert layer.name == "1"
        assert "stride (2, 2)" in layer.cause

    def test_translations_by_its_stride(self):
        x = torch.randn(1, 1, 40, 40)
        assert_equivariant(UNet(kernel=4), x, translations(2))
        with pytest.raises(AssertionError, match="the layer 'down'"):
            assert_equivariant(UNet(kernel=4), x, translations(1))


class Patches(nn.Module):
    """(N, 1, H, W) -> (N, L, 8), patches of 4 positions a side through a transformer encoder."""

    def __init__(self, encoding, batch_first=True):
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, stride=4)
        self.position = Position() if encoding else nn.Identity()
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        z = self.position(self.embed(x).flatten(2).transpose(1, 2))
        if self.batch_first:
            return self.encoder(z)
        return self.encoder(z.transpose(0, 1)).transpose(0, 1)


class Position(nn.Module):
    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(0.02 * torch.randn(16, 8))

    def forward(self, x):
        return x + self.code


class TestPositionalEncoding:
    group = permutations_of_patches(4)

    @pytest.mark.parametrize("batch_first", [True, False])
    def test_without_one_patches_may_be_permuted(self, batch_first):
        network = Patches(False, batch_first).eval()
        report = equivariance_report(network, torch.randn(2, 1, 16, 16), self.group)
        assert not report.culprits(self.group)
        assert report.layer(self.group, "").accumulated.verdict is Verdict.ROUNDING
        assert report.layer(self.group, "encoder.layers.1.self_attn").own.verdict.holds
        assert_equivariant(network, torch.randn(2, 1, 16, 16), self.group)

    def test_with_one_it_is_broken_at_exactly_its_layer(self):
        report = equivariance_report(Patches(True).eval(), torch.randn(2, 1, 16, 16), self.group)
        assert [layer.name for layer in report.culprits(self.group)] == ["position"]
        assert report.layer(self.group, "embed").accumulated.verdict.holds
        assert report.layer(self.group, "encoder.layers.0.norm1").accumulated.verdict == "broken"


class WrittenOut(nn.Module):
    """Attention of patches whose softmax is a layer: scores of 16 tokens are also a map of the
    image's size.
    """

    def __init__(self):
        super().__init__()
        self.patch, self.softmax = nn.Conv2d(3, 8, 4, 4), nn.Softmax(-1)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        y = self.patch(x)
        tokens = y.flatten(2).mT
        q, k, v = (
            layer(tokens).unflatten(2, (2, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = self.softmax(q @ k.mT) @ v
        return attended.mT.flatten(1, 2).unflatten(2, y.shape[2:])


def test_scores_of_as_many_tokens_as_the_image_has_rows_are_scores():
    """The softmax alone also commutes with shifts of its scores as a map."""
    group = translations(4, circular=True)
    network = WrittenOut().eval()
    report = equivariance_report(network, torch.randn(2, 3, 16, 16), group)
    assert not report.culprits(group)
    assert report.layer(group, "softmax").accumulated.verdict.holds
    assert report.layer(group, "softmax").own.acts == {"": "pairs of tokens"}


def test_a_map_of_two_by_two_is_a_map():
    """Of an image of 32 x 32 it is also as large as the scores of one token and a class token."""
    network = nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(1, 3, 3, padding=1)).eval()
    report = equivariance_report(network, torch.rand(1, 1, 32, 32), d4)
    assert [layer.name for layer in report.culprits(d4)] == ["1"]


def test_every_layer_of_aeanet_is_named():
    network = pytest.importorskip("aeanet").build_model("aeanet").eval()
    x = torch.rand(1, 1, 32, 32)
    report = equivariance_report(network, x, [d4, permutations, translations(4)])

    # every convolution, and those with a neighbourhood break rotations and permutations
    named = [layer.name for layer in report.layers[d4.name]]
    assert {
        n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    } <= set(named)
    kernels = {
        n
        for n, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.kernel_size > (1, 1)
    }
    assert {layer.name for layer in report.culprits(d4)} == kernels
    assert {layer.name for layer in report.culprits(permutations)} == kernels
    assert not report.culprits(translations(4))

    # the attention breaks nothing; without the kernels' asymmetry two strides are left
    for group in report.layers:
        assert report.layer(group, "bottom").own.verdict is Verdict.ROUNDING
    geometry = equivariance_report(averaged_kernels(network, d4), x, d4)
    assert [layer.name for layer in geometry.culprits(d4)] == ["down1", "down2"]
