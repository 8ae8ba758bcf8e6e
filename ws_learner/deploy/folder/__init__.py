"""A folder with everything that a deployed network needs: file, loader, example, facts."""
