"""Token vectors: encoding, MaxSim, and stores of document embeddings."""
