#!/bin/bash
# SFT on several nodes under Slurm. Fill in the partition, the environment, DATA and OUT, then `sbatch` this file from the
# checkout. A job that Slurm stops and queues again goes on from its last checkpoint.
#SBATCH --job-name=mirror-sft
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

source .venv/bin/activate
STUDENT=${STUDENT:-llama-3.2-3b}
GPUS=${SLURM_GPUS_ON_NODE:-8}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# SLURM_PROCID is each node's own, so it is read there. OUT must lie on a file system that all nodes see.
srun --kill-on-bad-exit=1 bash -c "accelerate launch \
  --config_file recipes/accelerate_configs/fsdp2.yaml \
  --num_machines $SLURM_NNODES --num_processes $((SLURM_NNODES * GPUS)) --machine_rank \$SLURM_PROCID \
  --main_process_ip $HEAD --main_process_port 29500 --rdzv_backend c10d \
  recipes/sft.py --config recipes/$STUDENT/sft.yaml --dataset $DATA --output_dir $OUT --resume_from_checkpoint true"
