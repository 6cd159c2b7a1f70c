"""The sweep's arithmetic against the plain loop of scikit-learn calls that the protocol implies."""
