"""Models as files: what is wrong with one, which there are, which one the next release takes."""
