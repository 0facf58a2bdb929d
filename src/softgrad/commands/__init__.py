"""What the commands share: parsers of options, reports, a progress bar, units, the machine."""
