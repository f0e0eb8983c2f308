#!/usr/bin/env bash
# The main job on a small data set made from a real photograph: sample, train, localize, evaluate.
# Usage: demo.sh BIN FOLDER, with BIN the folder of anomaly-cli and FOLDER the place to write to.
set -euo pipefail
cli="$1/anomaly-cli"
folder="$2"

if [ -e "$folder" ]; then
    echo "$folder is there already; remove it first, or name another: make demo DEMO=other" >&2
    exit 5
fi

# Brick is an aligned part: one place of a wall, photographed 80 times.
"$cli" sample "$folder/data" --category brick --image-size 128 --count 80
"$cli" train --data "$folder/data" --output "$folder/runs" --image-size 128 --epochs 30

# Where the images depart from normal: attention, appearance, context and error, as the model has chosen.
"$cli" localize "$folder/runs/brick" "$folder/data/brick/test" --output "$folder/results"
# What the latents say: which one looks where, and what it stands for.
"$cli" explain "$folder/runs/brick" "$folder"/data/brick/test/*/000.png --output "$folder/explanation"

echo "The map that the model has chosen, as localized above. These defects are drawn by the code that training"
echo "learns from, so the figures flatter; docs/accuracy.md has those of real defects:"
"$cli" evaluate --data "$folder/data" --runs "$folder/runs" --output "$folder/report"
echo "The reconstruction error of the same model alone, in standard deviations per position:"
"$cli" evaluate --data "$folder/data" --runs "$folder/runs" --output "$folder/report-reconstruction" \
    --map reconstruction --scores position

cat <<MESSAGE

Look at
  $folder/results/overlays/            where each test image departs from normal
  $folder/results/masks/               the same as binary masks
  $folder/explanation/explain.png      which latents deviate, and where they look
  $folder/report/report.html           the first table with curves, intervals, misses and false alarms
MESSAGE
