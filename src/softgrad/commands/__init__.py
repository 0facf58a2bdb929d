"""What the commands have in common: their options, how they tell of progress, numbers and the machine."""
