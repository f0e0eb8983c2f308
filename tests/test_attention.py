"""Attention maps against autograd, in float64, over random networks, sizes and heads."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from conftest import thin_networks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.activations import Activation, Encoder, activate, activate_layers, local_latents
from models.attention import (
    PER_LATENT,
    SHRINKAGE,
    SumOptions,
    anomaly_maps_of_layers,
    latent_attention_maps,
    latent_deviation,
)
from models.config import EXACT, SUMMED, Attention, ConvVAEConfig, VAEConfig
from models.conv import ConvEncoder
from models.gradients import Weighting, shared_signed_maps, signed_maps, sum_weights
from models.resnet import ResNet18Encoder
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics
from models.vae import PooledHead, Posterior

LATENTS = 3
KINDS = ["gap", "flatten", "fpn", "conv"]


@pytest.fixture(scope="module", autouse=True)
def thin_encoders() -> Iterator[None]:
    """No formula knows how many channels there are."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        thin_networks(monkeypatch)
        yield


def make_encoder(kind: str, seed: int, size: int = 32) -> Encoder:
    """Make a random encoder in float64 and eval mode, with random statistics of batch norms."""
    torch.manual_seed(seed)
    encoder: nn.Module
    if kind == "conv":
        config = ConvVAEConfig(image_size=size, channels=(4, 6), hidden=8, latent_dim=LATENTS)
        encoder = ConvEncoder(config)
    else:
        head, neck = ("gap", "fpn") if kind == "fpn" else (kind, "none")
        encoder = ResNet18Encoder(
            VAEConfig(image_size=size, latent_dim=LATENTS, head=head, neck=neck, neck_channels=8)
        )
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    nn.init.normal_(encoder.logvar.weight, std=0.1)
    return encoder.double().eval()


def draw_images(kind: str, count: int, size: int = 32) -> Tensor:
    """Draw noise in [0, 1]."""
    return torch.rand(count, 1 if kind == "conv" else 3, size, size, dtype=torch.float64)


def draw_statistics(encoder: Encoder, images: Tensor, layer: str) -> AttentionStatistics:
    """Draw random statistics; local ones of a pooled layer."""
    latent = LatentStatistics(torch.randn(LATENTS).double(), torch.rand(LATENTS).double() + 0.1)
    if not isinstance(encoder.closed_head(layer), PooledHead):
        return AttentionStatistics(latent)
    activation = activate(encoder, images, layer)
    return AttentionStatistics(latent, draw_local(local_latents(activation)))


def draw_local(latents: Tensor) -> LocalStatistics:
    """Draw random statistics for local latents (B, D, h, w)."""
    shape = latents.shape[1:]
    return LocalStatistics(
        torch.randn(shape).double(),
        torch.rand(shape).double() + 0.1,
        torch.randn(LATENTS).double(),
        torch.rand(LATENTS).double() + 0.1,
        torch.randn(*shape[1:], LATENTS, LATENTS).double(),
    )


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Divide the norm of the difference by the norm of the reference."""
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))


def naive_gradient(
    encoder: Encoder, image: Tensor, layer: str, latent: int
) -> tuple[Tensor, Tensor]:
    """Compute activation and gradient (K, h, w) of one latent of one image by one backward pass."""
    stages = [stage.detach() for stage in encoder.features(image[None], layer)]
    stages[-1].requires_grad_()
    encoder.posterior(stages, layer).mu[0, latent].backward()
    return stages[-1].detach()[0], stages[-1].grad[0]


NAIVE: dict[Weighting, Callable[[Tensor, Tensor], Tensor]] = {
    Weighting.MEAN: lambda a, g: (g.mean(dim=(1, 2), keepdim=True) * a).sum(0),
    Weighting.POSITIVE_MEAN: lambda a, g: (g.clamp_min(0).mean(dim=(1, 2), keepdim=True) * a).sum(
        0
    ),
    Weighting.LOCAL: lambda a, g: (g * a).sum(0),
    Weighting.POSITIVE_LOCAL: lambda a, g: (g.clamp_min(0) * a).sum(0),
}


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([32, 64]),
    place=st.integers(0, 4),
)
def test_signed_maps_equal_one_backward_per_latent(
    kind: str, seed: int, size: int, place: int
) -> None:
    """Closed forms and vector-Jacobian products give the naive loop's maps to 1e-10."""
    encoder = make_encoder(kind, seed, size)
    layer = encoder.layers[-1 - place % len(encoder.layers)]
    images = draw_images(kind, 2, size)
    maps = signed_maps(activate(encoder, images, layer), list(Weighting))
    for row, image in enumerate(images):
        for latent in range(LATENTS):
            features, gradient = naive_gradient(encoder, image, layer, latent)
            for weighting in Weighting:
                naive = NAIVE[weighting](features, gradient)
                assert relative_error(maps[weighting][row, latent], naive) < 1e-10, weighting


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_one_pass_have_the_maps_that_each_has_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take one vector-Jacobian product per latent, and none where a closed form exists."""
    encoder = make_encoder(kind, 2)
    images = draw_images(kind, 2)
    alone = {
        layer: signed_maps(activate(encoder, images, layer), list(Weighting))
        for layer in encoder.layers
    }
    products = []
    gradient = torch.autograd.grad

    def counted(*arguments: object, **options: object) -> tuple[Tensor, ...]:
        products.append(arguments)
        return gradient(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("torch.autograd.grad", counted)
    for layers in (encoder.layers[::-1], encoder.layers[:-1], encoder.layers[-2:]):
        found = activate_layers(encoder, images, layers)
        assert list(found) == [layer for layer in encoder.layers if layer in layers]
        shared = shared_signed_maps([(found[layer], list(Weighting)) for layer in found])
        for layer, maps in zip(found, shared, strict=True):
            for weighting in Weighting:
                torch.testing.assert_close(maps[weighting], alone[layer][weighting])
        assert len(products) == LATENTS, layers
        products.clear()
    last = activate_layers(encoder, images, encoder.layers[-1:])
    shared_signed_maps([(activation, [Weighting.MEAN]) for activation in last.values()])
    assert not products


EVERYWHERE = [
    (kind, attention, place)
    for kind in KINDS
    for attention in Attention
    for place in (-1, 0)
    if attention not in EXACT or (kind in {"gap", "fpn"} and place == -1)
]


@pytest.mark.parametrize(("kind", "attention", "place"), EVERYWHERE)
def test_map_of_a_batch_is_the_map_of_each_image(
    kind: str, attention: Attention, place: int
) -> None:
    """To 1e-6, for every definition, at the first and at the last layer."""
    encoder = make_encoder(kind, 5)
    layer = encoder.layers[place]
    assert attention not in EXACT or isinstance(encoder.closed_head(layer), PooledHead)
    images = draw_images(kind, 3)
    statistics = draw_statistics(encoder, images, layer)

    def compute(batch: Tensor) -> Tensor:
        activation = activate(encoder, batch, layer)
        (maps,) = anomaly_maps_of_layers([(activation, [attention])], statistics, (32, 32))
        return maps[attention]

    together = compute(images)
    assert together.shape == (3, 32, 32)
    assert together.max() > 0
    assert together.min() >= 0
    for image, from_batch in zip(images, together, strict=True):
        torch.testing.assert_close(from_batch, compute(image[None])[0], atol=1e-6, rtol=1e-6)


def reference_map(
    attention: Attention, signed: dict[Weighting, Tensor], deviation: Tensor
) -> Tensor:
    """Compute a definition as in the table of `models.attention`, from signed maps (D, h, w)."""
    mean = signed[Weighting.MEAN]
    return {
        Attention.GRADCAM: lambda: F.relu(mean).mean(0),
        Attention.PAPER: lambda: F.relu(signed[Weighting.POSITIVE_MEAN]).mean(0),
        Attention.HIRES: lambda: F.relu(signed[Weighting.LOCAL]).mean(0),
        Attention.LAYERCAM: lambda: F.relu(signed[Weighting.POSITIVE_LOCAL]).mean(0),
        Attention.DIFF_MAHAL: lambda: F.relu(deviation[:, None, None] * mean).mean(0),
        Attention.OFFICIAL: lambda: mean.sum(0).abs(),
        Attention.DIFF_SAMPLE: lambda: F.relu(-mean.sum(0)),
    }[attention]()


@pytest.mark.parametrize("kind", KINDS)
def test_definitions_follow_their_formulas(kind: str) -> None:
    """Each against the table, from naive gradients, at the layer's own resolution."""
    encoder = make_encoder(kind, 2, 64)
    images = draw_images(kind, 1, 64)
    for layer in encoder.layers:
        statistics = draw_statistics(encoder, images, layer)
        activation = activate(encoder, images, layer)
        naive = [naive_gradient(encoder, images[0], layer, latent) for latent in range(LATENTS)]
        signed = {w: torch.stack([NAIVE[w](a, g) for a, g in naive]) for w in Weighting}
        deviation = latent_deviation(encoder(images), statistics.latent)[0].detach()
        size = tuple(activation.features.shape[2:])
        wanted = [(activation, [*PER_LATENT, *SUMMED])]
        (maps,) = anomaly_maps_of_layers(wanted, statistics, size)
        for attention, ours in maps.items():
            theirs = reference_map(attention, signed, deviation)
            assert relative_error(ours[0], theirs) < 1e-10, (layer, attention)


def test_official_takes_the_absolute_value_after_upsampling() -> None:
    """+1 beside -1 gives 0 between them; before upsampling it would give 1."""
    features = torch.tensor([[[[1.0, -1.0]]]], requires_grad=True)
    mu = features.mean(dim=(2, 3))
    activation = Activation(features, Posterior(mu, torch.zeros(1, 1)), None)
    statistics = AttentionStatistics(LatentStatistics(torch.zeros(1), torch.ones(1)))
    wanted = [(activation, [Attention.OFFICIAL])]
    (maps,) = anomaly_maps_of_layers(wanted, statistics, (1, 3))
    torch.testing.assert_close(maps[Attention.OFFICIAL], torch.tensor([[[0.5, 0.0, 0.5]]]))


@pytest.mark.parametrize("kind", ["gap", "fpn"])
def test_exact_maps_add_up_to_the_latent(kind: str) -> None:
    """Completeness: the mean of the contributions of all positions is mu."""
    encoder = make_encoder(kind, 3, 64)
    activation = activate(encoder, draw_images(kind, 2, 64), encoder.layers[-1])
    contributions = local_latents(activation)
    assert contributions.shape[2:] == ((16, 16) if kind == "fpn" else (2, 2))
    torch.testing.assert_close(
        contributions.mean(dim=(2, 3)), activation.posterior.mu, atol=1e-12, rtol=0
    )


def rotated(local: LocalStatistics, z: Tensor) -> Tensor:
    """T(p) (z(p) - E z(p)), (B, D, h, w)."""
    return (local.whitening @ (z - local.mean).permute(2, 3, 1, 0)).permute(3, 2, 0, 1)


@pytest.mark.parametrize("attention", sorted(EXACT))
def test_exact_is_the_squared_deviation_in_units_of_normal(attention: Attention) -> None:
    """(z - E z)^2 / Var z, pooled, or per position with 5% of the pooled variance added.

    With covariances, of the decorrelated deviation.
    """
    encoder = make_encoder("gap", 4, 64)
    images = draw_images("gap", 2, 64)
    statistics = draw_statistics(encoder, images, "layer4")
    activation = activate(encoder, images, "layer4")
    local, z = statistics.local, local_latents(activation)
    pooled = local.pooled_variance.view(LATENTS, 1, 1)
    if attention is Attention.EXACT_COVARIANCE:
        expected = rotated(local, z).square()
    elif attention is Attention.EXACT:
        expected = (z - local.pooled_mean.view(LATENTS, 1, 1)) ** 2 / pooled
    else:
        expected = (z - local.mean) ** 2 / (local.variance + SHRINKAGE * pooled)
    torch.testing.assert_close(latent_attention_maps(activation, attention, statistics), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", Weighting)
def test_closed_form_trains_like_double_backward(kind: str, weighting: Weighting) -> None:
    """Parameter gradients of a loss on the maps are those of double backward, to 1e-10."""
    encoder = make_encoder(kind, 5)
    images = draw_images(kind, 2)
    layer = encoder.layers[-1]
    parameters = [p for name, p in encoder.named_parameters() if not name.startswith("logvar")]
    gradients = []
    for is_closed in (True, False):
        activation = activate(encoder, images, layer, create_graph=True)
        if not is_closed:
            activation = activation._replace(head=None)
        maps = F.relu(signed_maps(activation, [weighting], create_graph=True)[weighting])
        loss = (maps[:, 0] * maps[:, 1]).sum() + maps.square().sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    is_unused = [gradient is None for gradient in gradients[0]]
    assert not all(is_unused)
    for closed, double in zip(*gradients, strict=True):
        if closed is None or double is None:
            continue  # a bias above the activation: the maps do not depend on it
        assert relative_error(closed, double) < 1e-10


def test_maps_carry_gradients_only_where_asked() -> None:
    encoder = make_encoder("gap", 6)
    images = draw_images("gap", 1, 64)
    statistics = draw_statistics(encoder, images, "layer4")
    for create_graph in (False, True):
        activation = activate(encoder, images, "layer4", create_graph=create_graph)
        for attention in (*PER_LATENT, *EXACT):
            maps = latent_attention_maps(
                activation, attention, statistics, create_graph=create_graph
            )
            assert maps.requires_grad == create_graph, attention


def test_gradients_are_divided_by_their_root_mean_square() -> None:
    """Per image a scale of the score drops out; over the batch the other images matter."""
    encoder = make_encoder("conv", 7)
    images = draw_images("conv", 2)
    layer = encoder.layers[0]
    activation = activate(encoder, images, layer)
    (gradient,) = torch.autograd.grad(
        activation.posterior.mu.sum(), activation.features, retain_graph=True
    )

    def total(posterior: Posterior) -> Tensor:
        return posterior.mu.sum()

    for norm, over in (("sample", (1, 2, 3)), ("batch", (0, 1, 2, 3))):
        rms = gradient.square().mean(over, keepdim=True).sqrt() + 1e-5
        expected = (gradient / rms).mean(dim=(2, 3))
        torch.testing.assert_close(sum_weights(activation, total, norm), expected)
    alone = activate(encoder, images[:1], layer)
    sample, batch = (sum_weights(activation, total, norm)[:1] for norm in ("sample", "batch"))
    torch.testing.assert_close(sum_weights(alone, total, "sample"), sample)
    assert relative_error(sum_weights(alone, total, "batch"), batch) > 1e-3


def test_equation_5_does_not_depend_on_the_normal_mean() -> None:
    """A score linear in the sampled code: m drops out of its gradient, whatever it is."""
    encoder = make_encoder("conv", 8)
    activation = activate(encoder, draw_images("conv", 2), encoder.layers[0])
    wanted = [(activation, [Attention.DIFF_SAMPLE])]
    maps = []
    for mean in (0.0, 7.0):
        latent = LatentStatistics(torch.full((3,), mean).double(), torch.ones(3).double())
        statistics = AttentionStatistics(latent)
        options = SumOptions(samples=4, generator=torch.Generator().manual_seed(0))
        (found,) = anomaly_maps_of_layers(wanted, statistics, (16, 16), options=options)
        maps.append(found[Attention.DIFF_SAMPLE])
    assert torch.equal(maps[0], maps[1])
    assert maps[0].max() > 0
    other = SumOptions(samples=4, generator=torch.Generator().manual_seed(1))
    (found,) = anomaly_maps_of_layers(wanted, statistics, (16, 16), options=other)
    assert not torch.equal(found[Attention.DIFF_SAMPLE], maps[0])


def test_deviation_is_the_slope_of_the_squared_distance() -> None:
    """d_i = d/dmu of (mu - m)^2 / (2 (v + sigma^2)): (3 - 1) / (3 + 1) = 0.5."""
    posterior = Posterior(torch.tensor([[3.0]]), torch.tensor([[0.0]]))
    statistics = LatentStatistics(torch.tensor([1.0]), torch.tensor([3.0]))
    torch.testing.assert_close(latent_deviation(posterior, statistics), torch.tensor([[0.5]]))


def test_diff_mahal_is_the_attention_of_the_distance() -> None:
    """Grad-CAM of s_i = (mu_i - m_i)^2 / (2 (v_i + sigma_i^2)), denominator held fixed."""
    encoder = make_encoder("gap", 9, 64)
    image = draw_images("gap", 1, 64)
    statistics = draw_statistics(encoder, image, "layer3")
    stages = [stage.detach() for stage in encoder.features(image, "layer3")]
    stages[-1].requires_grad_()
    posterior = encoder.posterior(stages, "layer3")
    variance = (statistics.latent.variance + posterior.logvar.exp()).detach()
    distance = (posterior.mu - statistics.latent.mean).square() / (2 * variance)
    naive = []
    for latent in range(LATENTS):
        (gradient,) = torch.autograd.grad(distance[0, latent], stages[-1], retain_graph=True)
        naive.append(F.relu(NAIVE[Weighting.MEAN](stages[-1].detach()[0], gradient[0])))
    activation = activate(encoder, image, "layer3")
    ours = latent_attention_maps(activation, Attention.DIFF_MAHAL, statistics)[0]
    assert relative_error(ours, torch.stack(naive)) < 1e-10


def test_diff_mahal_of_an_image_on_the_normal_mean_is_zero() -> None:
    """An image whose latents lie on the mean of the normal ones has an empty map."""
    encoder = make_encoder("gap", 10)
    image = draw_images("gap", 1)
    activation = activate(encoder, image, "layer4")
    latent = LatentStatistics(activation.posterior.mu[0].detach(), torch.ones(LATENTS).double())
    maps = latent_attention_maps(activation, Attention.DIFF_MAHAL, AttentionStatistics(latent))
    assert maps.abs().max() == 0


def test_maps_that_do_not_exist_are_refused() -> None:
    encoder = make_encoder("flatten", 11)
    images = draw_images("flatten", 1)
    statistics = draw_statistics(encoder, images, "layer4")
    activation = activate(encoder, images, "layer4")
    with pytest.raises(ValueError, match="global average"):
        latent_attention_maps(activation, Attention.EXACT, statistics)
    with pytest.raises(ValueError, match="no map for each latent"):
        latent_attention_maps(activation, Attention.OFFICIAL, statistics)
    pooled = activate(make_encoder("gap", 0), images, "layer4")
    with pytest.raises(ValueError, match="statistics of local latents"):
        latent_attention_maps(pooled, Attention.EXACT, statistics)
    ones = torch.ones(LATENTS).double()
    bare = statistics._replace(local=LocalStatistics(ones, ones, ones, ones, None))
    with pytest.raises(ValueError, match="needs the covariances of local latents"):
        latent_attention_maps(pooled, Attention.EXACT_COVARIANCE, bare)
    with pytest.raises(ValueError, match="eval mode"):
        activate(make_encoder("gap", 0).train(), images, "layer4")


@pytest.mark.parametrize("kind", KINDS)
def test_attention_leaves_the_model_as_it_was(kind: str) -> None:
    """No gradient is left on a parameter, and the weights do not move."""
    encoder = make_encoder(kind, 12)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for layer in encoder.layers:
        signed_maps(activate(encoder, draw_images(kind, 2), layer), list(Weighting))
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
