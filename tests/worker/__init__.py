"""Tests of the subworker."""
