"""Models of one's own as files that devices take: from scikit-learn, LightGBM and PyTorch."""
