#!/bin/sh
# Make the figures of docs/engines.md on a GPU: bench/gpu.sh [OUT] [DEVICE]. With DEVICE=cpu:0 it runs in a small form, which
# tests that it works and says nothing of a GPU. Needs a checkout with `make install TORCH=1`. PEAK_TFLOPS=989 (of an H100 in
# bfloat16) adds the share of the device's peak. A part that fails is named at the end, and the others run.
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
device=${2:-cuda:0}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
failed=""

# part NAME COMMAND...: run a command, and keep what it prints in OUT/NAME.txt
part() {
  name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" >"$out/$name.txt" 2>&1 || failed="$failed $name"
  cat "$out/$name.txt"
}

# train_with COUNT SETTING...: a run of the demo's recipe on drawn faces by several workers
train_with() {
  count=$1
  shift
  "$python" -m torch.distributed.run --nproc-per-node "$count" -m vargfacenet train demo_student_scratch --engine torch \
    --device "${device%%:*}" --data "$out/faces" --set save_every=1000 verify_every=1000 "$@" --out "$out/scaling-$count"
}

part doctor "$python" -m vargfacenet doctor
part machine "$python" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda, [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])'
if command -v nvidia-smi >/dev/null 2>&1; then part nvidia-smi nvidia-smi; fi

rm -rf "$out/faces" "$out"/scaling-*
case $device in
cuda*)
  part tests "$python" -m pytest tests/torch -q -m gpu
  part training "$python" -m vargfacenet.torch.measure --device "$device" --batch 128 256 512 --rounds 5 --updates 20 \
    --profile "$out/profile.txt" ${PEAK_TFLOPS:+--peak-tflops "$PEAK_TFLOPS"} --json "$out/training.json"
  gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
  if [ "$gpus" -gt 1 ]; then
    part faces "$python" -m vargfacenet data synth "$out/faces" --images-per-identity $((20 + 4 * gpus))
    for count in 1 "$gpus"; do
      part "scaling-$count" train_with "$count" network=vargfacenet multiplier=1.25 units=3,7,4 batch_size=$((512 * count)) \
        max_updates=100 precision=bfloat16 channels_last=true
    done
  fi
  if command -v ncu >/dev/null 2>&1; then
    part ncu ncu --target-processes all --launch-skip 2000 --launch-count 200 --csv \
      --metrics gpu__time_duration.sum,dram__bytes.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed \
      "$python" -m vargfacenet.torch.measure --device "$device" --batch 512 --rounds 1 --updates 3 --forms bf16
  fi
  ;;
*)
  part tests "$python" -m pytest tests/torch/test_checkpoint.py -q -k agree
  part training "$python" -m vargfacenet.torch.measure --device "$device" --batch 4 --rounds 2 --updates 1 --identities 1000 \
    --set multiplier=0.25 units=1,1,1 --no-compile --profile "$out/profile.txt" --json "$out/training.json"
  part faces "$python" -m vargfacenet data synth "$out/faces" --identities 4 --images-per-identity 4
  for count in 1 2; do
    part "scaling-$count" train_with "$count" units=1,1,1 batch_size=$((4 * count)) max_updates=2 warmup_updates=1
  done
  ;;
esac
if [ -n "$failed" ]; then
  printf '\nfailed:%s (what they said is in %s/NAME.txt)\n' "$failed" "$out"
  exit 1
fi
printf '\ndone: %s\n' "$out"
