"""The map is chosen by synthetic defects in held-out normal images, never by a label."""

import numpy as np
import torch
from conftest import Trained

from anomaly_cli.checkpoint import load_model
from anomaly_cli.data.mvtec import split_normal, training_images
from anomaly_cli.data.normal import NormalImages, to_tensor
from anomaly_cli.maps import MapMaker, MapSpec, candidate_maps
from anomaly_cli.metrics.counts import ExactCounts
from anomaly_cli.metrics.detection import pixel_metrics
from anomaly_cli.selection import MAX_IMAGES, select_map, synthetic_pairs


def held_out_images(trained: Trained) -> NormalImages:
    """Three normal images of `disc`."""
    paths = training_images(trained.data, "disc")
    return NormalImages(split_normal(paths, held_out=0.3, seed=0).held_out, 64)


def test_pairs_use_every_image_and_kind_and_repeat_by_seed(trained: Trained) -> None:
    """Three images and four kinds give twelve pairs, none alike; the mask is what changed."""
    images = held_out_images(trained)
    pairs = list(synthetic_pairs(images, seed=0))
    assert len(pairs) == 12
    assert len({image.tobytes() for image, _mask in pairs}) == 12
    for number, (image, mask) in enumerate(pairs):
        changed = (image != images.plain(number % 3)).any(axis=2)
        np.testing.assert_array_equal(mask, changed)
    again = list(synthetic_pairs(images, seed=0))
    assert all((a[0] == b[0]).all() for a, b in zip(pairs, again, strict=True))
    assert any(
        (a[0] != b[0]).any() for a, b in zip(pairs, synthetic_pairs(images, seed=1), strict=True)
    )
    images.paths *= 20
    images._cache *= 20  # type: ignore[operator]
    assert len(list(synthetic_pairs(images, seed=0))) == MAX_IMAGES


def test_the_best_on_synthetic_defects_is_chosen(trained: Trained) -> None:
    """Recomputed by hand for one candidate, and the maximum over all of them."""
    loaded = load_model(trained.model)
    record = loaded.record
    maker = MapMaker(loaded.vae, record.statistics, 64, torch.device("cpu"))
    images = held_out_images(trained)
    candidates = candidate_maps(record.model)
    selected = select_map(maker, candidates, images, seed=0, batch_size=5)
    assert selected.pixel_auroc[str(selected.spec)] == max(selected.pixel_auroc.values())
    counts, spec = ExactCounts(), MapSpec("gradcam", "layer4")
    for image, mask in synthetic_pairs(images, seed=0):
        counts.update(maker(to_tensor(image[None].copy()), [spec])[spec][0].numpy(), mask)
    expected = pixel_metrics(counts.ranking()).pixel_auroc
    np.testing.assert_allclose(selected.pixel_auroc[str(spec)], expected, atol=1e-3)


def test_the_model_file_tells_how_its_map_was_chosen(trained: Trained) -> None:
    record = load_model(trained.model).record
    reached = record.training["map_selection"]
    assert set(reached) == {str(spec) for spec in candidate_maps(record.model)}
    assert record.default_map == max(reached, key=reached.get)
