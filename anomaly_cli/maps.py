"""Anomaly maps by name: every definition of attention, the baselines, and what is fused of them."""

from collections.abc import Iterable
from typing import NamedTuple

from anomaly_cli.config.names import APPEARANCE, BASELINES, CONTEXT, FUSED, RECONSTRUCTION
from anomaly_cli.errors import ConfigError
from models.config import EXACT, SUMMED, Attention, Layer, OneClassConfig

FUSED_POSITION = f"{FUSED}_position"
FUSED_COVARIANCE = f"{FUSED}_covariance"
FUSED_SCALES = f"{FUSED}_scales"
ATTENTION_PART = {
    FUSED: Attention.EXACT,
    FUSED_POSITION: Attention.EXACT_POSITION,
    FUSED_COVARIANCE: Attention.EXACT_COVARIANCE,
    FUSED_SCALES: Attention.EXACT_SCALES,
}


class MapSpec(NamedTuple):
    """One way to draw an anomaly map: attention at a layer, a baseline, or both of them fused."""

    source: str  # a value of `Attention`, one of `BASELINES`, or one of `ATTENTION_PART`
    layer: Layer | None = None  # target layer of attention

    def __str__(self) -> str:
        """The name in checkpoints and reports, such as `diff_mahal@layer4`."""
        return f"{self.source}@{self.layer}" if self.layer else self.source

    @property
    def is_fused(self) -> bool:
        """Whether the map is a sum of others."""
        return self.source in ATTENTION_PART

    @property
    def is_halved(self) -> bool:
        """Whether anomalous regions end halfway up to their highest pixel, if not before.

        In maps in units of logarithms: a distance is squared, and half of it far inside.
        """
        return self.is_fused

    @property
    def has_latents(self) -> bool:
        """Whether the map, or its attention part, is a mean of one map for each latent."""
        source = self.parts[0].source
        return source not in BASELINES and Attention(source) not in SUMMED

    @property
    def parts(self) -> tuple["MapSpec", ...]:
        """The maps that this one is made of; itself, where it is none of the fused."""
        if not self.is_fused:
            return (self,)
        attention = MapSpec(ATTENTION_PART[self.source].value, self.layer)
        return attention, MapSpec(APPEARANCE), MapSpec(CONTEXT), MapSpec(RECONSTRUCTION)


def parts_of(specs: Iterable[MapSpec]) -> list[MapSpec]:
    """The maps that have to be drawn for others, each once."""
    return list(dict.fromkeys(part for spec in specs for part in spec.parts))


def fuse_with(attention: MapSpec) -> MapSpec:
    """The fused map whose attention is of this definition.

    Raises:
        ConfigError: only the exact definitions are fused.
    """
    for source, part in ATTENTION_PART.items():
        if attention.source == part:
            return MapSpec(source, attention.layer)
    raise ConfigError(f"{attention.source} is not fused; use {', '.join(ATTENTION_PART.values())}")


def map_specs(config: OneClassConfig) -> list[MapSpec]:
    """Every map that a model of this shape can draw; `exact` needs a pooled last activation."""
    last = config.layers[-1]
    exact = EXACT if config.is_pooled else frozenset()
    if not config.has_covariance:
        exact -= {Attention.EXACT_COVARIANCE}
    if not config.has_scales:
        exact -= {Attention.EXACT_SCALES}
    specs = [
        MapSpec(attention.value, layer)
        for layer in config.layers
        for attention in Attention
        if attention not in EXACT or (attention in exact and layer == last)
    ]
    fused = [MapSpec(source, last) for source, part in ATTENTION_PART.items() if part in exact]
    return [*specs, *(MapSpec(source) for source in BASELINES), *fused]


def parse_map_spec(text: str, config: OneClassConfig) -> MapSpec:
    """The inverse of `str(spec)`.

    Raises:
        ConfigError: a model of this shape has no such map.
    """
    specs = map_specs(config)
    for spec in specs:
        if str(spec) == text:
            return spec
    raise ConfigError(f"no anomaly map {text}; this model has {', '.join(map(str, specs))}")


def candidate_maps(
    config: OneClassConfig, attention: Attention | None = None, layer: Layer | None = None
) -> list[MapSpec]:
    """The maps of attention that agree with what the user named; the layer is the last by default.

    Raises:
        ConfigError: a model of this shape has no such map.
    """
    chosen = layer or config.layers[-1]
    if attention is not None:
        return [parse_map_spec(str(MapSpec(attention.value, chosen)), config)]
    specs = [spec for spec in map_specs(config) if spec.layer == chosen and not spec.is_fused]
    if not specs:
        raise ConfigError(f"no layer {chosen}; this model has {', '.join(config.layers)}")
    return specs
