"""What could be better about maps: programs are interpreted, rules look at what was found."""
