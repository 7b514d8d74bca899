#!/bin/sh
# Add PyTorch to the virtual environment of install.sh: install-torch.sh FOLDER [cpu|cuda|1]
# 1 (the default) takes the build for CUDA where there is an NVIDIA GPU, and that for CPUs elsewhere.
set -eu
folder=$1
kind=${2:-1}
version=2.13.0

case $kind in
cpu | cuda) ;;
1) if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then kind=cuda; else kind=cpu; fi ;;
*)
  echo "install-torch: error: TORCH=$kind: expected 1, cpu or cuda" >&2
  exit 2
  ;;
esac

pip() {
  "$folder/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
rm -f "$folder/torch"
echo "install-torch: PyTorch $version for $kind into $folder"
if [ "$kind" = cpu ]; then
  # PyPI's build brings gigabytes of CUDA; this index has builds without. pip also looks where it is told to find links.
  pip install --retries 1 --timeout 30 --extra-index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu"
else
  pip install "torch==$version"
fi || {
  echo "install-torch: error: PyTorch could not be installed; see the lines above. Everything but engine=torch works without it" >&2
  exit 2
}
"$folder/bin/python" -c 'import torch; print("install-torch: PyTorch", torch.__version__)'
touch "$folder/torch"
