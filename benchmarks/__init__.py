"""Measurements that stand behind the numbers in the documents; each prints its own verdict."""
