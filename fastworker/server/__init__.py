"""The control plane in Trio: a nursery that lists every service, a loop that touches the core."""
