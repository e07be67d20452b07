"""How good generated and reconstructed video is."""
