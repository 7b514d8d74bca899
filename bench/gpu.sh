#!/bin/sh
# Make the figures of docs/engines.md on a GPU: bench/gpu.sh [OUT] [DEVICE]. With DEVICE=cpu:0 it runs in a small form, which
# tests that it works and says nothing of a GPU. Needs a checkout with `make install TORCH=1`.
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
device=${2:-cuda:0}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

say() { printf '\n== %s\n' "$1"; }

say "machine"
"$python" -m vargfacenet doctor | tee "$out/doctor.txt" || true
"$python" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda, [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])' | tee "$out/machine.txt"
if command -v nvidia-smi >/dev/null 2>&1; then nvidia-smi | tee -a "$out/machine.txt"; fi

say "tests on the device"
case $device in
cuda*) "$python" -m pytest tests/torch -q -m gpu | tee "$out/tests.txt" ;;
*) "$python" -m pytest tests/torch/test_checkpoint.py -q -k agree | tee "$out/tests.txt" ;;
esac

say "training: precision, layout, compilation, batch"
case $device in
cuda*) "$python" -m vargfacenet.torch.measure --device "$device" --batch 128 256 512 --rounds 5 --updates 20 --json "$out/training.json" ;;
*) "$python" -m vargfacenet.torch.measure --device "$device" --batch 4 --rounds 2 --updates 1 --identities 1000 --set multiplier=0.25 units=1,1,1 --no-compile --json "$out/training.json" ;;
esac

case $device in
cuda*)
  gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
  if [ "$gpus" -gt 1 ]; then
    say "scaling over $gpus GPUs"
    for count in 1 "$gpus"; do
      "$python" -m torch.distributed.run --nproc-per-node "$count" -m vargfacenet train demo_student_scratch --engine torch \
        --device cuda --set network=vargfacenet multiplier=1.25 units=3,7,4 batch_size=$((512 * count)) max_updates=100 \
        precision=bfloat16 channels_last=true save_every=1000 verify_every=1000 --out "$out/scaling-$count" | tee "$out/scaling-$count.txt"
    done
  fi
  if command -v ncu >/dev/null 2>&1; then
    say "kernels"
    ncu --target-processes all --launch-skip 2000 --launch-count 200 --csv --metrics gpu__time_duration.sum,dram__bytes.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed \
      "$python" -m vargfacenet.torch.measure --device "$device" --batch 512 --rounds 1 --updates 3 --forms bf16 --json "$out/ncu.json" >"$out/ncu.csv" || true
  fi
  ;;
esac
say "done: $out"
