"""`recurate view`: an index of the results in a folder."""
