"""Real processes, killed at random moments under load; two ledgers tell what became of the jobs."""
