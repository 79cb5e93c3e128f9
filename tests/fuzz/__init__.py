"""Bad input: whatever comes from outside ends in a sound result or in an error of this project, and changes nothing else."""
