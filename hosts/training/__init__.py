"""What all students of core's networks need: network, gradients (recomputed blocks), encoder, fit,
progress, weights_digest."""
