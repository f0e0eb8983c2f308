"""The map is chosen by synthetic defects in held-out normal images, never by a label."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import Trained
from sklearn.metrics import roc_auc_score

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.defects import DefectKind, DefectPainter
from anomaly_cli.data.mvtec import training_images
from anomaly_cli.detector.checkpoint import load_model
from anomaly_cli.detector.fusion import MapSettings
from anomaly_cli.detector.maps import MapSpec, candidate_maps
from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.metrics.detection import pixel_metrics
from anomaly_cli.metrics.images import rank_pixels, sort_pixels
from anomaly_cli.training.dataset import open_training_set
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.painted import MAX_VALIDATION, PaintedImage, draw_validation
from anomaly_cli.training.selection import choose_map, select_map
from anomaly_cli.training.split import split_normal
from models.config import Attention


def held_out_images(trained: Trained) -> NormalImages:
    """Three normal images of `disc`."""
    paths = training_images(trained.data, "disc")
    return NormalImages(split_normal(paths, held_out=0.3, seed=0).held_out, 64)


def validation_of(images: NormalImages, seed: int = 0) -> list[PaintedImage]:
    return draw_validation(images, DefectPainter([]), seed=seed)


def test_validation_uses_every_image_and_kind_and_repeats_by_seed(trained: Trained) -> None:
    """Three images of nine kinds: 27 defects, none alike, and the normal images themselves."""
    images = held_out_images(trained)
    validation = validation_of(images)
    painted, normal = validation[:27], validation[27:]
    assert len({image.painted.tobytes() for image in painted}) == 27
    assert [sum(i.kind is kind for i in painted) for kind in DefectKind] == [3] * 9
    for number, image in enumerate(painted):
        changed = (image.painted != images.plain(number % 3)).any(axis=2)
        np.testing.assert_array_equal(image.mask, changed)
    assert [image.kind for image in normal] == [None] * 3
    assert not any(image.mask.any() for image in normal)
    again, other = validation_of(images), validation_of(images, seed=1)
    assert all((a.painted == b.painted).all() for a, b in zip(validation, again, strict=True))
    assert any((a.painted != b.painted).any() for a, b in zip(validation, other, strict=True))
    many = NormalImages(20 * images.paths, 64)
    assert len(validation_of(many)) == 2 * MAX_VALIDATION


def test_the_best_map_on_synthetic_defects_is_chosen(trained: Trained) -> None:
    """Recomputed by hand for one candidate, and the maximum over all of them."""
    loaded = load_model(trained.model)
    record = loaded.record
    mapper = VAEMapper(loaded.network, record.statistics, 64, torch.device("cpu"))
    validation = validation_of(held_out_images(trained))
    candidates = candidate_maps(record.model)
    setting = mapper.settings = MapSettings(2.0)
    selected = select_map(mapper, candidates, setting, validation, batch_size=5)
    assert set(selected.scores) == {str(spec) for spec in candidates}
    best = max(pixels + images for pixels, images in selected.scores.values())
    assert sum(selected.scores[str(selected.spec)]) == best
    assert selected.settings == setting
    spec = MapSpec("gradcam", "layer4")
    pools, maxima = [], []
    for image in validation:
        anomaly_map = mapper(to_tensor(image.painted[None].copy()), [spec])[spec][0]
        pools.append(sort_pixels(anomaly_map, image.mask).pixels)
        maxima.append(float(anomaly_map.max()))
    labels = [image.mask.any() for image in validation]
    expected = (pixel_metrics(rank_pixels(pools)).pixel_auroc, roc_auc_score(labels, maxima))
    np.testing.assert_allclose(selected.scores["gradcam@layer4"], expected, atol=1e-3)


def test_the_model_file_holds_the_score_of_each_candidate(trained: Trained) -> None:
    record = load_model(trained.model).record
    scores = record.training["map_selection"]
    assert set(scores) == {str(spec) for spec in candidate_maps(record.model)}
    assert max(scores, key=lambda name: sum(scores[name].values())) == record.default_map


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["fused_memory@neck"]),
        ({"attention": Attention.EXACT_POSITION}, ["exact_position@neck"]),
        ({"layer": "stride8"}, ["gradcam@stride8", "paper@stride8", "official@stride8"]),
    ],
)
def test_a_guided_model_takes_the_fused_map_unless_attention_is_named(
    guided: Trained, options: dict[str, Any], expected: list[str]
) -> None:
    loaded = load_model(guided.model)
    config = TrainConfig(
        data=guided.data, category="disc", model=loaded.record.model, half_size=0.0, **options
    )
    mapper = VAEMapper(loaded.network, loaded.record.statistics, 64, torch.device("cpu"))
    chosen = choose_map(mapper, open_training_set(config), config)
    candidates = list(chosen.scores) or [str(chosen.spec)]
    assert candidates[: len(expected)] == expected
    assert str(chosen.spec) in candidates
    assert chosen.settings.smoothing == 0.5
