"""Kafka's record batches, decoded so that no record and no batch can stop whoever reads a topic.

aiokafka raises for a record that it cannot decode, at each poll anew, and decompresses a batch as a whole. Here the
records around it are returned, it is reported by its offset, and a batch is decompressed piece by piece.
"""
