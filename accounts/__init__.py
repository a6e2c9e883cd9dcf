"""Who works here and what they may touch."""
