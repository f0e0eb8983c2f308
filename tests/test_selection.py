"""The map is chosen by synthetic defects in held-out normal images, never by a label."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import Trained
from sklearn.metrics import roc_auc_score

from anomaly_cli import recording, selection
from anomaly_cli.checkpoint import load_model
from anomaly_cli.config.names import Guidance
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.defects import DefectKind, DefectPainter
from anomaly_cli.data.mvtec import split_normal, training_images
from anomaly_cli.data.normal import NormalImages, to_tensor
from anomaly_cli.data.painted import MAX_VALIDATION, PaintedImage, draw_validation
from anomaly_cli.data.training_set import open_training_set
from anomaly_cli.drawing import MapMaker
from anomaly_cli.fusion import MapSettings
from anomaly_cli.maps import MapSpec, candidate_maps
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import pixel_metrics
from anomaly_cli.selection import select_map
from models.config import VAEConfig


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
    images.paths *= 20
    images._cache *= 20  # type: ignore[operator]
    assert len(validation_of(images)) == 2 * MAX_VALIDATION


def test_the_best_on_drawn_defects_is_chosen(trained: Trained) -> None:
    """Recomputed by hand for one candidate, and the maximum over all of them."""
    loaded = load_model(trained.model)
    record = loaded.record
    maker = MapMaker(loaded.vae, record.statistics, 64, torch.device("cpu"))
    validation = validation_of(held_out_images(trained))
    candidates = candidate_maps(record.model)
    settings = [MapSettings(), MapSettings(2.0)]
    selected = select_map(maker, candidates, settings, validation, batch_size=5)
    chosen = f"{selected.spec}, smoothing {selected.settings.smoothing:g} px"
    assert len(selected.reached) == 2 * len(candidates)
    best = max(pixels + images for pixels, images in selected.reached.values())
    assert sum(selected.reached[chosen]) == best
    spec = MapSpec("gradcam", "layer4")
    for setting in settings:
        maker.settings = setting
        counts, maxima = ExactCounts(), []
        for image in validation:
            drawn = maker(to_tensor(image.painted[None].copy()), [spec])[spec][0]
            counts.update(drawn.numpy(), image.mask)
            maxima.append(float(drawn.max()))
        labels = [image.mask.any() for image in validation]
        expected = (pixel_metrics(counts.ranking()).pixel_auroc, roc_auc_score(labels, maxima))
        name = f"gradcam@layer4, smoothing {setting.smoothing:g} px"
        np.testing.assert_allclose(selected.reached[name], expected, atol=1e-3)


def test_a_favoured_map_is_taken_unless_another_is_clearly_better(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a margin of 0 it has to be the best; with one of 1 any is taken, as it suits it best."""
    loaded = load_model(trained.model)
    maker = MapMaker(loaded.vae, loaded.record.statistics, 64, torch.device("cpu"))
    validation = validation_of(held_out_images(trained))
    candidates = candidate_maps(loaded.record.model)
    settings = [MapSettings(), MapSettings(2.0)]
    plain = select_map(maker, candidates, settings, validation, batch_size=5)
    other = next(spec for spec in candidates if spec.source[:5] != plain.spec.source[:5])
    for margin, expected in ((0.0, plain.spec), (1.0, other)):
        monkeypatch.setattr(selection, "MARGIN", margin)
        chosen = select_map(maker, candidates, settings, validation, batch_size=5, favoured=[other])
        assert chosen.spec == expected
        own = {n: v.mean for n, v in chosen.reached.items() if n.startswith(f"{chosen.spec},")}
        name = f"{chosen.spec}, smoothing {chosen.settings.smoothing:g} px"
        assert own[name] == max(own.values())


def test_the_model_file_tells_how_its_map_was_chosen(trained: Trained) -> None:
    record = load_model(trained.model).record
    reached = record.training["map_selection"]
    names = {f"{spec}, smoothing 0 px" for spec in candidate_maps(record.model)}
    assert set(reached) == names
    best = max(reached, key=lambda name: sum(reached[name].values()))
    assert f"{record.default_map}, smoothing 0 px" == best


@pytest.mark.parametrize(
    ("guidance", "half_size", "expected"),
    [
        ("synthetic", 0.5, ["fused_scales@neck"]),
        ("synthetic", 0.0, ["fused_covariance@neck"]),
        ("none", 0.0, []),
    ],
)
def test_a_guided_model_favours_the_fused_map_of_the_sizes_that_it_saw(
    monkeypatch: pytest.MonkeyPatch,
    trained: Trained,
    guidance: Guidance,
    half_size: float,
    expected: list[str],
) -> None:
    """Drawn defects flatter attention, which has learned from them."""
    favoured: list[str] = []

    def record(*_arguments: object, **options: Any) -> None:
        favoured.extend(map(str, options["favoured"]))

    monkeypatch.setattr(recording, "select_map", record)
    monkeypatch.setattr(recording, "_settings", lambda *_arguments: [MapSettings()])
    model = VAEConfig(image_size=64, latent_dim=4, neck="fpn")
    config = TrainConfig(
        data=trained.data, category="disc", model=model, guidance=guidance, half_size=half_size
    )
    recording._select(None, open_training_set(config), config)  # type: ignore[arg-type]
    assert favoured == expected
