"""`recurate serve`: people pick."""
