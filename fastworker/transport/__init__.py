"""The Trio side of a connection: one WebSocket, one reader, one writer that batches."""
