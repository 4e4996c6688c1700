#!/bin/sh
#SBATCH -n 8 --oops
#SBATCHx
true
