"""Compare runs of one storyboard by votes: votes (what a person chose, kept as JSON), elo (what the votes imply)."""
