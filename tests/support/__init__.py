"""What several tests need: real processes to start, watch and kill."""
