#!/usr/bin/env bash
# The main job on a small data set made from real photographs: sample, train, localize, evaluate.
# Usage: demo.sh BIN FOLDER, with BIN the folder of anomaly-cli and FOLDER the place to write to.
set -euo pipefail
cli="$1/anomaly-cli"
folder="$2"

if [ -e "$folder" ]; then
    echo "$folder is there already; remove it first, or name another: make demo DEMO=other" >&2
    exit 5
fi

"$cli" sample "$folder/data" --category all --image-size 128 --count 60
"$cli" train --data "$folder/data" --output "$folder/runs" --image-size 128 --epochs 40
for category in brick grass gravel; do
    "$cli" localize "$folder/runs/$category" "$folder/data/$category/test" --output "$folder/results/$category"
done
"$cli" evaluate --data "$folder/data" --runs "$folder/runs" --output "$folder/report"

cat <<MESSAGE

Look at
  $folder/results/brick/overlays/   where each test image departs from normal
  $folder/results/brick/masks/      the same as binary masks
  $folder/report/report.json        the table above, for machines
MESSAGE
