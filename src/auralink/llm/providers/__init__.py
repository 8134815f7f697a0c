"""One file for each wire format. A provider translates; it opens no connection and knows no user."""
