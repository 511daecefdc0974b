"""What passes share to look at IR and to change it."""
