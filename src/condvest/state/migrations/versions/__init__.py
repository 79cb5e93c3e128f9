"""One file a step; names and numbers ascend."""
