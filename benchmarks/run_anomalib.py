"""Fit and predict with anomalib, in its own environment, for `benchmarks/others.py`.

    ENVIRONMENT/bin/python benchmarks/run_anomalib.py padim NORMAL IMAGES RESULTS

Weights are random, since only speed is compared and none are fetched. Prints one line of JSON: the
seconds that the import, the fit and the prediction took. Predictions are written as pictures.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Fit on the folder NORMAL, and predict the folder IMAGES."""
    name, normal, images, results = sys.argv[1:]
    start = time.perf_counter()
    from anomalib.data import FolderDataset, PredictDataset
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore
    from torch.utils.data import DataLoader

    imported = time.perf_counter()
    if name == "padim":
        model = Padim(pre_trained=False)
    else:  # a coreset of 2%, as the default of 10% takes several times as long
        model = Patchcore(pre_trained=False, coreset_sampling_ratio=0.02)
    parts = FolderDataset("parts", normal_dir=Path(normal), split="train")
    engine = Engine(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=results
    )
    engine.fit(
        model,
        train_dataloaders=DataLoader(
            parts, batch_size=32, shuffle=True, collate_fn=parts.collate_fn
        ),
    )
    fitted = time.perf_counter()
    dataset = PredictDataset(Path(images))
    loader = DataLoader(dataset, batch_size=16, collate_fn=dataset.collate_fn)
    engine.predict(model, dataloaders=loader)
    end = time.perf_counter()
    times = {"import": imported - start, "fit": fitted - imported, "predict": end - fitted}
    print("TIMES", json.dumps(times))


if __name__ == "__main__":
    main()
