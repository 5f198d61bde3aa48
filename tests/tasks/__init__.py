"""Tests of fastworker.tasks."""
