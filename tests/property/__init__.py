"""Random catalogues, contexts and histories against the reference: never one difference.

`make drill ONLY=rules` is the long form of these tests.
"""
