"""Loops over memory, one package for each kind of machine."""
