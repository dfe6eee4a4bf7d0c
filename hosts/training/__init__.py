"""What all students of core's networks need: gradients (recomputed blocks), encoder, progress, weights_digest."""
