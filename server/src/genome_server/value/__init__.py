"""What showing an offer is worth: margins, depths of discount, saturation, whom it moves."""
