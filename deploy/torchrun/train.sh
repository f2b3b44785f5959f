#!/usr/bin/env bash
# The same run on every host, with the host's number and the address of host 0 in front:
#   host0$ deploy/torchrun/train.sh 0 host0:29500 shop.toml --out /shared/runs/shop
#   host1$ deploy/torchrun/train.sh 1 host0:29500 shop.toml --out /shared/runs/shop
# HOSTS is the number of hosts (2), RANKS_PER_HOST the number of ranks on each (default: one per GPU).
# --out must be on a disk shared by all hosts. Started again, the run resumes from its last checkpoint.
set -euo pipefail
if (( $# < 3 )); then
    echo "usage: $0 HOST_NUMBER HOST0:PORT CONFIG.toml --out RUN [--set section.field=value ...]" >&2
    exit 2
fi
number=$1 first=$2
shift 2

# A checkpoint may take longer than the 30 s after which torchrun kills its ranks.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-240}
exec torchrun --nnodes "${HOSTS:-2}" --node-rank "$number" --nproc-per-node "${RANKS_PER_HOST:-gpu}" \
    --master-addr "${first%:*}" --master-port "${first##*:}" \
    -m protoclip train "$@" --resume
