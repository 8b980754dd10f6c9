"""What a step was expected to do, held against what it did."""
