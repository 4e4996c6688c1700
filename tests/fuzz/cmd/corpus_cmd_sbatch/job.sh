#!/bin/bash -l
#SBATCH --job-name="a b" # name
#SBATCH -N2 
#SBATCH --gres=gpu:h100:8
#SBATCH --time=1-02:03:04
#SBATCH --mem-per-cpu 2G
#SBATCH --requeue
srun true
