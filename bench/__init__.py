"""The benchmark: this project beside its peers and the floor, in one run (see README.md)."""
