"""How to run lorastyle on machines of others: configurations, an image, and their check.

Not part of the wheel. `python -m cluster.validate` checks the files without a network.
"""
