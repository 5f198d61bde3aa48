"""Whatever anybody sends: a sentence, a code, and everyone else is served."""
