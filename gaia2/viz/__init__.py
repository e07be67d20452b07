"""Looking at multi-camera video: files, mosaics, box overlays and contact sheets, on numpy arrays."""
