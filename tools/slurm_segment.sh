#!/usr/bin/env bash
# Segments a folder of scans as a Slurm array, each task a part of them, on folders that all nodes share:
#
#   sbatch --array=1-8 tools/slurm_segment.sh BUNDLE SCANS MASKS [options of medfm3d segment]
#
# To give it to certain nodes, or several cores or a GPU to each task, say so to sbatch: --partition, --cpus-per-task=8,
# --gres=gpu:1. A task that ran out of time or memory goes on where it was: submit the same line again, or only that part,
# with the number of all parts, by SHARDS=8 sbatch --array=3 ... (numbers start at 1).
#SBATCH --job-name=medfm3d
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=medfm3d_%A_%a.log
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: sbatch --array=1-N $0 BUNDLE SCANS MASKS [options of medfm3d segment]" >&2
    exit 2
fi
bundle="$1" scans="$2" masks="$3"
shift 3
shard="${SLURM_ARRAY_TASK_ID:?submit it with --array=1-N}/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec medfm3d segment --bundle "$bundle" --input "$scans" --output "$masks" --shard "$shard" "$@"
