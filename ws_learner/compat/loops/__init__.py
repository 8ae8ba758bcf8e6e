"""What the callbacks for other packages' training loops share."""
