"""`recurate init`: a commented configuration to begin with."""
