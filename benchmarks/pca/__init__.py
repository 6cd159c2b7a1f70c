"""PCA of a store on disk against its peers and against what the machine can do."""
