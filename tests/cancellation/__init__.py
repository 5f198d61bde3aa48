"""Cancelled at each of its checkpoints, every public coroutine leaves things as they were."""
