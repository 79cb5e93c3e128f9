"""A stand-in for the data provider, real sample bars to feed it, and the demonstration that uses both."""
