"""The whole, as people meet it: the command line, the documents, other languages."""
