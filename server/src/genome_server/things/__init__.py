"""The DNA of things: what products, offers, content and places are made of.

In the order in which data walks through the rooms::

    words      the lists of words that the rules know: claims, aromas, forms
    amounts    sizes and counts in a text, units normalised
    text       rules over text: which markers a text says
    settings   the sections `text`, `rarity` and `content` of dna.yaml
    rarity     how many products have a marker, and what that makes of its salience
    dna        all of it together: a document's DNA, each marker with where it comes from
    kept       which of it the genomes in the store were built under

All but `kept` is free of I/O. Import, build, live increments, learning and
releases ask `dna.Things`, by way of `genomes.dna.StoreDna`, and nothing else.
"""
