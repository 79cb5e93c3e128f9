"""What is measured, one module a goal: each runs its works in turn and returns its goals."""
