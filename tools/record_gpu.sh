#!/usr/bin/env bash
# What a GPU computes, how fast and in how much memory, ours beside effdet's: a record for each piece, in a folder.
#
#   tools/record_gpu.sh FOLDER
#
# The order is that of what is wanted most, and ten minutes are the limit of a run (IN_ALL seconds), two and a half that of
# a piece (OF_ONE). Run it again to go on: a piece whose record is there is not made again. A piece that fails, or is cut
# off, is named, and the next one is begun; the exit status is 1 then. Weights are random, of which the time does not
# depend, or those of the small detector that ships with effconv: nothing is downloaded.
#
# DEVICE=cpu PRECISIONS=float32 MODELS=config.json tries the script out on a small model of your own.
set -u
folder=${1:?name a folder for the records}
shapes=$(dirname "$0")/../examples/shapes
device=${DEVICE:-cuda}
read -r -a precisions <<< "${PRECISIONS:-bfloat16 float32 tf32}"
read -r -a models <<< "${MODELS:-d0 d1 d5}"
deadline=$((SECONDS + ${IN_ALL:-590}))
of_one=${OF_ONE:-150}
failed=()
mkdir -p "$folder"

# piece NAME WORDS...: the record that `effconv WORDS... --json` prints.
piece() {
  local name=$1 left=$((deadline - SECONDS))
  shift
  [ -s "$folder/$name.json" ] && return
  if [ "$left" -le 5 ]; then
    failed+=("$name (no time left)")
    return
  fi
  echo "== $name"
  if timeout "$((left < of_one ? left : of_one))" effconv "$@" --json > "$folder/$name.part" 2> "$folder/$name.txt"; then
    mv "$folder/$name.part" "$folder/$name.json"
  else
    failed+=("$name (status $?)")
  fi
}

# The batches of a model, and the size it is trained at.
batches() { case $1 in d5) echo 8 ;; *) echo 1 32 ;; esac; }
size() { case $1 in d1) echo 640x640 ;; d5) echo 1280x1280 ;; *) echo 512x512 ;; esac; }

[ "$device" = cpu ] || nvidia-smi > "$folder/device.txt" 2>&1 || failed+=("device (no nvidia-smi)")

for engine in eager fast compile; do
  piece "parity-$engine" parity --engine "$engine" --device "$device"
done
effconv shapes -o "$folder/shapes" --size 120x144 --images 64 --seed 3 --split val2017 > "$folder/shapes.txt" 2>&1
for engine in eager fast; do
  piece "eval-$engine" eval --coco "$folder/shapes" --model "$shapes/config.json" --ckpt "$shapes/model" --batch 32 \
    --device "$device" --engine "$engine"
done
for model in "${models[@]}"; do
  for precision in "${precisions[@]}"; do
    for batch in $(batches "$model"); do
      name=$(basename "$model" .json)-$batch-$precision
      on=(--model "$model" --batch "$batch" --device "$device" --precision "$precision" --rounds 5)
      piece "inference-$name" bench inference "${on[@]}" --engines eager,fast --peers effdet
      piece "training-$name" bench training "${on[@]}" --size "$(size "$model")" --peers effdet
    done
  done
done
# Compiled last, for compiling takes longer than all the rest; by CUDA graphs where the device is CUDA's.
for model in "${models[@]}"; do
  for precision in "${precisions[@]}"; do
    for batch in $(batches "$model"); do
      name=$(basename "$model" .json)-$batch-$precision
      on=(--model "$model" --batch "$batch" --device "$device" --precision "$precision" --rounds 5)
      piece "compiled-$name" bench inference "${on[@]}" --engines fast,compile --peers effdet
    done
  done
done

[ "${#failed[@]}" -eq 0 ] && exit 0
printf 'failed: %s\n' "${failed[@]}" | tee "$folder/failed.txt" >&2
exit 1
