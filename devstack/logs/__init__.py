"""One store for all output of a stack: written by the keeper, read straight from files by everything else."""
