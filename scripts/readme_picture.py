"""Draw docs/figures/readme.png: image, overlay and mask of a scratch, a hole, a stain, a good part.

    python scripts/readme_picture.py FOLDER

The script runs the quick start of the README in FOLDER, which takes about ten minutes on two CPU
cores. A step whose result exists already is left out.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PICTURE = Path(__file__).parent.parent / "docs" / "figures" / "readme.png"
STEPS = {  # output of a step -> its command
    "data/sample": "sample data/sample --category brick --count 80",
    "runs/brick/model.safetensors": "train --data data/sample --category brick --fast",
    "results/manifest.jsonl": "localize runs/brick data/sample/brick/test --output results",
}
COLUMNS = {  # title -> test image, chosen so that the defect can be seen at this size
    "scratch": "scratch/006.png",
    "hole": "hole/000.png",
    "stain": "stain/005.png",
    "good part": "good/000.png",
}
ROWS = {"image": "data/sample/brick/test", "overlay": "results/overlays", "mask": "results/masks"}
TILE, GAP, LEFT, TOP = 200, 8, 84, 34  # pixels
INK, PAPER, EDGE = (36, 41, 47), (255, 255, 255), (140, 149, 159)
MAX_BYTES = 300_000


def run_quick_start(folder: Path) -> None:
    """Sample, train and localize in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for result, command in STEPS.items():
        if not (folder / result).exists():
            line = [sys.executable, "-P", "-m", "anomaly_cli", *command.split()]
            subprocess.run(line, cwd=folder, check=True)  # noqa: S603 (the commands above)


def draw_strip(folder: Path) -> Image.Image:
    """Draw one column for each test image, and one row for each picture of it."""
    size = LEFT + len(COLUMNS) * (TILE + GAP), TOP + len(ROWS) * (TILE + GAP)
    strip = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(20)
    for row, (name, pictures) in enumerate(ROWS.items()):
        top = TOP + row * (TILE + GAP)
        pen.text((LEFT - 10, top + TILE // 2), name, fill=INK, font=font, anchor="rm")
        for column, (title, image) in enumerate(COLUMNS.items()):
            left = LEFT + column * (TILE + GAP)
            with Image.open(folder / pictures / image) as picture:
                tile = picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
            strip.paste(tile, (left, top))
            pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=EDGE)
            if row == 0:
                pen.text((left + TILE // 2, 16), title, fill=INK, font=font, anchor="mm")
    return strip


def main() -> None:
    """Run the quick start and write the picture."""
    folder = Path(sys.argv[1])
    run_quick_start(folder)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw_strip(folder).quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{PICTURE} has {size:,} bytes; at most {MAX_BYTES:,} are allowed")


if __name__ == "__main__":
    main()
