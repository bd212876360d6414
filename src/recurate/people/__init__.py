"""People who pick: the database of ballots, the pages in a browser, and the loop that waits for them."""
