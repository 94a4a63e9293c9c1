"""apt's and dpkg's texts: strings in and out, nothing is run here."""
