#!/usr/bin/env bash
# Training steps on a GPU, ours beside effdet's, and detections found there: records in a folder, in ten minutes at most.
#
#   tools/record_gpu.sh FOLDER [COCO]
#
# COCO is a folder as COCO 2017 unpacks; without it no detections are made. A step that fails is named and the next one is
# begun; the exit status is 1 then. Networks alone are not measured: `bench inference` and `parity --engine` run on CPUs.
set -u
folder=${1:?name a folder for the records}
coco=${2:-}
mkdir -p "$folder"
deadline=$((SECONDS + 590))
failed=()

# Run a step, with what is left of the ten minutes and no more than two of them.
step() {
  local name=$1 left=$((deadline - SECONDS))
  shift
  if [ "$left" -le 5 ]; then
    failed+=("$name (no time left)")
    return
  fi
  echo "== $name"
  timeout "$((left < 120 ? left : 120))" "$@" > "$folder/$name.txt" 2>&1 || failed+=("$name (status $?)")
}

nvidia-smi > "$folder/device.txt" 2>&1 || failed+=("device (no nvidia-smi)")
# cuDNN's convolutions are in TF32 unless NVIDIA_TF32_OVERRIDE=0 forbids it: float32 is float32 then.
export NVIDIA_TF32_OVERRIDE=0
step d0-1-float32 effconv bench training --model d0 --batch 1 --device cuda --peers effdet --record "$folder/d0-1-float32.json" --force
step d0-32-float32 effconv bench training --model d0 --batch 32 --device cuda --peers effdet --record "$folder/d0-32-float32.json" --force
step d1-1-float32 effconv bench training --model d1 --size 640x640 --batch 1 --device cuda --peers effdet --record "$folder/d1-1-float32.json" --force
step d1-32-float32 effconv bench training --model d1 --size 640x640 --batch 32 --device cuda --peers effdet --record "$folder/d1-32-float32.json" --force
unset NVIDIA_TF32_OVERRIDE
step d0-32-tf32 effconv bench training --model d0 --batch 32 --device cuda --peers effdet --record "$folder/d0-32-tf32.json" --force
step d1-32-tf32 effconv bench training --model d1 --size 640x640 --batch 32 --device cuda --peers effdet --record "$folder/d1-32-tf32.json" --force
step d0-32-bfloat16 effconv bench training --model d0 --batch 32 --device cuda --precision bfloat16 --peers effdet --record "$folder/d0-32-bfloat16.json" --force
step d1-32-bfloat16 effconv bench training --model d1 --size 640x640 --batch 32 --device cuda --precision bfloat16 --peers effdet --record "$folder/d1-32-bfloat16.json" --force
step d5-8-bfloat16 effconv bench training --model d5 --size 1280x1280 --batch 8 --rounds 3 --device cuda --precision bfloat16 --peers effdet --record "$folder/d5-8-bfloat16.json" --force
if [ -n "$coco" ]; then
  export NVIDIA_TF32_OVERRIDE=0
  for engine in eager fast; do
    step "eval-$engine" effconv eval --coco "$coco" --model d0 --limit 64 --batch 32 --device cuda --engine "$engine" --detections "$folder/eval-$engine.detections.json" --force
  done
fi

[ "${#failed[@]}" -eq 0 ] && exit 0
printf 'failed: %s\n' "${failed[@]}" | tee "$folder/failed.txt" >&2
exit 1
