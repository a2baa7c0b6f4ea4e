"""From data sets to the import formats of `genome-server import`.

Each adapter writes a folder of files named after the kind of row in them
(`customers.csv`, `places.jsonl` ...) and says how many rows went in and out.
"""
